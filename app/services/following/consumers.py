"""Named consumers, whose positions in the log the server stores."""

from __future__ import annotations

from app.db import consumers
from app.db.session import Database
from app.mail.types import AccountId
from app.services.access.callers import Caller


class Consumers:
    """Positions by account, kind of caller and name: an app's back end and its users' phones do not share them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acknowledge(self, account_id: AccountId, caller: Caller, name: str, seq: int) -> None:
        await consumers.acknowledge(self._database, account_id, caller.kind, name, seq)

    async def place(self, account_id: AccountId, caller: Caller, name: str) -> int | None:
        """Return the number of the last event that this name acknowledged, or None."""
        return await consumers.acknowledged(self._database, account_id, caller.kind, name)
