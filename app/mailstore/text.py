"""The words of stored mail: what a search by body or by whole text looks through."""

from __future__ import annotations

from app.mail.types import BodyPart
from app.mime.body import decode_body
from app.mime.fields import split_fields, unfold
from app.mime.words import decode_words

PART_LIMIT_BYTES = 1024 * 1024
"""How much of one text part is searched."""
PARTS_LIMIT = 50
"""How many text parts of one message are searched."""


def body_contains(content: bytes, structure: BodyPart, folded: str) -> bool:
    """Whether a text part of the message, attached messages' included, contains casefolded text."""
    parts = [part for part in structure.walk() if part.media_type.startswith("text/") and part.span is not None]
    return any(folded in _text(content, part) for part in parts[:PARTS_LIMIT])


def header_contains(block: bytes, folded: str, name: str | None = None) -> bool:
    """Whether a field's decoded value (with `name`: one of that name alone) contains casefolded text."""
    wanted = None if name is None else name.lower()
    fields = split_fields(block)
    return any(
        folded in decode_words(unfold(value)).casefold() for key, value in fields if wanted is None or key == wanted
    )


def _text(content: bytes, part: BodyPart) -> str:
    assert part.span is not None
    _, start, stop = part.span
    return decode_body(content[start : min(stop, start + PART_LIMIT_BYTES)], part)[0].casefold()
