"""Parsing of ENVELOPE, BODY and BODYSTRUCTURE (RFC 9051 §7.5.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from app.errors import ServerProtocolError
from app.mail.types import BodyPart, Envelope, EnvelopeAddress
from app.wire.imap.grammar import Value, list_of, text_of

MAX_ADDRESSES = 10_000
"""Addresses that are read of one field."""
MAX_PARTS = 1_000
"""Parts of one BODYSTRUCTURE. A structure with more is refused."""

_MESSAGE_TYPES = ("message/rfc822", "message/global")
_Pairs = tuple[tuple[str, str], ...]
_SIZE = re.compile(r"-?[0-9]*", re.ASCII)
"""A size. Some servers send a negative number or "" if they do not know it."""


def envelope_of(value: Value) -> Envelope:
    """Convert a parsed ENVELOPE item. Raises ServerProtocolError."""
    fields = list_of(value)
    if len(fields) < 10:
        raise ServerProtocolError("An ENVELOPE has too few fields")
    date, subject, from_, sender, reply_to, to, cc, bcc, in_reply_to, message_id = fields[:10]
    author = _addresses(from_)
    return Envelope(
        text_of(date),
        text_of(subject),
        author,
        author if sender == from_ else _addresses(sender),
        author if reply_to == from_ else _addresses(reply_to),
        _addresses(to),
        _addresses(cc),
        _addresses(bcc),
        text_of(in_reply_to),
        text_of(message_id),
    )


def _addresses(value: Value) -> tuple[EnvelopeAddress, ...]:
    if value is None:
        return ()
    addresses = []
    for item in list_of(value)[:MAX_ADDRESSES]:
        fields = list_of(item)
        if len(fields) < 4:
            raise ServerProtocolError("An address in an ENVELOPE has too few fields")
        name, route, mailbox, host = fields[:4]
        addresses.append(EnvelopeAddress(text_of(name), text_of(route), text_of(mailbox), text_of(host)))
    return tuple(addresses)


def structure_of(value: Value) -> BodyPart:
    """Convert a parsed BODY or BODYSTRUCTURE item to a tree of parts with section numbers (RFC 9051 §6.4.5.1).

    Recursive: `grammar.parse` bounds the depth. Raises ServerProtocolError.
    """
    structure = _body(value, "")
    if sum(1 for _ in structure.walk()) > MAX_PARTS:
        raise ServerProtocolError(f"A BODYSTRUCTURE has more than {MAX_PARTS} parts")
    return structure


def _body(value: Value, message: str) -> BodyPart:
    """The body of the message in section `message`, "" for the root. A multipart body has no section number."""
    prefix = f"{message}." if message else ""
    if _is_multipart(value):
        return _multipart(list_of(value), f"{message}.TEXT" if message else "", prefix)
    return _single(list_of(value), f"{prefix}1")


def _is_multipart(value: Value) -> bool:
    fields = list_of(value)
    if not fields:
        raise ServerProtocolError("A BODYSTRUCTURE has an empty part")
    return isinstance(fields[0], list)


def _part(value: Value, section: str) -> BodyPart:
    """The part of a multipart with the number `section`."""
    if _is_multipart(value):
        return _multipart(list_of(value), section, f"{section}.")
    return _single(list_of(value), section)


def _multipart(fields: list[Value], section: str, prefix: str) -> BodyPart:
    count = next((index for index, field in enumerate(fields) if not isinstance(field, list)), len(fields))
    children = tuple([_part(field, f"{prefix}{number}") for number, field in enumerate(fields[:count], 1)])
    subtype, params, disposition, language, location = _padded(fields[count : count + 5], 5)
    kind, kind_params = _disposition(disposition)
    return BodyPart(
        section,
        f"multipart/{(text_of(subtype) or 'mixed').lower()}",
        _pairs(params),
        children=children,
        disposition=kind,
        disposition_params=kind_params,
        language=_language(language),
        location=text_of(location),
    )


def _single(fields: list[Value], section: str) -> BodyPart:
    main, sub, params, content_id, description, encoding, size = _padded(fields[:7], 7)
    media_type = _media_type(text_of(main), text_of(sub), is_named=bool(params))
    _check_aligned(encoding, size)
    rest = fields[7:]
    envelope: Envelope | None = None
    children: tuple[BodyPart, ...] = ()
    lines: int | None = None
    if media_type in _MESSAGE_TYPES and len(rest) >= 3 and isinstance(rest[1], list) and isinstance(rest[2], str):
        envelope, children = envelope_of(rest[0]) if rest[0] else Envelope(), (_body(rest[1], section),)
        lines, rest = _count(rest[2]), rest[3:]
    elif media_type.startswith("text/") and main:
        lines, rest = _count(rest[0]) if rest else 0, rest[1:]
    md5, disposition, language, location = _padded(rest[:4], 4)
    kind, kind_params = _disposition(disposition)
    return BodyPart(
        section,
        media_type,
        _pairs(params),
        text_of(content_id),
        text_of(description),
        (text_of(encoding) or "7bit").lower(),
        _count(size),
        lines,
        text_of(md5),
        kind,
        kind_params,
        _language(language),
        text_of(location),
        envelope,
        children,
    )


def _media_type(main: str | None, sub: str | None, *, is_named: bool) -> str:
    """The media type in lower case. A part without a type, `"" ""` in mox, is plain text (RFC 2045 §5.2)."""
    if not main:
        return f"application/{sub or 'octet-stream'}".lower() if sub or is_named else "text/plain"
    return f"{main}/{sub or ('plain' if main.lower() == 'text' else 'octet-stream')}".lower()


def _check_aligned(encoding: Value, size: Value) -> None:
    """Raise ServerProtocolError if the fields of a part are shifted, because the server failed to quote a string."""
    is_encoding = encoding is None or (isinstance(encoding, str | bytes) and not encoding.isdigit())
    is_size = size is None or (isinstance(size, str) and _SIZE.fullmatch(size) is not None)
    if not (is_encoding and is_size):
        raise ServerProtocolError("A part of a BODYSTRUCTURE has fields in the wrong positions")


def _padded(fields: Sequence[Value], count: int) -> list[Value]:
    return [*fields, *([None] * (count - len(fields)))] if len(fields) != count else list(fields)


def _count(value: Value) -> int:
    """A size or number of lines; 0 for NIL or a negative number, which servers send if they do not know it."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20 else 0


def _pairs(value: Value) -> _Pairs:
    """Parameters. A last name without a value gets ""."""
    if value is None or isinstance(value, str):
        return ()
    texts = [text_of(field) or "" for field in list_of(value)]
    return tuple(zip((name.lower() for name in texts[::2]), [*texts[1::2], ""], strict=False))


def _disposition(value: Value) -> tuple[str | None, _Pairs]:
    if isinstance(value, list):
        kind, params = _padded(value[:2], 2)
        return (text_of(kind) or "").lower() or None, _pairs(params)
    kind_text = text_of(value)
    return (kind_text.lower() if kind_text else None), ()


def _language(value: Value) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(text_of(tag) or "" for tag in value)
    tag = text_of(value)
    return (tag,) if tag else ()
