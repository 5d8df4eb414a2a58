"""The commands of a connection that have not ended, and the one that waits for the server's `+`."""

from __future__ import annotations

import asyncio

from app.backends.imap.connection import lines
from app.backends.imap.connection.exchange import Exchange
from app.errors import MailServerError


class Waiting:
    """The commands that have not ended, by tag, oldest first."""

    __slots__ = ("_exchanges",)

    def __init__(self) -> None:
        self._exchanges: dict[bytes, Exchange] = {}

    def __len__(self) -> int:
        return len(self._exchanges)

    def add(self, exchange: Exchange) -> None:
        self._exchanges[exchange.tag.encode()] = exchange

    def get(self, tag: bytes) -> Exchange | None:
        return self._exchanges.get(tag)

    def remove(self, tag: bytes) -> None:
        del self._exchanges[tag]

    def owner(self, text: bytes) -> Exchange | None:
        """Whose an untagged response is: the oldest command's that asks for this kind, else the oldest.

        Servers begin commands in turn but need not end them so: Dovecot answers a FETCH before a NOOP ahead of it.
        """
        waiting = self._exchanges.values()
        if len(waiting) > 1 and (name := lines.name(text)) is not None:
            for exchange in waiting:
                if name in exchange.expects:
                    return exchange
        return next(iter(waiting), None)

    def fail(self, error: MailServerError) -> None:
        """End all of them by an error."""
        for exchange in self._exchanges.values():
            exchange.fail(error)
        self._exchanges.clear()


class ContinuationWait:
    """The server's `+`, for which one command at a time may wait."""

    __slots__ = ("_coming", "_exchange")

    def __init__(self) -> None:
        self._coming: asyncio.Future[bytes | None] | None = None
        self._exchange: Exchange | None = None

    async def wait(self, exchange: Exchange) -> bytes | None:
        """The text of the next `+`; None when the command ended instead."""
        if exchange.is_done:
            return None
        self._coming, self._exchange = asyncio.get_running_loop().create_future(), exchange
        try:
            return await self._coming
        finally:
            self._coming = self._exchange = None

    def give(self, text: bytes) -> bool:
        """Hand on a `+`; False where nobody waits for one."""
        if self._coming is None or self._coming.done():
            return False
        self._coming.set_result(text)
        return True

    def refuse(self, exchange: Exchange | None = None) -> None:
        """No `+` comes any more, to this command (to whichever waits)."""
        is_its = exchange is None or exchange is self._exchange
        if is_its and self._coming is not None and not self._coming.done():
            self._coming.set_result(None)
