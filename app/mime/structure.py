"""The MIME structure of a message: where headers, bodies and parts begin and end (RFC 2045, RFC 2046).

One linear pass, without recursion. Every input has a structure: bytes that cannot be parsed become a part of type text
or application/octet-stream, and `problems` says why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from app.mail.types import BodyPart, Envelope, Overview
from app.mime.fields import MAX_HEADER_BYTES, Fields, end_of_fields, first_value, problems_of, split_fields
from app.mime.header import envelope_of, overview_of, overview_problems
from app.mime.params import Params
from app.mime.part import (
    DEFAULT_PARAMS,
    OPAQUE,
    Headers,
    boundary_of,
    content_type,
    disposition,
    encoding,
    languages,
    text_of,
)

MAX_PARTS = 1_000
"""Parts that are read of one message. Opening a message decodes its whole stored structure at once."""
MAX_PART_HEADER_BYTES = 256 * 1024
"""Bytes of MIME header fields that are read of all parts together."""
MAX_ATTACHED_ADDRESSES = 2_000
"""Addresses in the envelopes of all attached messages together."""
MAX_DEPTH = 100
MAX_BOUNDARY_BYTES = 1_000
"""RFC 2046 allows 70; programs exceed it."""

_BLANK_LINE = re.compile(rb"\n\r*+\n")
_LEADING_BLANK_LINE = re.compile(rb"\r?\n")
_LIKELY_DELIMITER = re.compile(
    rb"^--(?=-*[^\s-])([^\r\n]{1,70}?)[ \t]*+\r?\n"
    rb"(?:content-(?:type|disposition|transfer-encoding)|mime-version)[ \t]*+:",
    re.IGNORECASE | re.MULTILINE,
)
"""A line that probably begins a part, because a MIME header field follows it."""


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """A parsed message.

    `header_block` is the header with the blank line that ends it. `problems` are descriptions for people; valid mail
    has none. `structure` has section numbers and spans; for valid mail, it equals Dovecot's BODYSTRUCTURE apart from
    the spans.
    """

    header_block: bytes
    envelope: Envelope
    structure: BodyPart
    overview: Overview
    problems: tuple[str, ...]


def parse_structure(data: bytes | memoryview) -> ParsedMessage:
    """Parse a whole message with CRLF or bare LF line ends. Never raises; bounded by the limits of this module.

    In a message without any LF, a bare CR ends a line.
    """
    raw = bytes(data)
    if b"\n" not in raw:
        raw = raw.replace(b"\r", b"\n")
    parser = _Parser(raw)
    structure = parser.parse()
    _, header_end, _ = structure.span or (0, 0, 0)
    fields = parser.root_fields
    envelope = envelope_of(fields)
    overview = overview_of(envelope, first_value(fields, "references"))
    problems = (*problems_of(header_end, len(fields)), *parser.problems, *overview_problems(overview))
    return ParsedMessage(raw[:header_end], envelope, structure, overview, problems)


class _Sections(NamedTuple):
    """The section that a part gets as a single part or as a multipart, and the prefix of its children's sections."""

    single: str
    multipart: str
    prefix: str


_ROOT = _Sections("1", "", "")


@dataclass(slots=True, eq=False)
class _OpenPart:
    """A part whose end has not been reached."""

    sections: _Sections
    headers: Headers
    media_type: str
    params: Params
    start: int
    body_start: int
    lines_before: int
    depth: int
    boundary: bytes | None = None
    shadowed: _OpenPart | None = None
    """The outer multipart that has the same boundary."""
    children: list[BodyPart] = field(default_factory=list)

    @property
    def is_multipart(self) -> bool:
        return self.media_type.startswith("multipart/")

    @property
    def section(self) -> str:
        return self.sections.multipart if self.is_multipart else self.sections.single


