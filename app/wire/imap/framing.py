"""Where one IMAP response ends and the next begins (RFC 9051 §2.2.2, §4.3), for a client.

Bytes in, events out. Each byte is looked at once, however the stream is split. A response is text and literals in
turn; a literal from `stream_from_bytes` on is handed out in chunks and never held, so a large body costs no memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.errors import ServerProtocolError

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class StreamedLiteral:
    """Stands in a response where a literal was handed out in chunks. `number` counts them per connection, from 1."""

    number: int
    size_bytes: int


Part = bytes | StreamedLiteral


@dataclass(frozen=True, slots=True)
class Response:
    """One whole response without its line end.

    Parts 0, 2, 4 … are text without the `{n}` marker, parts 1, 3, 5 … the literals between them.
    """

    parts: tuple[Part, ...]

    @property
    def text(self) -> bytes:
        """The text before the first literal: the whole response where it has none."""
        first = self.parts[0]
        assert isinstance(first, bytes)
        return first


@dataclass(frozen=True, slots=True)
class LiteralStart:
    """A literal to be streamed begins; `parts` is the response up to it, which tells what it belongs to."""

    literal: StreamedLiteral
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class LiteralChunk:
    literal: StreamedLiteral
    data: bytes


@dataclass(frozen=True, slots=True)
class LiteralEnd:
    literal: StreamedLiteral


ServerEvent = Response | LiteralStart | LiteralChunk | LiteralEnd


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What a server may send. All in bytes but `literals`, the number of literals in one response."""

    line_bytes: int = 8 * MIB
    literal_bytes: int = 1024 * MIB
    stream_from_bytes: int = 64 * KIB
    response_bytes: int = 16 * MIB
    literals: int = 100_000


_DEFAULT_LIMITS = ClientLimits()
_LITERAL_MARK = re.compile(rb"~?\{([0-9]{1,20})(\+?)\}\Z")
_MARK_BYTES = 24
_STATUS = re.compile(rb"\* (?:OK|NO|BAD|BYE|PREAUTH)(?: |\Z)|[^*]", re.IGNORECASE)
"""Responses that end in free text, where `{5}` is no literal: untagged status, tagged status, `+`."""


class StreamBuffer:
    """Bytes that came and were not read yet, with the place from which a line end must still be sought."""

    __slots__ = ("_bytes", "_scanned", "_start")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._start = 0
        self._scanned = 0

    def __len__(self) -> int:
        return len(self._bytes) - self._start

    def append(self, data: bytes) -> None:
        self._bytes += data

    def _let_go(self) -> None:
        """Free the bytes that were read, so that an idle connection holds none."""
        del self._bytes[: self._start]
        self._scanned -= self._start
        self._start = 0

    def peek(self, count: int) -> bytes:
        """What `take` would give."""
        return bytes(self._bytes[self._start : self._start + count])

    def take(self, count: int) -> bytes:
        """The next bytes, `count` at most."""
        end = min(self._start + count, len(self._bytes))
        taken = bytes(self._bytes[self._start : end])
        self._start = self._scanned = end
        if end == len(self._bytes):
            self._let_go()
        return taken

    def take_line(self) -> bytes | None:
        """The next line without its CRLF, None where none is whole yet. Resumes its search where it stopped."""
        end = self._bytes.find(b"\r\n", self._scanned)
        if end < 0:
            self._scanned = max(self._start, len(self._bytes) - 1)
            if self._start:
                self._let_go()
            return None
        line = bytes(self._bytes[self._start : end])
        self._start = self._scanned = end + 2
        return line


def literal_mark(line: bytes) -> re.Match[bytes] | None:
    """The `{n}`, `{n+}` or `~{n}` that ends a line: group 1 is the size, group 2 the plus."""
    if not line.endswith(b"}"):
        return None
    return _LITERAL_MARK.search(line, max(0, len(line) - _MARK_BYTES))


class ClientFramer:
    """Cuts what a server sends into responses.

    The number of responses has no cap here: the reader counts unsolicited responses.
    """

    __slots__ = ("_buffer", "_held_bytes", "_inline_size", "_left", "_limits", "_parts", "_streamed", "_streams")

    def __init__(self, limits: ClientLimits = _DEFAULT_LIMITS) -> None:
        self._limits = limits
        self._buffer = StreamBuffer()
        self._parts: list[Part] = []
        self._held_bytes = 0
        self._inline_size: int | None = None
        self._streamed: StreamedLiteral | None = None
        self._left = 0
        self._streams = 0

    @property
    def unread_bytes(self) -> int:
        """Bytes that came after the last event. After the OK to STARTTLS any is an attack; after that to COMPRESS
        they are compressed: see `take_unread`."""
        return len(self._buffer)

    def take_unread(self) -> bytes:
        """Remove and return the bytes after the last event, when the stream changes its form there."""
        return self._buffer.take(len(self._buffer))

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """Take bytes in, and give the events that are whole now. Stop iterating at any event to leave the rest unread.

        Raises ServerProtocolError where a limit is passed; the framer is of no use after that.
        """
        self._buffer.append(data)
        return iter(self.next_event, None)

    def next_event(self) -> ServerEvent | None:
        """The next event, None where more bytes are needed."""
        if self._streamed is not None:
            return self._next_chunk(self._streamed)
        while self._take_inline_literal():
            line = self._buffer.take_line()
            if line is None:
                self._check_line(len(self._buffer) - 1)  # the last may be the CR of its end
                return None
            self._check_line(len(line))
            mark = literal_mark(line)
            if mark is None or (not self._parts and _STATUS.match(line)):
                return self._complete(line)
            self._hold(line[: mark.start()])
            start = self._open_literal(int(mark[1]))
            if start is not None:
                return start
        return None

    def _complete(self, line: bytes) -> Response:
        if not self._parts:
            return Response((line,))
        self._hold(line)
        response = Response(tuple(self._parts))
        self._parts.clear()
        self._held_bytes = 0
        return response

    def _hold(self, part: bytes) -> None:
        self._held_bytes += len(part)
        if self._held_bytes > self._limits.response_bytes:
            raise ServerProtocolError(f"A response is larger than {self._limits.response_bytes} bytes")
        self._parts.append(part)

    def _open_literal(self, size: int) -> LiteralStart | None:
        limits = self._limits
        if size > limits.literal_bytes:
            raise ServerProtocolError(f"A literal of {size} bytes passes the limit of {limits.literal_bytes}")
        if len(self._parts) > 2 * limits.literals:
            raise ServerProtocolError(f"A response holds more than {limits.literals} literals")
        if size < limits.stream_from_bytes:
            self._inline_size = size
            return None
        self._streams += 1
        self._streamed, self._left = StreamedLiteral(self._streams, size), size
        return LiteralStart(self._streamed, tuple(self._parts))

    def _take_inline_literal(self) -> bool:
        """Whether no inline literal stands open any more."""
        if self._inline_size is not None:
            if len(self._buffer) < self._inline_size:
                return False
            self._hold(self._buffer.take(self._inline_size))
            self._inline_size = None
        return True

    def _next_chunk(self, literal: StreamedLiteral) -> LiteralChunk | LiteralEnd | None:
        if self._left == 0:
            self._streamed = None
            self._parts.append(literal)
            return LiteralEnd(literal)
        data = self._buffer.take(self._left)
        self._left -= len(data)
        return LiteralChunk(literal, data) if data else None

    def _check_line(self, size: int) -> None:
        if size > self._limits.line_bytes:
            raise ServerProtocolError(f"A line is longer than {self._limits.line_bytes} bytes")
