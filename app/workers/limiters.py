"""How many accounts of this process do the same costly thing at once, so that hundreds start gradually.

One server's trouble is its own: few accounts of one host run at a time, and an account that has long been waiting for
an answer makes room for others, since waiting costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary


class Limiter:
    """Lets `total` in at once, of one host `per_host`; who is in for `patience_seconds` does not count any more."""

    def __init__(self, total: int, per_host: int, patience_seconds: float) -> None:
        self._room = asyncio.Semaphore(total)
        self._per_host = per_host
        self._patience_seconds = patience_seconds
        self._hosts: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def entered(self, host: str) -> AsyncIterator[None]:
        """Wait for the turn of an account on `host`, and be in during the block."""
        at_host = self._hosts.get(host)
        if at_host is None:
            at_host = self._hosts[host] = asyncio.Semaphore(self._per_host)
        async with at_host:
            await self._room.acquire()
            place = _Place(self._room)
            timer = asyncio.get_running_loop().call_later(self._patience_seconds, place.leave)
            try:
                yield
            finally:
                timer.cancel()
                place.leave()


class _Place:
    """One place of a semaphore, given back once."""

    def __init__(self, room: asyncio.Semaphore) -> None:
        self._room: asyncio.Semaphore | None = room

    def leave(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.release()


@dataclass(slots=True)
class Limiters:
    connecting: Limiter = field(default_factory=lambda: Limiter(20, 10, 2.0))
    filling: Limiter = field(default_factory=lambda: Limiter(4, 2, 60.0))
