"""The items of a FETCH as the server reads them (RFC 9051 §6.4.5, RFC 3516)."""

from __future__ import annotations

import re

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.requests import FetchItem, SectionRequest

MAX_PART_DEPTH = 200

_FAST = ("FLAGS", "INTERNALDATE", "RFC822.SIZE")
MACROS: dict[str, tuple[FetchItem, ...]] = {
    "ALL": (*_FAST, "ENVELOPE"),
    "FAST": _FAST,
    "FULL": (*_FAST, "ENVELOPE", "BODY"),
}
ITEMS = frozenset(
    (
        *_FAST,
        *("UID", "ENVELOPE", "BODY", "BODYSTRUCTURE", "RFC822", "RFC822.HEADER", "RFC822.TEXT"),
        *("MODSEQ", "EMAILID", "THREADID", "SAVEDATE", "PREVIEW"),
    )
)

_ITEM = re.compile(rb"[A-Za-z0-9.]+")
_PART = re.compile(rb"(?:[1-9][0-9]{0,9}(?:\.[1-9][0-9]{0,9})*)?")
_PARTIAL = re.compile(rb"<([0-9]{1,10})\.([1-9][0-9]{0,9})>")
_SECTIONED = {
    "BODY": ("BODY", False),
    "BODY.PEEK": ("BODY", True),
    "BINARY": ("BINARY", False),
    "BINARY.PEEK": ("BINARY", True),
    "BINARY.SIZE": ("BINARY.SIZE", True),
}


def read_items(reader: ArgumentReader) -> tuple[FetchItem, ...]:
    """A macro, one item, or items in parentheses, without repetition. Raises CommandSyntaxError."""
    if reader.next_is(b"("):
        return tuple(dict.fromkeys(reader.items(lambda: read_item(reader))))
    if reader.next_word() in MACROS:
        return MACROS[reader.word()]
    return (read_item(reader),)


def read_item(reader: ArgumentReader) -> FetchItem:
    """One item. Raises CommandSyntaxError."""
    name = reader.match(_ITEM, "A FETCH item")[0].decode("ascii").upper()
    if reader.next_is(b"[") and name in _SECTIONED:
        return _read_section(reader, *_SECTIONED[name])
    if name not in ITEMS:
        reader.fail("An unknown FETCH item")
    if name == "PREVIEW" and reader.skip(b" ("):
        reader.match(re.compile(rb"LAZY\)", re.IGNORECASE), "LAZY")
    return name


def _read_section(reader: ArgumentReader, name: str, is_peek: bool) -> SectionRequest:
    reader.expect(b"[")
    number = reader.match(_PART, "A part number")[0]
    part = tuple(int(level) for level in number.split(b".")) if number else ()
    if len(part) > MAX_PART_DEPTH:
        reader.fail("A part number is too long")
    kind: str = ""
    fields: tuple[str, ...] = ()
    if reader.skip(b".") if part else not reader.next_is(b"]"):
        kind, fields = _read_kind(reader, name, is_message=not part)
    reader.expect(b"]")
    return SectionRequest(part, kind, fields, _read_partial(reader, name), is_peek, name)


def _read_kind(reader: ArgumentReader, name: str, *, is_message: bool) -> tuple[str, tuple[str, ...]]:
    kind = reader.word()
    if kind not in ("HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME") or name != "BODY":
        reader.fail("An unknown section")
    if kind == "MIME" and is_message:
        reader.fail("MIME is of a part")
    if not kind.startswith("HEADER.FIELDS"):
        return kind, ()
    reader.space()
    return kind, tuple(reader.items(lambda: _read_field(reader)))


def _read_field(reader: ArgumentReader) -> str:
    """A header field's name; what could not be one is refused, since the answer repeats it."""
    field = reader.text()
    if not field or not all("!" <= char <= "~" and char not in ':"\\[]' for char in field):
        reader.fail("A header field's name is malformed")
    return field.upper()


def _read_partial(reader: ArgumentReader, name: str) -> tuple[int, int] | None:
    if not reader.next_is(b"<"):
        return None
    if name == "BINARY.SIZE":
        reader.fail("BINARY.SIZE is of a whole part")
    match = reader.match(_PARTIAL, "<offset.count>")
    return int(match[1]), int(match[2])
