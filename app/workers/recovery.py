"""Wakes everything that waits on the bus when the database has recovered, so that missed events are read."""

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
    """Checks whether the database has failed, and waits for its recovery. Call `run`."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._seen_failures = database.failure_count

    async def run(self) -> None:
        """Check for failures every second; after one, probe the database until it works. Until cancelled."""
        await forever("recovery", self._wait_and_check)

    async def _wait_and_check(self) -> None:
        await asyncio.sleep(LOOK_SECONDS)
        await self.look()

    async def look(self) -> None:
        """Wake all waiters if the database has failed and works again. Raises DatabaseUnavailable, StorageFull."""
        if self._database.failure_count == self._seen_failures:
            return
        await probe(self._database)
        self._seen_failures = self._database.failure_count
        for topic in list(self._bus.heard()):
            self._bus.poke(topic)
        log.info("database_recovered")
