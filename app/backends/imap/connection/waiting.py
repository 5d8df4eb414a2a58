"""The commands of a connection that have not ended, and the command that waits for a continuation request."""

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
        """The command that an untagged response belongs to: the oldest that requests its kind, else the oldest.

        Servers may complete commands out of order: Dovecot completes a FETCH before an earlier NOOP.
        """
        waiting = self._exchanges.values()
        if len(waiting) > 1 and (name := lines.name(text)) is not None:
            for exchange in waiting:
                if name in exchange.expects:
                    return exchange
        return next(iter(waiting), None)

    def fail(self, error: MailServerError) -> None:
        """End all commands by an error."""
        for exchange in self._exchanges.values():
            exchange.fail(error)
        self._exchanges.clear()


class ContinuationWait:
    """Waits for a continuation request (`+`), for one command at a time."""

    __slots__ = ("_exchange", "_future")

    def __init__(self) -> None:
        self._future: asyncio.Future[bytes | None] | None = None
        self._exchange: Exchange | None = None

    async def wait(self, exchange: Exchange) -> bytes | None:
        """The text of the next continuation request; None if the command ended instead."""
        if exchange.is_done:
            return None
        self._future, self._exchange = asyncio.get_running_loop().create_future(), exchange
        try:
            return await self._future
        finally:
            self._future = self._exchange = None

    def give(self, text: bytes) -> bool:
        """Pass on a continuation request; False if no command waits for one."""
        if self._future is None or self._future.done():
            return False
        self._future.set_result(text)
        return True

    def refuse(self, exchange: Exchange | None = None) -> None:
        """End the wait of this command, or of any command if None: no continuation request follows."""
        is_affected = exchange is None or exchange is self._exchange
        if is_affected and self._future is not None and not self._future.done():
            self._future.set_result(None)
