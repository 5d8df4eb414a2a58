"""Deadlines of commands, from the time they are sent, extended while a large literal is transferred."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from app.backends.imap.connection.exchange import Exchange
from app.errors import MailServerError, TimedOut

PROGRESS_BYTES = 64 * 1024
"""The deadline of a command is renewed each time this many bytes of its literals were transferred."""


class Deadlines:
    """The deadlines of one connection's commands. `expire` is called with TimedOut when one has passed."""

    __slots__ = ("_expire", "_moved_bytes")

    def __init__(self, expire: Callable[[MailServerError], None]) -> None:
        self._expire = expire
        self._moved_bytes = 0

    def begin(self, exchange: Exchange) -> None:
        """Start the deadline of a command that is sent now."""
        self._moved_bytes = 0
        self.renew(exchange)

    def renew(self, exchange: Exchange, seconds: float | None = None) -> None:
        """Restart the deadline of a command, with its own timeout or with `seconds`."""
        if exchange.deadline is not None:
            exchange.deadline.cancel()
        delay = exchange.timeout_seconds if seconds is None else seconds
        exchange.deadline = asyncio.get_running_loop().call_later(delay, self._expire, TimedOut())

    def count(self, exchange: Exchange, size_bytes: int) -> None:
        """Count transferred bytes of a command's literal."""
        self._moved_bytes += size_bytes
        if self._moved_bytes >= PROGRESS_BYTES:
            self._moved_bytes = 0
            self.renew(exchange)
