"""Counts on, in the database and in the mark outside it, while the database changes: see `db.epoch`."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from app.db import epoch
from app.db.session import Database
from app.errors import GatewayError
from app.settings import Settings
from app.workers.loop import forever

PAUSE_SECONDS = 0.2
"""Changes that follow each other are counted once in this time; the first one at once."""


class EpochKeeper:
    """`run` it; `wake` it when something was written; `close` it before the database."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._changed = asyncio.Event()
        self._changed.set()

    def wake(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Count on at the start and after each change, until cancelled."""
        await forever("epoch", self._step)

    async def _step(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        try:
            await epoch.count_on(self._settings, self._database)
        except BaseException:
            self._changed.set()
            raise
        await asyncio.sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        """Count on, so that a copy of the database that was made until now is told from it."""
        with suppress(GatewayError, OSError):
            await epoch.count_on(self._settings, self._database)
