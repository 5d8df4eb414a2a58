"""Suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

NAME_CHARS = 64
_CUTOFF = 0.6


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` most resembles; None where none comes near."""
    found = {text.lower(): text for text in known}
    matches = get_close_matches(name[:NAME_CHARS].lower(), found, 1, _CUTOFF)
    return found[matches[0]] if matches else None


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """What is wrong with an unknown name, with the nearest known one: `kind` is "field", "parameter" or the like."""
    near = nearest(name, known)
    text = f"Unknown {kind} `{name[:NAME_CHARS]}`."
    return text if near is None else f"{text} Did you mean `{near}`?"
