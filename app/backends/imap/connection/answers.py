"""What comes back over an IMAP connection: how a command ended, and where its large literals go."""

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
"""Large literals of one response that are kept in memory."""
_SHOWN_CHARS = 300
REST_SECONDS = 30.0
"""For so long a server that has had enough of an account is left alone at least."""
_ENOUGH = re.compile(
    rb"too many (?:simultaneous |concurrent )?connections|exceeded command or bandwidth limits"  # Gmail
    rb"|maximum number of connections from user"  # Dovecot
    rb"|server unavailable\. \d+|user is authenticated but not connected"  # Microsoft 365
    rb"|rate limit hit",  # Yahoo
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Completion:
    """How a command ended: `status` OK, NO or BAD, the text after it, and the untagged responses that were kept."""

    status: str
    text: bytes
    responses: Sequence[Response]

    def check(self) -> Completion:
        """Itself when OK. Raises Throttled or ServerRefused for NO, ServerProtocolError for BAD."""
        if self.status == "OK":
            return self
        if self.is_throttling:
            raise self.throttled()
        kind = ServerRefused if self.status == "NO" else ServerProtocolError
        raise kind(origin=self.origin)

    @property
    def is_throttling(self) -> bool:
        """Whether the server refuses since it has had enough of the account.

        Gmail says so under several codes, one of them that of a full mailbox; Dovecot and others say it of connections;
        Microsoft 365 answers BAD to a login that it took.
        """
        if self.status == "OK":
            return False
        return (self.code is not None and self.code.name == "THROTTLED") or is_enough(self.text)

    def throttled(self) -> Throttled:
        return throttled(self.origin)

    @property
    def code(self) -> ResponseCode | None:
        """The response code in its text."""
        return split_code(self.text.decode("utf-8", "surrogateescape"))[0]

    @property
    def origin(self) -> OriginAnswer:
        """The answer as an error shows it: one printable line of bounded length."""
        return shown(f"{self.status} ".encode() + self.text)


def is_enough(text: bytes) -> bool:
    """Whether a status text says that the server has had enough of the account."""
    return _ENOUGH.search(text) is not None


def throttled(origin: OriginAnswer) -> Throttled:
    return Throttled("The mail server has had enough of this account for now", origin, REST_SECONDS)


def shown(text: bytes) -> OriginAnswer:
    """A status text as an error shows it: one printable line of bounded length."""
    line = text[: _SHOWN_CHARS + 4].decode("utf-8", "replace")
    return OriginAnswer("imap", "".join(character for character in line if character.isprintable()))


class LiteralSink(Protocol):
    """Where large literals of a command's answer go, in order."""

    def start(self, literal: StreamedLiteral, /) -> None: ...

    def write(self, data: bytes) -> None: ...

    def fill(self, response: Response) -> Response:
        """The response, with what this sink kept in its place."""
        ...

    def close(self) -> None:
        """The command has ended, well or not."""
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
            raise ServerProtocolError("The server sends a literal that is too large here")
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


class Ground:
    """A sink that keeps nothing."""

    __slots__ = ()

    def start(self, literal: StreamedLiteral, /) -> None: ...

    def write(self, data: bytes) -> None: ...

    def fill(self, response: Response) -> Response:
        return response

    def close(self) -> None: ...


class LiteralStream:
    """A sink that is read as it fills. Holds about HIGH_WATER_BYTES: beyond, the connection stops reading."""

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause, self._resume = pause, resume
        self._chunks: deque[bytes] = deque()
        self.held_bytes = 0
        self._is_paused = self._is_closed = False
        self._news = asyncio.Event()
        self.is_started = False

    def start(self, _literal: StreamedLiteral, /) -> None:
        self.is_started = True

    def write(self, data: bytes) -> None:
        self._chunks.append(data)
        self.held_bytes += len(data)
        self._news.set()
        if self.held_bytes > HIGH_WATER_BYTES and not self._is_paused:
            self._is_paused = True
            self._pause()

    def fill(self, response: Response) -> Response:
        return response

    def close(self) -> None:
        self._is_closed = True
        self._news.set()

    def release(self) -> None:
        """Nobody reads any more: let the connection go on."""
        self._chunks.clear()
        self.held_bytes = 0
        self._resume_when_low()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks in order until the command has ended; how it ended is to be asked of the command."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self.held_bytes -= len(chunk)
                self._resume_when_low()
                yield chunk
            if self._is_closed:
                return
            self._news.clear()
            await self._news.wait()

    def _resume_when_low(self) -> None:
        if self._is_paused and self.held_bytes <= LOW_WATER_BYTES:
            self._is_paused = False
            self._resume()
