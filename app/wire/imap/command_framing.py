"""Splitting of a stream into IMAP commands (RFC 9051 §2.2.1, §4.3; RFC 7888), for a server.

The counterpart of `framing`. It also requests continuations, and discards oversized commands without buffering them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.wire.imap.framing import (
    KIB,
    MIB,
    LiteralChunk,
    LiteralEnd,
    LiteralStart,
    Part,
    StreamBuffer,
    StreamedLiteral,
    literal_mark,
)


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """One complete command without its line end: text and literals in turn, as in `framing.Response`."""

    parts: tuple[Part, ...]

    @property
    def text(self) -> bytes:
        """The text before the first literal: the whole line for `DONE` and a SASL response."""
        first = self.parts[0]
        assert isinstance(first, bytes)
        return first


@dataclass(frozen=True, slots=True)
class LiteralRequested:
    """The client waits for `+` before it sends a literal: send it, or call `CommandFramer.refuse`.

    `parts` is the command before the literal.
    """

    size_bytes: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class CommandTooLarge:
    """A command that exceeds a limit. The framer discards the rest of it. `tag` is "*" if the command has none."""

    tag: str
    reason: str


ClientEvent = ReceivedCommand | LiteralRequested | LiteralStart | LiteralChunk | LiteralEnd | CommandTooLarge


@dataclass(frozen=True, slots=True)
class CommandLimits:
    """Limits on what a client may send, in bytes; `literals` is the number of literals in one command.

    Literals from `stream_from_bytes` on are streamed, and accepted only as the message of an APPEND.
    """

    line_bytes: int = 64 * KIB
    command_bytes: int = MIB
    stream_from_bytes: int = 64 * KIB
    literals: int = 10_000


_DEFAULT_LIMITS = CommandLimits()
_STREAMABLE = re.compile(rb"[^ ]+ APPEND ", re.IGNORECASE)
_TAG = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]{1,100}(?= )")
_KEPT_TAIL = 32
"""Bytes of an overlong line that are kept while it is discarded, to find a literal's marker at its end."""


