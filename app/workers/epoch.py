"""Increases the change count in the database and in the mark outside it as the database changes: see `db.epoch`.

Each process counts its own changes, so a count higher than expected shows that another process has written: a CLI
command, or another server on the same PostgreSQL database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from app.db import epoch, installation
from app.db.session import Database
from app.errors import GatewayError
from app.settings import Settings
from app.workers.loop import forever

PAUSE_SECONDS = 0.2
"""The first change is counted at once; changes within this time after it are counted together."""
LOOK_SECONDS = 0.5
"""How often the count is read while this process changes nothing."""


class EpochKeeper:
    """Call `run`, `wake` after each write, and `close` before the database is closed.

    `on_others` is called after another process has written.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._changed = asyncio.Event()
        self._changed.set()
        self._tick: int | None = None
        self.on_others: Callable[[], None] = lambda: None

    def wake(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Increase the count at the start and after each change, until cancelled."""
        await forever("epoch", self._step)

    async def _step(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._changed.wait()
        await self.count()
        await asyncio.sleep(PAUSE_SECONDS)

    async def count(self) -> None:
        """Increase the count if this process has written; call `on_others` if it is not as expected."""
        has_written = self._changed.is_set()
        self._changed.clear()
        try:
            tick = await self._count_on() if has_written else await self._read()
        except BaseException:
            if has_written:
                self._changed.set()
            raise
        is_as_expected = self._tick is None or tick == self._tick + has_written
        self._tick = tick
        if not is_as_expected:
            self.on_others()

    async def _count_on(self) -> int:
        return await epoch.count_on(self._settings, self._database)

    async def _read(self) -> int:
        row = await installation.read(self._database)
        assert row is not None  # created when the database was opened
        return row.tick

    async def close(self) -> None:
        """Increase the count, so that earlier copies of the database can be detected."""
        with suppress(GatewayError, OSError):
            await self._count_on()
