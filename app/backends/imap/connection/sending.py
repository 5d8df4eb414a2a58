"""Writes commands: lines and literals, waiting for continuation requests where necessary."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from app.backends import tracing
from app.backends.imap.connection.deadlines import Deadlines
from app.backends.imap.connection.exchange import Exchange
from app.backends.imap.connection.waiting import ContinuationWait
from app.backends.imap.connection.wire import Wire
from app.errors import InvalidRequest
from app.mail.protocol_log import Recorder
from app.wire.imap.encode import LITERAL_MINUS, LITERAL_PLUS, NO_PLUS


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


class CommandSending:
    """Writes commands one after another."""

    __slots__ = ("_deadlines", "_go_ahead", "_wire")

    def __init__(self, wire: Wire, go_ahead: ContinuationWait, deadlines: Deadlines) -> None:
        self._wire = wire
        self._go_ahead = go_ahead
        self._deadlines = deadlines

    async def write(self, exchange: Exchange, offered: Collection[str], recorder: Recorder | None) -> None:
        """Write a command, until its last byte or its end. `offered` are the server's capabilities.

        Raises Unreachable, and InvalidRequest if the content has another length than announced.
        """
        tag = exchange.tag.encode()
        segments = exchange.command.segments(tag, _literal_limit(offered))
        tracing.imap_sent(recorder, exchange.command, tag, segments[0])
        for index, segment in enumerate(segments):
            if index and await self._go_ahead.wait(exchange) is None:
                return
            for piece in segment:
                if isinstance(piece, bytes):
                    self._wire.put(piece)
                else:
                    await self._upload(exchange, piece.size_bytes)

    async def _upload(self, exchange: Exchange, size_bytes: int) -> None:
        left = size_bytes
        async for chunk in exchange.content or _nothing():
            left -= len(chunk)
            if left < 0:
                break
            self._wire.put(chunk)
            self._deadlines.count(exchange, len(chunk))
            await self._wire.drain()
        if left:
            raise InvalidRequest("The content does not have the announced length")


def _literal_limit(offered: Collection[str]) -> int:
    if "LITERAL+" in offered:
        return LITERAL_PLUS
    return LITERAL_MINUS if "LITERAL-" in offered else NO_PLUS
