"""The argon2 queue: bounds the passwords that are hashed at a time, and those that wait."""

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
"""Passwords that wait or are being hashed: about 5 s of work. Further ones are refused at once."""
WAITING_LIMIT_PER_ADDRESS = 20
"""Those of one client address, so that one client never delays the others by more than 0.5 s."""
BUSY_SECONDS = 5.0

T = TypeVar("T")


class HashQueue:
    """Runs argon2 in its own threads, so that other work never delays a sign-in."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(HASHERS)
        self._waiting: Counter[str] = Counter()

    async def run(self, work: Callable[[], T], address: str | None) -> T:
        """Run `work` in its turn. Raises RateLimited if too many wait, of all clients or of this one.

        `address` is the client's IP address; None for a caller without a limit of its own. A loopback address has no
        limit of its own either: a proxy or a back end there acts for many clients.
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
