"""Limits how many accounts of this process do the same expensive work at once, so that hundreds start gradually.

A failing server delays only its own accounts: few accounts of one host run at a time, and an account that has waited
long for a response frees its slot, because waiting costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary


class Limiter:
    """Admits `total` accounts at once, `per_host` of one host. After `patience_seconds` an account no longer counts."""

    def __init__(self, total: int, per_host: int, patience_seconds: float) -> None:
        self._slots = asyncio.Semaphore(total)
        self._per_host = per_host
        self._patience_seconds = patience_seconds
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def entered(self, host: str) -> AsyncIterator[None]:
        """Wait for a slot for an account on `host`, and hold it during the block."""
        at_host = self._hosts.get(host)
        if at_host is None:
            at_host = self._hosts[host] = asyncio.Semaphore(self._per_host)
        async with at_host:
            await self._slots.acquire()
            slot = _Slot(self._slots)
            timer = asyncio.get_running_loop().call_later(self._patience_seconds, slot.release)
            try:
                yield
            finally:
                timer.cancel()
                slot.release()


class _Slot:
    """One slot of a semaphore, released once."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots: asyncio.Semaphore | None = slots

    def release(self) -> None:
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.release()


@dataclass(slots=True)
class Limiters:
    connecting: Limiter = field(default_factory=lambda: Limiter(20, 10, 2.0))
    filling: Limiter = field(default_factory=lambda: Limiter(4, 2, 60.0))
