"""Readiness checks of this process."""

from __future__ import annotations

import asyncio
import time

from app.db.probing import probe
from app.db.session import Database
from app.errors import Unavailable
from app.mailstore.blobs import Blobs

PROBE_TIMEOUT_SECONDS = 2.0
REMEMBERED_SECONDS = 2.0
"""How long a result is cached, so that many checks do not cause many writes."""


class NotReady(Unavailable):
    """The process is stopping, or its database or disk fails."""

    code = "not_ready"


class Health:
    """`draining` is set when the process begins to stop."""

    def __init__(self, database: Database, blobs: Blobs, draining: asyncio.Event) -> None:
        self._database = database
        self._blobs = blobs
        self._probing = asyncio.Lock()
        self._problem: str | None = None
        self._probed_at = float("-inf")
        self._draining = draining

    async def check(self) -> None:
        """Read and write the database, and write a file beside the messages. Raises NotReady with the cause."""
        if self._draining.is_set():
            raise NotReady("The process is ending")
        async with self._probing:
            if time.monotonic() - self._probed_at > REMEMBERED_SECONDS:
                self._problem = await self._find_problem()
                self._probed_at = time.monotonic()
        if self._problem is not None:
            raise NotReady(self._problem)

    async def _find_problem(self) -> str | None:
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                await probe(self._database)
        except TimeoutError:
            return "The database does not answer"
        except Unavailable as error:
            return error.detail
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                await asyncio.to_thread(self._blobs.probe)
        except TimeoutError:
            return "The disk of the messages does not answer"
        except Unavailable as error:
            return f"Messages cannot be stored: {error.detail}"
        return None
