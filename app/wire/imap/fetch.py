"""Parsing of FETCH responses (RFC 9051 §7.5.2, RFC 7162, RFC 8474, RFC 8970, X-GM-EXT-1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from app.errors import ServerProtocolError
from app.mail.storable import storable
from app.mail.types import BodyPart, Envelope, Flags
from app.wire.imap.dates import parse_date_time
from app.wire.imap.framing import Response, StreamedLiteral
from app.wire.imap.grammar import Value, digits_of, list_of, number_of, parse, text_of
from app.wire.imap.structure import envelope_of, structure_of

Section = bytes | StreamedLiteral | None
"""A body section's bytes, or a reference to streamed bytes; None if the server has no such section."""

_FETCH = re.compile(rb"\* [0-9]{1,10} FETCH \(", re.IGNORECASE)
_SECTION = re.compile(r"(BODY|BINARY|BINARY\.SIZE)\[([^]]*)\](<[0-9]+>)?", re.IGNORECASE | re.ASCII)


@dataclass(slots=True)
class FetchedMessage:
    """The content of one FETCH response. Items that the response lacks are None, or have no key.

    `sequence` is the message's current sequence number. `internal_date_ms` counts from 1970 UTC. `sections` and
    `binary` are keyed by the section in upper case, with the offset of a partial: "", "1.MIME",
    "HEADER.FIELDS (DATE)", "2<0>". `is_recent` is the session's `\\Recent`, which `flags` never contain.
    """

    sequence: int
    uid: int | None = None
    flags: Flags | None = None
    is_recent: bool = False
    internal_date_ms: int | None = None
    save_date_ms: int | None = None
    size_bytes: int | None = None
    modseq: int | None = None
    email_id: str | None = None
    thread_id: str | None = None
    gmail_message_id: int | None = None
    gmail_thread_id: int | None = None
    gmail_labels: tuple[str, ...] | None = None
    envelope: Envelope | None = None
    structure: BodyPart | None = None
    preview: str | None = None
    sections: dict[str, Section] = field(default_factory=dict)
    binary: dict[str, Section] = field(default_factory=dict)
    binary_sizes: dict[str, int] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    """The names of items in the response that could not be parsed."""


def is_fetch(response: Response) -> bool:
    return _FETCH.match(response.text) is not None


def parse_fetch(response: Response) -> FetchedMessage:
    """Parse a `* n FETCH (…)` response. Unknown items are ignored.

    An invalid item is named in `unread`; the other items are still read. Raises ServerProtocolError if the response
    itself is invalid.
    """
    values = parse(response.parts)
    if len(values) != 4:
        raise ServerProtocolError("A FETCH response has no list of items")
    message = FetchedMessage(number_of(values[1]))
    items = list_of(values[3])
    for index in range(0, len(items) - 1, 2):
        name = items[index]
        if not isinstance(name, str):
            raise ServerProtocolError("A FETCH item has no name")
        try:
            _read_item(message, name.upper(), items[index + 1])
        except ServerProtocolError:
            message.unread.append(name.upper())
    return message


def _read_item(message: FetchedMessage, name: str, value: Value) -> None:
    read = _ITEMS.get(name)
    if read is not None:
        read(message, value)
        return
    match = _SECTION.fullmatch(name)
    if match is None:
        return
    key = match[2] + (match[3] or "")
    if match[1] == "BODY":
        message.sections[key] = _section(value)
    elif match[1] == "BINARY":
        message.binary[key] = _section(value)
    else:
        message.binary_sizes[key] = number_of(value)


def _section(value: Value) -> Section:
    """The value of a body section. Some servers send a short section as a quoted string."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, list):
        raise ServerProtocolError("A body section is a list")
    return value


def _uid(message: FetchedMessage, value: Value) -> None:
    message.uid = number_of(value)


def _flags(message: FetchedMessage, value: Value) -> None:
    flags = [_SYSTEM_FLAGS.get(flag) or _flag(flag) for flag in list_of(value) if isinstance(flag, str)]
    message.is_recent = "\\Recent" in flags
    message.flags = frozenset(flag for flag in flags if flag != "\\Recent")


_SYSTEM_FLAGS = {name: name for name in ("\\Seen", "\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "\\Recent")}


def _flag(flag: str) -> str:
    """A system flag in the RFC's case, or a keyword in a form that the index can store."""
    if flag.startswith("\\"):
        return _SYSTEM_FLAGS.get("\\" + flag[1:].capitalize()) or _keyword(flag)
    return _keyword(flag)


