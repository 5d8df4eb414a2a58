"""Whether this process can do its work."""

from __future__ import annotations

import asyncio

from app.db import directory
from app.db.session import Database
from app.errors import Unavailable

READY_TIMEOUT_SECONDS = 2.0


class NotReady(Unavailable):
    """The process is ending."""

    code = "not_ready"
    title = "The process is not ready"


class Health:
    """`is_draining` is set when the process begins to end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_draining = False

    async def check(self) -> None:
        """Raises NotReady."""
        if self.is_draining:
            raise NotReady("The process is ending")
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                await directory.page(self._database, "", 1, None)
        except (TimeoutError, OSError) as error:
            raise NotReady("The database does not answer") from error
