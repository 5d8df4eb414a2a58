"""The queue for argon2: few passwords are hashed at a time, and few clients' passwords wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from app.errors import RateLimited
from app.security.addresses import counted_as, is_loopback

HASHERS = 2
"""Passwords hashed at a time: each takes a core and 19 MiB."""
WAITING_LIMIT = 200
"""Passwords that wait or are hashed: some 5 s of work. More are refused at once."""
WAITING_LIMIT_PER_ADDRESS = 20
"""Those of one client address, so that one client never delays the others by more than 0.5 s."""
BUSY_SECONDS = 5.0

T = TypeVar("T")


class HashQueue:
    """Runs argon2 in threads of its own, so that no other work delays a sign-in."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(HASHERS)
        self._waiting: Counter[str] = Counter()

    async def run(self, work: Callable[[], T], address: str | None) -> T:
        """Run `work` in its turn. RateLimited where too many wait, of all clients or of this one.

        `address` is the client's IP address; None for a caller that may use all places. An address of this machine
        counts as none: a proxy or a back end there speaks for many.
        """
        client = None if address is None or is_loopback(address) else counted_as(address)
        if self._waiting.total() >= WAITING_LIMIT or self._has_too_many(client):
            raise RateLimited("Too many logins at once; try again soon", retry_after_seconds=BUSY_SECONDS)
        key = client or ""
        self._waiting[key] += 1
        try:
            async with self._turns:
                return await asyncio.get_running_loop().run_in_executor(_threads(), work)
        finally:
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]

    def _has_too_many(self, client: str | None) -> bool:
        return client is not None and self._waiting[client] >= WAITING_LIMIT_PER_ADDRESS


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(HASHERS, thread_name_prefix="passwords")