class CommandFramer:
    """Splits a client's bytes into commands.

    `message_limit_bytes` is the largest literal of an APPEND. It is 0 at first, which allows no streamed literal; set
    it after the client has logged in.
    """

    __slots__ = (
        "_buffer",
        "_held_bytes",
        "_inline_size",
        "_is_discarding",
        "_is_start_due",
        "_left",
        "_limits",
        "_parts",
        "_streamed",
        "_streams",
        "message_limit_bytes",
    )

    def __init__(self, limits: CommandLimits = _DEFAULT_LIMITS) -> None:
        self.message_limit_bytes = 0
        self._limits = limits
        self._buffer = StreamBuffer()
        self._parts: list[Part] = []
        self._held_bytes = 0
        self._inline_size: int | None = None
        self._streamed: StreamedLiteral | None = None
        self._is_start_due = False
        self._is_discarding = False
        self._left = 0
        self._streams = 0

    @property
    def unread_bytes(self) -> int:
        return len(self._buffer)

    def take_unread(self) -> bytes:
        """Remove and return the bytes after the last event. After STARTTLS, they were sent in clear text and must be
        discarded (RFC 9051 §6.2.1); after COMPRESS, they are compressed."""
        return self._buffer.take(len(self._buffer))

    def feed(self, data: bytes) -> Iterator[ClientEvent]:
        """Add bytes, and iterate over the complete events. Stop at any event to leave the rest unread."""
        self._buffer.append(data)
        return iter(self.next_event, None)

    def refuse(self) -> None:
        """Drop the command of the last event, which is a LiteralRequested, LiteralStart or LiteralChunk.

        The caller responds with NO or BAD. After a LiteralRequested, the client does not send the literal; otherwise
        the framer discards the rest.
        """
        is_on_its_way = not self._is_start_due and self._streamed is not None
        self._reset()
        self._is_discarding = is_on_its_way
        if not is_on_its_way:
            self._left = 0

    def next_event(self) -> ClientEvent | None:
        """The next event; None if more bytes are needed."""
        if self._streamed is not None:
            return self._next_of_stream(self._streamed)
        while self._skip() and self._take_inline_literal():
            line = self._buffer.take_line()
            event = self._read_tail() if line is None else self._read_line(line)
            if event is not None or line is None:
                return event
        return None

    def _next_of_stream(self, literal: StreamedLiteral) -> ClientEvent | None:
        if self._is_start_due:
            self._is_start_due = False
            return LiteralStart(literal, tuple(self._parts))
        if self._left == 0:
            self._streamed = None
            self._parts.append(literal)
            return LiteralEnd(literal)
        data = self._buffer.take(self._left)
        self._left -= len(data)
        return LiteralChunk(literal, data) if data else None

    def _skip(self) -> bool:
        """Discard the rest of a refused literal. Return whether all of it is discarded."""
        if self._left:
            self._left -= len(self._buffer.take(self._left))
        return self._left == 0

    def _take_inline_literal(self) -> bool:
        """Take a pending inline literal from the buffer. Return False if it is incomplete."""
        if self._inline_size is not None:
            if len(self._buffer) < self._inline_size:
                return False
            self._hold(self._buffer.take(self._inline_size))
            self._inline_size = None
        return True

    def _hold(self, part: bytes) -> None:
        self._held_bytes += len(part)
        self._parts.append(part)

    def _reset(self) -> None:
        self._parts.clear()
        self._held_bytes = 0
        self._inline_size = self._streamed = None
        self._is_start_due = self._is_discarding = False

    def _read_tail(self) -> ClientEvent | None:
        """Check the length of a line without an end. Its last byte may be a CR."""
        if len(self._buffer) <= self._limits.line_bytes + 1:
            return None
        event = None
        if not self._is_discarding:
            event = self._too_large(self._buffer.peek(self._limits.line_bytes), "The line is too long")
            self._is_discarding = True
        self._buffer.take(max(0, len(self._buffer) - _KEPT_TAIL))
        return event

    def _read_line(self, line: bytes) -> ClientEvent | None:
        mark = literal_mark(line)
        size = int(mark[1]) if mark else 0
        is_announced = mark is not None and not mark[2]
        reason = None if self._is_discarding else self._reason_against(line, size)
        if self._is_discarding or reason:
            event = self._too_large(line, reason) if reason else None
            self._is_discarding = mark is not None and not is_announced
            self._left = size if self._is_discarding else 0
            return event
        self._hold(line if mark is None else line[: mark.start()])
        if mark is None:
            return self._complete()
        self._open_literal(size)
        if is_announced:
            return LiteralRequested(size, tuple(self._parts))
        return self._next_of_stream(self._streamed) if self._streamed else None

    def _complete(self) -> ReceivedCommand:
        command = ReceivedCommand(tuple(self._parts))
        self._reset()
        return command

    def _reason_against(self, line: bytes, literal_size: int) -> str | None:
        """Why a line, with the literal that it announces, exceeds a limit; None if it does not."""
        limits = self._limits
        if len(line) > limits.line_bytes:
            return "The line is too long"
        if literal_size >= limits.stream_from_bytes:
            first = self._parts[0] if self._parts else line
            assert isinstance(first, bytes)
            is_message = _STREAMABLE.match(first) is not None
            return None if is_message and literal_size <= self.message_limit_bytes else "The literal is too large"
        if self._held_bytes + len(line) + literal_size > limits.command_bytes:
            return "The command is too large"
        return "The command has too many literals" if len(self._parts) > 2 * limits.literals else None

    def _too_large(self, line: bytes, reason: str) -> CommandTooLarge:
        first = self._parts[0] if self._parts else line
        assert isinstance(first, bytes)
        tag = _TAG.match(first, 0, self._limits.line_bytes)
        self._reset()
        return CommandTooLarge(tag[0].decode("ascii") if tag else "*", reason)

    def _open_literal(self, size: int) -> None:
        if size < self._limits.stream_from_bytes:
            self._inline_size = size
            return
        self._streams += 1
        self._streamed, self._left, self._is_start_due = StreamedLiteral(self._streams, size), size, True
