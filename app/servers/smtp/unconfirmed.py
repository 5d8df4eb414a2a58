"""Submitted messages whose 250 the client may not have received.

A client whose connection ends between the final dot and the reply does not know whether its message was taken, and
sends it again (RFC 5321 §4.5.3.2.6, §6.1, RFC 1047). A message counts as unconfirmed until its client sends something
after the reply. The same message is not taken a second time meanwhile.
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
"""How long a message waits for the same message in another session, whose client has left, to be taken."""
_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What makes two submissions the same message. `digest`: SHA-256 of the content as the client sent it."""

    account_id: AccountId
    sender: str
    recipients: frozenset[str]
    message_id: str
    digest: bytes


class Unconfirmed:
    """The unconfirmed messages of the last ten minutes, in this process alone."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken_at: dict[Fingerprint, float] = {}
        self._turns: WeakValueDictionary[Fingerprint, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, message: Fingerprint) -> AsyncIterator[bool]:
        """Take a message while no other session takes the same; whether it was taken before. Raises Unavailable."""
        lock = self._turns.setdefault(message, asyncio.Lock())
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await lock.acquire()
        except TimeoutError:
            raise Unavailable("The same message is being taken in another session") from None
        try:
            yield self._is_known(message)
        finally:
            lock.release()

    def add(self, message: Fingerprint) -> None:
        """The message was taken."""
        if len(self._taken_at) >= _LIMIT:
            del self._taken_at[next(iter(self._taken_at))]
        self._taken_at[message] = self._clock()

    def confirm(self, message: Fingerprint) -> None:
        """The client goes on, so it has the reply."""
        self._taken_at.pop(message, None)

    def _is_known(self, message: Fingerprint) -> bool:
        oldest = self._clock() - FORGET_SECONDS
        while self._taken_at and self._taken_at[first := next(iter(self._taken_at))] < oldest:
            del self._taken_at[first]
        return message in self._taken_at
