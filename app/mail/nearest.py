"""Suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

NAME_CHARS = 64
_CUTOFF = 0.6


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that most resembles `name`, or None if none is similar."""
    names = {text.lower(): text for text in known}
    matches = get_close_matches(name[:NAME_CHARS].lower(), names, 1, _CUTOFF)
    return names[matches[0]] if matches else None


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Describe an unknown name and suggest the nearest known one. `kind` is "field", "parameter" or the like."""
    near = nearest(name, known)
    text = f"Unknown {kind} `{name[:NAME_CHARS]}`."
    return text if near is None else f"{text} Did you mean `{near}`?"
