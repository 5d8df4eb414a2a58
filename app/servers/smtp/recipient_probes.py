"""Slows down directory harvesting: a client address that names many unknown recipients waits for each reply.

After FREE unknown recipients within a few minutes, RCPT commands from the address are answered one at a time with a
growing delay, across all its connections. Commands that would wait too long are refused temporarily, so known
recipients get their mail later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.security.addresses import counted_as

FREE = 10
FORGET_SECONDS = 30.0
"""The count of unknown recipients decreases by one after each such interval."""
PAUSE_SECONDS = 0.1
PAUSE_LIMIT_SECONDS = 1.0
WAIT_LIMIT_SECONDS = 10.0
_ADDRESSES_LIMIT = 10_000


@dataclass(slots=True)
class _Record:
    count: float = 0.0
    counted_at: float = 0.0
    free_at: float = 0.0


class RecipientProbes:
    """Counts unknown recipients and delays replies, in this process only."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._records: dict[str, _Record] = {}

    def add(self, address: str) -> None:
        """Count an unknown recipient of a client with this address."""
        key = counted_as(address)
        if key not in self._records and len(self._records) >= _ADDRESSES_LIMIT:
            self._forget_old()
        record = self._records.setdefault(key, _Record(counted_at=self._clock()))
        record.count = self._count(record) + 1
        record.counted_at = self._clock()

    async def wait(self, address: str) -> bool:
        """Wait for this address's turn; return False if the wait would be too long."""
        record = self._records.get(counted_as(address))
        excess = 0.0 if record is None else self._count(record) - FREE
        if record is None or excess < 0:
            return True
        now = self._clock()
        delay = max(0.0, record.free_at - now) + min(PAUSE_LIMIT_SECONDS, PAUSE_SECONDS * (1 + excess))
        if delay > WAIT_LIMIT_SECONDS:
            return False
        record.free_at = now + delay
        await self._sleep(delay)
        return True

    def _count(self, record: _Record) -> float:
        """Return the current count: it decreases by one every FORGET_SECONDS."""
        return max(0.0, record.count - (self._clock() - record.counted_at) / FORGET_SECONDS)

    def _forget_old(self) -> None:
        self._records = {key: record for key, record in self._records.items() if self._count(record) > 0}
        while len(self._records) >= _ADDRESSES_LIMIT:
            del self._records[next(iter(self._records))]
