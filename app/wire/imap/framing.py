"""Splitting of a stream into IMAP responses (RFC 9051 §2.2.2, §4.3), for a client.

Each byte is scanned once, in any split of the stream. A response alternates text and literals. Literals from
`stream_from_bytes` on are returned in chunks and not buffered, so that large bodies need no memory.
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
    """Takes the place of a streamed literal in a response. `number` counts them per connection, from 1."""

    number: int
    size_bytes: int


Part = bytes | StreamedLiteral


@dataclass(frozen=True, slots=True)
class Response:
    """One complete response without its line end.

    Parts 0, 2, 4 … are text without the `{n}` marker, parts 1, 3, 5 … the literals between them.
    """

    parts: tuple[Part, ...]

    @property
    def text(self) -> bytes:
        """The text before the first literal, or the whole response."""
        first = self.parts[0]
        assert isinstance(first, bytes)
        return first


@dataclass(frozen=True, slots=True)
class LiteralStart:
    """A streamed literal begins. `parts` is the response before it."""

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
    """Limits on what a server may send, in bytes; `literals` is the number of literals in one response."""

    line_bytes: int = 8 * MIB
    literal_bytes: int = 1024 * MIB
    stream_from_bytes: int = 64 * KIB
    response_bytes: int = 16 * MIB
    literals: int = 100_000


_DEFAULT_LIMITS = ClientLimits()
_LITERAL_MARK = re.compile(rb"~?\{([0-9]{1,20})(\+?)\}\Z")
_MARK_BYTES = 24
_STATUS = re.compile(rb"\* (?:OK|NO|BAD|BYE|PREAUTH)(?: |\Z)|[^*]", re.IGNORECASE)
"""Responses that end in free text, where `{5}` does not announce a literal: untagged and tagged status, `+`."""


class StreamBuffer:
    """A buffer of unread bytes, which remembers how far it has been searched for a line end."""

    __slots__ = ("_bytes", "_scanned", "_start")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._start = 0
        self._scanned = 0

    def __len__(self) -> int:
        return len(self._bytes) - self._start

    def append(self, data: bytes) -> None:
        self._bytes += data

    def _free(self) -> None:
        """Free the bytes that were read, so that an idle connection holds no memory."""
        del self._bytes[: self._start]
        self._scanned -= self._start
        self._start = 0

    def peek(self, count: int) -> bytes:
        """The bytes that `take` would return."""
        return bytes(self._bytes[self._start : self._start + count])

    def take(self, count: int) -> bytes:
        """Remove and return the next bytes, at most `count`."""
        end = min(self._start + count, len(self._bytes))
        taken = bytes(self._bytes[self._start : end])
        self._start = self._scanned = end
        if end == len(self._bytes):
            self._free()
        return taken

    def take_line(self) -> bytes | None:
        """Remove and return the next line without its CRLF; None until it is complete."""
        end = self._bytes.find(b"\r\n", self._scanned)
        if end < 0:
            self._scanned = max(self._start, len(self._bytes) - 1)
            if self._start:
                self._free()
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
    """Splits a server's bytes into responses.

    It does not limit the number of responses: the caller must count unsolicited ones.
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
        """Bytes after the last event. After the OK to STARTTLS, they are an attack; after the OK to COMPRESS, they are
        compressed: see `take_unread`."""
        return len(self._buffer)

    def take_unread(self) -> bytes:
        """Remove and return the bytes after the last event, because the encoding of the stream changes there."""
        return self._buffer.take(len(self._buffer))

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """Add bytes, and iterate over the complete events. Stop at any event to leave the rest unread.

        Raises ServerProtocolError if a limit is exceeded; the framer cannot be used after that.
        """
        self._buffer.append(data)
        return iter(self.next_event, None)

    def next_event(self) -> ServerEvent | None:
        """The next event; None if more bytes are needed."""
        if self._streamed is not None:
            return self._next_chunk(self._streamed)
        while self._take_inline_literal():
            line = self._buffer.take_line()
            if line is None:
                self._check_line(len(self._buffer) - 1)  # the last byte may be a CR
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
            raise ServerProtocolError(f"A literal of {size} bytes exceeds the limit of {limits.literal_bytes}")
        if len(self._parts) > 2 * limits.literals:
            raise ServerProtocolError(f"A response has more than {limits.literals} literals")
        if size < limits.stream_from_bytes:
            self._inline_size = size
            return None
        self._streams += 1
        self._streamed, self._left = StreamedLiteral(self._streams, size), size
        return LiteralStart(self._streamed, tuple(self._parts))

    def _take_inline_literal(self) -> bool:
        """Take a pending inline literal from the buffer. Return False if it is incomplete."""
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
