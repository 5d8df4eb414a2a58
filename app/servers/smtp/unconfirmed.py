"""Submitted messages whose 250 reply the client may not have received.

A client whose connection ends between the final dot and the reply does not know whether its message was accepted, and
sends it again (RFC 5321 §4.5.3.2.6, §6.1, RFC 1047). A message is unconfirmed until its client sends something after
the reply. Until then the same message is not accepted a second time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from app.errors import Unavailable
from app.mail.types import AccountId

FORGET_SECONDS = 600.0
TURN_SECONDS = 60.0
"""How long a message waits while another session, whose client has disconnected, processes the same message."""
_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Identifies a submitted message. `digest`: SHA-256 of the content as the client sent it."""

    account_id: AccountId
    sender: str
    recipients: frozenset[str]
    message_id: str
    digest: bytes


class Unconfirmed:
    """The unconfirmed messages of the last ten minutes, in this process only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accepted_at: dict[Fingerprint, float] = {}
        self._turns: WeakValueDictionary[Fingerprint, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, message: Fingerprint) -> AsyncIterator[bool]:
        """Lock a message against other sessions; yield whether it was already accepted. Raises Unavailable."""
        lock = self._turns.setdefault(message, asyncio.Lock())
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await lock.acquire()
        except TimeoutError:
            raise Unavailable("Another session is processing the same message") from None
        try:
            yield self._is_known(message)
        finally:
            lock.release()

    def add(self, message: Fingerprint) -> None:
        """Record that the message was accepted."""
        if len(self._accepted_at) >= _LIMIT:
            del self._accepted_at[next(iter(self._accepted_at))]
        self._accepted_at[message] = self._clock()

    def confirm(self, message: Fingerprint) -> None:
        """Remove a message: its client has sent more, so it has the reply."""
        self._accepted_at.pop(message, None)

    def _is_known(self, message: Fingerprint) -> bool:
        oldest = self._clock() - FORGET_SECONDS
        while self._accepted_at and self._accepted_at[first := next(iter(self._accepted_at))] < oldest:
            del self._accepted_at[first]
        return message in self._accepted_at
