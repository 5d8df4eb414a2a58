"""How long commands may take: from when they are sent, extended while a large literal is transferred."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.backends.imap.connection.exchange import Exchange
from app.errors import MailServerError, TimedOut

PROGRESS_BYTES = 64 * 1024
"""A command that transfers a large literal gets its full deadline again for each this many bytes."""


class Deadlines:
    """The deadlines of one connection's commands; `expire` is called with TimedOut when one has passed."""

    __slots__ = ("_expire", "_moved_bytes")

    def __init__(self, expire: Callable[[MailServerError], None]) -> None:
        self._expire = expire
        self._moved_bytes = 0

    def begin(self, exchange: Exchange) -> None:
        """The command leaves now."""
        self._moved_bytes = 0
        self.renew(exchange)

    def renew(self, exchange: Exchange, seconds: float | None = None) -> None:
        """Give a command its whole time from now, or so many seconds."""
        if exchange.deadline is not None:
            exchange.deadline.cancel()
        delay = exchange.timeout_seconds if seconds is None else seconds
        exchange.deadline = asyncio.get_running_loop().call_later(delay, self._expire, TimedOut())

    def count(self, exchange: Exchange, size_bytes: int) -> None:
        """So much of a literal of this command moved."""
        self._moved_bytes += size_bytes
        if self._moved_bytes >= PROGRESS_BYTES:
            self._moved_bytes = 0
            self.renew(exchange)
