"""The web origins of all tokens, for preflights and refusals, which carry no token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection

from app.cluster.bus import ORIGINS, Bus, CallbackWaiter
from app.db import origins
from app.db.session import Database
from app.errors import GatewayError
from app.mail.identifiers import now_ms

ENDED_MS = 24 * 3600 * 1000
"""How long a token's origins stay known after its end, so that its pages can read why they are refused."""
CACHE_SECONDS = 5.0
"""How long a new origin may stay unknown to a process that missed another process's poke."""
RETRY_SECONDS = 1.0
"""The delay after a failed read."""
LIMIT = 10_000
"""How many lists of origins are read."""


class KnownOrigins:
    """The origins of all tokens that are valid or ended within 24 h, as cached in this process."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._known: frozenset[str] = frozenset()
        self._fresh_until = 0.0
        self._generation = 0
        self._reading = asyncio.Lock()
        self._forgetting = CallbackWaiter(self.forget)
        bus.listen(self._forgetting, ORIGINS)

    async def knows(self, origin: str) -> bool:
        """Whether a token allows pages of this origin. Uses the cached origins if the database does not answer."""
        if not self._is_fresh():
            async with self._reading:
                if not self._is_fresh():
                    await self._read()
        return origin in self._known

    def note(self, origins_of_token: Collection[str]) -> None:
        """Call this after a token with these origins was committed: if one is new, the other processes read again."""
        if self._known.issuperset(origins_of_token):
            return
        self._bus.poke(ORIGINS)
        known = self._known if len(self._known) < LIMIT else frozenset()
        self._known = known.union(origins_of_token)

    def forget(self) -> None:
        """Read again at the next request: a token was created."""
        self._generation += 1
        self._fresh_until = 0.0

    def _is_fresh(self) -> bool:
        return self._fresh_until > time.monotonic()

    async def _read(self) -> None:
        generation = self._generation
        try:
            self._known = await origins.known(self._database, now_ms() - ENDED_MS, LIMIT)
        except GatewayError:
            self._fresh_until = time.monotonic() + RETRY_SECONDS
            return
        if generation == self._generation:  # no token was created while the rows were read
            self._fresh_until = time.monotonic() + CACHE_SECONDS