def _keyword(flag: str) -> str:
    """A keyword, with characters replaced that an atom may not contain (RFC 9051 §9)."""
    return flag if flag.isascii() and flag.isprintable() and " " not in flag else storable(flag).replace(" ", "_")


def _date_of(value: Value) -> int | None:
    """A date in ms since 1970 UTC. An invalid date is None: it must not hide the message."""
    try:
        text = text_of(value)
        return None if text is None else parse_date_time(text, is_lenient=True)
    except (ValueError, ServerProtocolError):
        return None


def _internal_date(message: FetchedMessage, value: Value) -> None:
    message.internal_date_ms = _date_of(value)


def _save_date(message: FetchedMessage, value: Value) -> None:
    message.save_date_ms = _date_of(value)


def _size(message: FetchedMessage, value: Value) -> None:
    message.size_bytes = number_of(value)


def _modseq(message: FetchedMessage, value: Value) -> None:
    message.modseq = number_of(_first(value)) if value else None


def _email_id(message: FetchedMessage, value: Value) -> None:
    message.email_id = text_of(_first(value)) if value else None


def _thread_id(message: FetchedMessage, value: Value) -> None:
    message.thread_id = text_of(_first(value)) if value else None


def _first(value: Value) -> Value:
    """The value inside parentheses, which some servers omit."""
    return value[0] if isinstance(value, list) else value


def _gmail_message_id(message: FetchedMessage, value: Value) -> None:
    message.gmail_message_id = digits_of(value)


def _gmail_thread_id(message: FetchedMessage, value: Value) -> None:
    message.gmail_thread_id = digits_of(value)


def _gmail_labels(message: FetchedMessage, value: Value) -> None:
    message.gmail_labels = tuple(text_of(label) or "" for label in list_of(value))


def _envelope(message: FetchedMessage, value: Value) -> None:
    message.envelope = envelope_of(value)


def _structure(message: FetchedMessage, value: Value) -> None:
    message.structure = structure_of(value)


def _short_structure(message: FetchedMessage, value: Value) -> None:
    """Read BODY, unless the response has a BODYSTRUCTURE, which is more complete."""
    if message.structure is None:
        message.structure = structure_of(value)


def _preview(message: FetchedMessage, value: Value) -> None:
    """Read PREVIEW (RFC 8970), which is NIL until the server has made it. Its draft used `(FUZZY "text")`."""
    text = value[-1] if isinstance(value, list) and value else value
    message.preview = text_of(text)


def _whole(key: str) -> Callable[[FetchedMessage, Value], None]:
    """A reader for the item of RFC 1730 that is another name of the body section `key`."""

    def read(message: FetchedMessage, value: Value) -> None:
        message.sections[key] = _section(value)

    return read


_ITEMS: dict[str, Callable[[FetchedMessage, Value], None]] = {
    "UID": _uid,
    "FLAGS": _flags,
    "INTERNALDATE": _internal_date,
    "SAVEDATE": _save_date,
    "RFC822.SIZE": _size,
    "MODSEQ": _modseq,
    "EMAILID": _email_id,
    "THREADID": _thread_id,
    "X-GM-MSGID": _gmail_message_id,
    "X-GM-THRID": _gmail_thread_id,
    "X-GM-LABELS": _gmail_labels,
    "ENVELOPE": _envelope,
    "BODY": _short_structure,
    "BODYSTRUCTURE": _structure,
    "PREVIEW": _preview,
    "RFC822": _whole(""),
    "RFC822.HEADER": _whole("HEADER"),
    "RFC822.TEXT": _whole("TEXT"),
}
