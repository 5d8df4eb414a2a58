"""FETCH and UID FETCH, and the FETCH items that NOTIFY uses too (RFC 9051 §6.4.5, RFC 3516, RFC 7162)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

from app.wire.imap.arguments import ArgumentReader
from app.wire.imap.request import Command, MessageSet, Readers, read_messages

MAX_PART_DEPTH = 200


@dataclass(frozen=True, slots=True)
class SectionRequest:
    """BODY[…]<…>, BINARY[…]<…> or BINARY.SIZE[…] of a FETCH.

    `part` is the part's number, () for the message; `kind` is "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or
    MIME. `partial` is (offset, count) in bytes.
    """

    part: tuple[int, ...] = ()
    kind: str = ""
    fields: tuple[str, ...] = ()
    partial: tuple[int, int] | None = None
    is_peek: bool = False
    name: str = "BODY"

    @property
    def label(self) -> bytes:
        """The item's name in the response, such as `BODY[1.HEADER.FIELDS (DATE)]<0>`."""
        section = ".".join([*map(str, self.part), *([self.kind] if self.kind else [])])
        fields = f" ({' '.join(map(_written_field, self.fields))})" if self.fields else ""
        origin = f"<{self.partial[0]}>" if self.partial else ""
        return f"{self.name}[{section}{fields}]{origin}".encode()


def _written_field(name: str) -> str:
    return f'"{name}"' if any(char in "(){%*" for char in name) else name


FetchItem = str | SectionRequest
"""A plain item in upper case (`UID`, `ENVELOPE`, `RFC822.SIZE`, …) or a body section."""


@dataclass(frozen=True, slots=True)
class Fetch(Command):
    """FETCH or UID FETCH, with macros expanded. `changed_since` and `vanished`: RFC 7162."""

    messages: MessageSet
    items: tuple[FetchItem, ...]
    is_uid: bool = False
    changed_since: int | None = None
    vanished: bool = False


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


def _fetch(reader: ArgumentReader, *, is_uid: bool = False) -> Fetch:
    messages = read_messages(reader)
    reader.space()
    items = read_items(reader)
    changed_since, vanished = None, False
    if reader.skip(b" "):
        for since in reader.items(lambda: _fetch_modifier(reader)):
            changed_since, vanished = (changed_since, True) if since is None else (since, vanished)
    if vanished and (changed_since is None or not is_uid):
        reader.fail("VANISHED needs CHANGEDSINCE and UID FETCH")
    if is_uid and "UID" not in items:
        items = ("UID", *items)
    if changed_since is not None and "MODSEQ" not in items:
        items = (*items, "MODSEQ")
    return Fetch(messages, items, is_uid, changed_since, vanished)


def _fetch_modifier(reader: ArgumentReader) -> int | None:
    """The number of CHANGEDSINCE, None for VANISHED."""
    name = reader.word()
    if name == "CHANGEDSINCE":
        reader.space()
        return reader.number()
    if name != "VANISHED":
        reader.fail("Unknown modifier")
    return None


def read_items(reader: ArgumentReader) -> tuple[FetchItem, ...]:
    """A macro, an item, or items in parentheses, without duplicates. Raises CommandSyntaxError."""
    if reader.next_is(b"("):
        return tuple(dict.fromkeys(reader.items(lambda: read_item(reader))))
    if reader.next_word() in MACROS:
        return MACROS[reader.word()]
    return (read_item(reader),)


def read_item(reader: ArgumentReader) -> FetchItem:
    """A single item. Raises CommandSyntaxError."""
    name = reader.match(_ITEM, "A FETCH item")[0].decode("ascii").upper()
    if reader.next_is(b"[") and name in _SECTIONED:
        return _read_section(reader, *_SECTIONED[name])
    if name not in ITEMS:
        reader.fail("Unknown FETCH item")
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
        reader.fail("Unknown section")
    if kind == "MIME" and is_message:
        reader.fail("MIME needs a part number")
    if not kind.startswith("HEADER.FIELDS"):
        return kind, ()
    reader.space()
    return kind, tuple(reader.items(lambda: _read_field(reader)))


def _read_field(reader: ArgumentReader) -> str:
    """A header field's name. Invalid names are refused, because the response repeats them."""
    field = reader.text()
    if not field or not all("!" <= char <= "~" and char not in ':"\\[]' for char in field):
        reader.fail("Invalid header field name")
    return field.upper()


def _read_partial(reader: ArgumentReader, name: str) -> tuple[int, int] | None:
    if not reader.next_is(b"<"):
        return None
    if name == "BINARY.SIZE":
        reader.fail("BINARY.SIZE does not allow a partial range")
    match = reader.match(_PARTIAL, "<offset.count>")
    return int(match[1]), int(match[2])


READERS: Readers = {"FETCH": _fetch, "UID FETCH": partial(_fetch, is_uid=True)}
