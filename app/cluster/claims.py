"""How a process holds its claims.

`app.db.claims` defines a claim in the database. This module renews the claims of a process. A process that dies stops
renewing, and another takes over its work within LEASE_SECONDS plus the interval of its checks, in all less than 15 s.

When a claim is lost, `hold` stops the work. Work that must not be interrupted (an SMTP transaction whose content has
begun, a refresh token that the server may have replaced) runs under `renewed` instead: it continues, and the fence
rejects its writes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from app.db.claims import FOR_EVER_MS, LEASE_MS
from app.db.session import Database
from app.errors import Conflict, Unavailable
from app.telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

LEASE_SECONDS = LEASE_MS / 1000
RENEW_SECONDS = 3.0
"""The longest time between two renewals: two may fail before a claim ends."""
DEADLINE_SECONDS = 5.0
"""The longest time that one renewal may take."""


class ClaimLost(Conflict):
    """Another process holds the claim, or may hold it by now."""


class Renewal:
    """Renews claims while it runs. `renew` returns False once they are lost.

    `is_alone`: no other process shares the database, so a claim that cannot be renewed is still held.
    """

    def __init__(self, renew: Callable[[], Awaitable[bool]], *, is_alone: bool = False) -> None:
        self._renew = renew
        self._is_alone = is_alone
        self._held_until = time.monotonic() + LEASE_SECONDS

    async def run(self) -> None:
        """Return when the claim is lost: another process has it, or no renewal succeeded for a whole lease."""
        while self._is_alone or time.monotonic() < self._held_until:
            await asyncio.sleep(RENEW_SECONDS * random.uniform(0.7, 1.0))  # noqa: S311 - jitter, not a secret
            asked_at = time.monotonic()
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    is_held = await self._renew()
            except (Unavailable, TimeoutError) as error:
                log.warning("claim_not_renewed", error=type(error).__name__)
                continue
            if not is_held:
                return
            self._held_until = asked_at + LEASE_SECONDS


async def hold(work: Awaitable[T], renewal: Renewal) -> T:
    """Do the work while the claim is renewed. If the claim is lost first, cancel the work and raise ClaimLost."""
    running = asyncio.ensure_future(work)
    renewing = asyncio.create_task(renewal.run())
    try:
        await asyncio.wait({running, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            renewing.result()
            raise ClaimLost
        return running.result()
    finally:
        await _end(running, renewing)


@asynccontextmanager
async def renewed(renewal: Renewal) -> AsyncIterator[None]:
    """Renew a claim during the block, which continues if the claim is lost."""
    renewing = asyncio.create_task(renewal.run())
    try:
        yield
    finally:
        await _end(renewing)


async def _end(*tasks: asyncio.Future[T] | asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class LeaseGrace:
    """Whether expired leases prove that their holders are dead.

    After a failure of the database they do not, because the holders could not renew them. They get the time of one
    lease.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._failures = database.failure_count
        self._until = 0.0

    @property
    def slack_ms(self) -> int:
        """The parameter of `app.db.claims.is_free`."""
        if self._database.failure_count != self._failures:
            self._failures = self._database.failure_count
            self._until = time.monotonic() + LEASE_SECONDS
        return -FOR_EVER_MS if time.monotonic() < self._until else 0
