"""Locates the bytes of BODY[…] in a stored message (RFC 9051 §6.4.5). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

from app.mail.backend import ByteRange
from app.mail.types import BodyPart
from app.mime.body import part_at
from app.wire.imap.requests.fetch import SectionRequest

CHOSEN_LIMIT_BYTES = 1 << 20
"""Bytes of a header that HEADER.FIELDS reads."""

_FIELD = re.compile(rb"^([!-9;-~]++)[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*(?:\n|\Z)", re.MULTILINE)


def locate(
    section: SectionRequest, header_bytes: int, size_bytes: int, structure: Callable[[], BodyPart]
) -> ByteRange | None:
    """Return the range of a section, before fields and a partial are applied; None if it does not exist."""
    if not section.part:
        return _of_message(section.kind, header_bytes, size_bytes)
    part = part_at(structure(), ".".join(map(str, section.part)))
    if part is None or part.span is None:
        return None
    start, body_start, stop = part.span
    if section.kind == "":
        return ByteRange(body_start, stop)
    if section.kind == "MIME":
        return ByteRange(start, body_start)
    return _of_message_inside(section.kind, part)


def _of_message(kind: str, header_bytes: int, size_bytes: int) -> ByteRange:
    if kind == "":
        return ByteRange(0, size_bytes)
    return ByteRange(header_bytes, size_bytes) if kind == "TEXT" else ByteRange(0, header_bytes)


def _of_message_inside(kind: str, part: BodyPart) -> ByteRange | None:
    """Return the range of HEADER or TEXT of a message/rfc822 part."""
    span = part.children[0].span if part.media_type == "message/rfc822" and part.children else None
    if span is None:
        return None
    start, body_start, stop = span
    return ByteRange(body_start, stop) if kind == "TEXT" else ByteRange(start, body_start)


def chosen_fields(header: bytes, section: SectionRequest) -> bytes:
    """Return the fields that HEADER.FIELDS or HEADER.FIELDS.NOT selects, and the blank line after them."""
    names = {name.encode("ascii") for name in section.fields}
    is_not = section.kind == "HEADER.FIELDS.NOT"
    fields = [
        _with_line_end(match[0])
        for match in _FIELD.finditer(header[:CHOSEN_LIMIT_BYTES])
        if (match[1].upper() in names) != is_not
    ]
    return b"".join((*fields, b"\r\n"))


def _with_line_end(field: bytes) -> bytes:
    return field if field.endswith(b"\n") else field + b"\r\n"


def cut(span: ByteRange, partial: tuple[int, int] | None) -> ByteRange:
    """Return the part of a range with an end that `<offset.count>` selects."""
    assert span.stop is not None
    if partial is None:
        return span
    start = min(span.start + partial[0], span.stop)
    return ByteRange(start, min(start + partial[1], span.stop))