class _Parser:
    """The state of the pass: a stack of open parts, and the boundaries that may end them."""

    def __init__(self, raw: bytes) -> None:
        self.problems: dict[str, None] = {}
        self.root_fields: Fields = []
        self._raw = raw
        self._stack: list[_OpenPart] = []
        self._boundaries: dict[bytes, _OpenPart] = {}
        self._parts = 0
        self._blank_line = (-2, 0)
        self._lines, self._counted_to = 0, 0
        self._part_header_bytes = 0
        self._envelope_budget = MAX_HEADER_BYTES
        self._address_budget = MAX_ATTACHED_ADDRESSES

    def parse(self) -> BodyPart:
        """Parse the whole message. Call it once."""
        position = self._open(0, _ROOT, is_in_digest=False)
        while position >= 0 and self._boundaries:
            position = self._after_next_delimiter(position)
        if self._boundaries:
            self.problems["a multipart has no closing boundary"] = None
        self._close_down_to(1, len(self._raw))
        return self._closed(self._stack.pop(), len(self._raw))

    def _after_next_delimiter(self, position: int) -> int:
        """Process the next delimiter line at or after `position`. Return where to continue, -1 at the end."""
        delimiter = self._find_delimiter(position, len(self._raw))
        if delimiter is None:
            return -1
        start, end, owner, is_last = delimiter
        self._close_down_to(owner.depth + 1, _line_end_before(self._raw, start))
        if is_last:
            self._forget_boundary(owner)
            return end
        if self._parts >= MAX_PARTS:
            self.problems[f"only the first {MAX_PARTS} parts were read"] = None
            return -1
        number = f"{owner.sections.prefix}{len(owner.children) + 1}"
        is_in_digest = owner.media_type == "multipart/digest"
        return self._open(end, _Sections(number, number, f"{number}."), is_in_digest=is_in_digest)

    def _find_delimiter(self, position: int, limit: int) -> tuple[int, int, _OpenPart, bool] | None:
        """Find the next delimiter line that starts in [position, limit): start, end, multipart, whether it closes it.

        `position` is the start of a line, and not 0: no boundary is known before the first header.
        """
        raw = self._raw
        start = raw.find(b"\n--", position - 1, limit + 2) + 1
        while start:
            line_end = raw.find(b"\n", start)
            line_end = len(raw) if line_end < 0 else line_end
            line = raw[start + 2 : min(line_end, start + MAX_BOUNDARY_BYTES + 6)].rstrip()
            owner = self._boundaries.get(line)
            is_last = owner is None and line.endswith(b"--")
            if is_last:
                owner = self._boundaries.get(line[:-2])
            if owner is not None:
                return start, min(line_end + 1, len(raw)), owner, is_last
            start = raw.find(b"\n--", line_end, limit + 2) + 1
        return None

    def _open(self, start: int, sections: _Sections, *, is_in_digest: bool) -> int:
        """Open the part at `start`, and the message in it if it is a message/rfc822. Return where its body starts."""
        while True:
            part = self._read_part(start, sections, is_in_digest)
            self._stack.append(part)
            self._parts += 1
            if part.boundary:
                part.shadowed = self._boundaries.get(part.boundary)
                self._boundaries[part.boundary] = part
            if part.media_type != "message/rfc822":
                return part.body_start
            start, is_in_digest, outer = part.body_start, False, part.section
            sections = _Sections(f"{outer}.1", f"{outer}.TEXT", f"{outer}.")

    def _read_part(self, start: int, sections: _Sections, is_in_digest: bool) -> _OpenPart:
        body_start, fields = self._header_of(start)
        headers = self._affordable(fields)
        media_type, params = content_type(headers, is_in_digest=is_in_digest)
        depth = len(self._stack)
        if not depth:
            self.root_fields = fields
        if depth >= MAX_DEPTH and media_type.startswith(("multipart/", "message/rfc822")):
            self.problems[f"parts are nested more than {MAX_DEPTH} levels deep"] = None
            media_type, params = OPAQUE, ()
        part = _OpenPart(sections, headers, media_type, params, start, body_start, self._lines_up_to(body_start), depth)
        if part.is_multipart:
            part.boundary = self._boundary_of(params, body_start)
        return part

    def _header_of(self, start: int) -> tuple[int, Fields]:
        """Return where the body of the part at `start` begins, and its fields. The blank line may be missing."""
        body_start = self._body_start(start)
        block = self._raw[start:body_start]
        fields = split_fields(block)
        if self._stack or not fields or body_start == len(self._raw):
            body_start = start + end_of_fields(block)
        if b"\n--" not in block:
            return body_start, fields
        content_types = {name: value for name, value in reversed(fields) if name == "content-type"}
        media_type, params = content_type(content_types, is_in_digest=False)
        boundary = boundary_of(params) if media_type.startswith("multipart/") else b""
        delimiter = block.find(b"\n--" + boundary) + 1 if boundary else 0
        return (start + delimiter, split_fields(block[:delimiter])) if delimiter else (body_start, fields)

    def _affordable(self, fields: Fields) -> dict[str, bytes]:
        """The fields that describe a part. After MAX_PART_HEADER_BYTES of all parts, the part becomes opaque."""
        headers = {name: value for name, value in reversed(fields) if name.startswith("content-")}
        self._part_header_bytes += sum(map(len, headers.values()))
        if self._part_header_bytes <= MAX_PART_HEADER_BYTES or not self._stack:
            return headers
        self.problems[f"only the first {MAX_PART_HEADER_BYTES} bytes of the headers of parts were read"] = None
        return {"content-type": OPAQUE.encode()}

    def _boundary_of(self, params: Params, body_start: int) -> bytes | None:
        """A multipart's boundary. The boundary of the root multipart may be guessed from the lines of its body."""
        boundary = boundary_of(params)
        is_usable = 0 < len(boundary) <= MAX_BOUNDARY_BYTES
        if is_usable and (self._stack or b"--" + boundary in self._raw):
            return boundary
        self.problems["a multipart has no usable boundary"] = None
        guessed = None if self._stack else _LIKELY_DELIMITER.search(self._raw, body_start)
        if guessed is not None:
            return guessed[1].removesuffix(b"--")
        return boundary if is_usable else None

    def _body_start(self, start: int) -> int:
        """Where the body begins: after the blank line, or at an earlier delimiter."""
        if start == 0:
            leading = _LEADING_BLANK_LINE.match(self._raw)
            if leading:
                return leading.end()
        if self._blank_line[0] < start - 1:
            blank_line = _BLANK_LINE.search(self._raw, max(start - 1, 0))
            self._blank_line = blank_line.span() if blank_line else (len(self._raw), len(self._raw))
        end = self._blank_line[1]
        delimiter = self._find_delimiter(start, end) if self._boundaries else None
        return delimiter[0] if delimiter else end

    def _lines_up_to(self, position: int) -> int:
        """Line feeds before `position`, counted from the last requested position, which is always near."""
        if position >= self._counted_to:
            self._lines += self._raw.count(b"\n", self._counted_to, position)
        else:
            self._lines -= self._raw.count(b"\n", position, self._counted_to)
        self._counted_to = position
        return self._lines

    def _close_down_to(self, depth: int, end: int) -> None:
        """Close the parts at `depth` and below, innermost first."""
        while len(self._stack) > depth:
            part = self._stack.pop()
            self._forget_boundary(part)
            body = self._closed(part, end)
            self._stack[-1].children.append(body)
            end = max(end, body.span[2] if body.span else 0)  # a blank line before a delimiter belongs to the part

    def _forget_boundary(self, part: _OpenPart) -> None:
        if part.boundary and self._boundaries.get(part.boundary) is part:
            del self._boundaries[part.boundary]
            if part.shadowed is not None:
                self._boundaries[part.boundary] = part.shadowed

    def _closed(self, part: _OpenPart, end: int) -> BodyPart:
        end = max(end, part.body_start)
        kind, disposition_params = disposition(part.headers)
        body = BodyPart(
            section=part.section,
            media_type=part.media_type,
            params=part.params,
            disposition=kind,
            disposition_params=disposition_params,
            language=languages(part.headers),
            location=text_of(part.headers, "content-location"),
            children=tuple(part.children),
            span=(part.start, part.body_start, end),
        )
        if part.is_multipart:
            return body if body.children else replace(body, children=(self._whole_body_as_text(part, end),))
        return replace(
            body,
            content_id=text_of(part.headers, "content-id"),
            description=text_of(part.headers, "content-description"),
            encoding=encoding(part.headers),
            size_bytes=end - part.body_start,
            lines=self._line_count(part, end),
            md5=text_of(part.headers, "content-md5"),
            envelope=self._envelope_inside(part),
        )

    def _line_count(self, part: _OpenPart, end: int) -> int | None:
        """The number of lines of a text part or message/rfc822; None for other types, as in BODYSTRUCTURE."""
        if part.media_type.startswith("text/") or part.media_type == "message/rfc822":
            return self._lines_up_to(end) - part.lines_before
        return None

    def _envelope_inside(self, part: _OpenPart) -> Envelope | None:
        """The envelope of the message in a message/rfc822 part."""
        if part.media_type != "message/rfc822":
            return None
        _, header_end, _ = part.children[0].span or (0, part.body_start, 0)
        size_bytes = header_end - part.body_start
        if size_bytes <= self._envelope_budget:
            self._envelope_budget -= size_bytes
            envelope = envelope_of(split_fields(self._raw[part.body_start : header_end]))
            addresses = sum(map(len, (envelope.from_, envelope.to, envelope.cc, envelope.bcc)))
            if addresses <= self._address_budget:
                self._address_budget -= addresses
                return envelope
        self.problems["the header of an attached message was not read: too many headers or addresses"] = None
        return Envelope()

    def _whole_body_as_text(self, part: _OpenPart, end: int) -> BodyPart:
        """The part of a multipart without parts: its body as text. Dovecot reports an empty text here."""
        size_bytes, lines = end - part.body_start, self._lines_up_to(end) - part.lines_before
        span = (part.body_start, part.body_start, end)
        section = f"{part.sections.prefix}1"
        return BodyPart(section, "text/plain", DEFAULT_PARAMS, size_bytes=size_bytes, lines=lines, span=span)


def _line_end_before(raw: bytes, delimiter: int) -> int:
    """The end of the body before a delimiter line, which includes the preceding line end (RFC 2046 §5.1.1)."""
    end = delimiter - 1
    return end - 1 if end > 0 and raw[end - 1 : end] == b"\r" else end
