"""Results of IMAP commands: completions, and sinks for large literals."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.errors import OriginAnswer, ServerProtocolError, ServerRefused, Throttled
from app.wire.imap.codes import ResponseCode, split_code
from app.wire.imap.framing import Response, StreamedLiteral

HIGH_WATER_BYTES = 512 * 1024
LOW_WATER_BYTES = 128 * 1024
MAX_COLLECTED_BYTES = 16 * 1024 * 1024
"""Bytes of large literals of one response that are kept in memory."""
_SHOWN_CHARS = 300
REST_SECONDS = 30.0
"""Shortest time without requests after a server throttled an account."""
_THROTTLING = re.compile(
    rb"too many (?:simultaneous |concurrent )?connections|exceeded command or bandwidth limits"  # Gmail
    rb"|maximum number of connections from user"  # Dovecot
    rb"|server unavailable\. \d+|user is authenticated but not connected"  # Microsoft 365
    rb"|rate limit hit",  # Yahoo
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class CommandCompletion:
    """The completion of a command: `status` OK, NO or BAD, the text after it, and the kept untagged responses."""

    status: str
    text: bytes
    responses: Sequence[Response]

    def check(self) -> CommandCompletion:
        """Return self if OK. Raises Throttled or ServerRefused for NO, ServerProtocolError for BAD."""
        if self.status == "OK":
            return self
        if self.is_throttling:
            raise self.throttled()
        kind = ServerRefused if self.status == "NO" else ServerProtocolError
        raise kind(origin=self.origin)

    @property
    def is_throttling(self) -> bool:
        """Whether the server throttles the account.

        Gmail uses several codes, among them that of a full mailbox; Dovecot and others limit connections; Microsoft 365
        returns BAD after an accepted login.
        """
        if self.status == "OK":
            return False
        return (self.code is not None and self.code.name == "THROTTLED") or is_throttling(self.text)

    def throttled(self) -> Throttled:
        return throttled(self.origin)

    @property
    def code(self) -> ResponseCode | None:
        """The response code in the text, or None."""
        return split_code(self.text.decode("utf-8", "surrogateescape"))[0]

    @property
    def origin(self) -> OriginAnswer:
        """The status line for an error: one printable line of bounded length."""
        return shown(f"{self.status} ".encode() + self.text)


def is_throttling(text: bytes) -> bool:
    """Whether a status text means that the server throttles the account."""
    return _THROTTLING.search(text) is not None


def throttled(origin: OriginAnswer) -> Throttled:
    return Throttled("The mail server limits this account at the moment", origin, REST_SECONDS)


def shown(text: bytes) -> OriginAnswer:
    """A status text for an error: one printable line of bounded length."""
    line = text[: _SHOWN_CHARS + 4].decode("utf-8", "replace")
    return OriginAnswer("imap", "".join(character for character in line if character.isprintable()))


class LiteralSink(Protocol):
    """Receives the large literals of a command's responses, in order."""

    def start(self, literal: StreamedLiteral, /) -> None: ...

    def write(self, data: bytes) -> None: ...

    def fill(self, response: Response) -> Response:
        """The response, with the literals that this sink kept."""
        ...

    def close(self) -> None:
        """The command has ended, successfully or not."""
        ...


class Collector:
    """Keeps the large literals of one response, up to MAX_COLLECTED_BYTES."""

    __slots__ = ("_kept", "_size_bytes")

    def __init__(self) -> None:
        self._kept: dict[int, bytearray] = {}
        self._size_bytes = 0

    def start(self, literal: StreamedLiteral) -> None:
        self._size_bytes += literal.size_bytes
        if self._size_bytes > MAX_COLLECTED_BYTES:
            raise ServerProtocolError("The server sends a literal that is too large")
        self._kept[literal.number] = bytearray()

    def write(self, data: bytes) -> None:
        self._kept[next(reversed(self._kept))] += data

    def fill(self, response: Response) -> Response:
        if not self._kept:
            return response
        parts = tuple(bytes(self._kept[p.number]) if isinstance(p, StreamedLiteral) else p for p in response.parts)
        self._kept.clear()
        self._size_bytes = 0
        return Response(parts)

    def close(self) -> None:
        self._kept.clear()


class DiscardingSink:
    """A sink that discards everything."""

    __slots__ = ()

    def start(self, literal: StreamedLiteral, /) -> None: ...

    def write(self, data: bytes) -> None: ...

    def fill(self, response: Response) -> Response:
        return response

    def close(self) -> None: ...


class LiteralStream:
    """A sink that is read while it fills. Above HIGH_WATER_BYTES the connection stops reading."""

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause, self._resume = pause, resume
        self._chunks: deque[bytes] = deque()
        self.buffered_bytes = 0
        self._is_paused = self._is_closed = False
        self._has_data = asyncio.Event()
        self.is_started = False

    def start(self, _literal: StreamedLiteral, /) -> None:
        self.is_started = True

    def write(self, data: bytes) -> None:
        self._chunks.append(data)
        self.buffered_bytes += len(data)
        self._has_data.set()
        if self.buffered_bytes > HIGH_WATER_BYTES and not self._is_paused:
            self._is_paused = True
            self._pause()

    def fill(self, response: Response) -> Response:
        return response

    def close(self) -> None:
        self._is_closed = True
        self._has_data.set()

    def release(self) -> None:
        """Discard the content, so that the connection can continue reading."""
        self._chunks.clear()
        self.buffered_bytes = 0
        self._resume_when_low()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks in order until the command has ended. The caller checks the command's completion."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self.buffered_bytes -= len(chunk)
                self._resume_when_low()
                yield chunk
            if self._is_closed:
                return
            self._has_data.clear()
            await self._has_data.wait()

    def _resume_when_low(self) -> None:
        if self._is_paused and self.buffered_bytes <= LOW_WATER_BYTES:
            self._is_paused = False
            self._resume()
