"""Wakes everybody who waits for news when the database is back: what they missed, they now read."""

from __future__ import annotations

import asyncio

from app.cluster.bus import Bus
from app.db.probing import probe
from app.db.session import Database
from app.telemetry import get_logger
from app.workers.loop import forever

log = get_logger(__name__)

LOOK_SECONDS = 1.0


class Recovery:
    """`run` it."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._seen_failures = database.failure_count

    async def run(self) -> None:
        """Look for failures every second; probe the database after one until it works. Until cancelled."""
        await forever("recovery", self._rest_and_look)

    async def _rest_and_look(self) -> None:
        await asyncio.sleep(LOOK_SECONDS)
        await self.look()

    async def look(self) -> None:
        """Wake all if the database has failed and works now. Raises DatabaseUnavailable, StorageFull."""
        if self._database.failure_count == self._seen_failures:
            return
        await probe(self._database)
        self._seen_failures = self._database.failure_count
        for topic in list(self._bus.heard()):
            self._bus.poke(topic)
        log.info("database_recovered")
