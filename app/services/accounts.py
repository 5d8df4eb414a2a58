"""Accounts: who has mail here, and how fresh what we show of it is."""

from __future__ import annotations

import time
from dataclasses import dataclass

from app.db import directory
from app.db.session import Database
from app.errors import AccountNotFound
from app.mail.backend import SyncMode
from app.mail.identifiers import now_ms
from app.mail.types import AccountId
from app.services.callers import Caller

EXISTENCE_SECONDS = 5.0
"""How long an account that was removed on another node may still seem to be there, empty."""
_CACHE_LIMIT = 100_000


@dataclass(frozen=True, slots=True)
class SyncState:
    """How fresh the index of an account is. `status`: initial, live, down or paused."""

    status: str
    mode: SyncMode
    checked_at_ms: int

    @property
    def lag_seconds(self) -> int:
        """Seconds since the origin last confirmed what we show; 0 while we are told of every change."""
        if self.status == "live" or self.mode is SyncMode.EMBEDDED or not self.checked_at_ms:
            return 0
        return max(0, (now_ms() - self.checked_at_ms) // 1000)


class Accounts:
    """All accounts of this install."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[str, float] = {}

    async def exists(self, account_id: AccountId) -> bool:
        """Whether there is such an account; remembered for a few seconds."""
        if self._seen.get(account_id, 0.0) > time.monotonic():
            return True
        if not await directory.existing(self._database, [account_id]):
            return False
        if len(self._seen) >= _CACHE_LIMIT:
            self._seen.clear()
        self._seen[account_id] = time.monotonic() + EXISTENCE_SECONDS
        return True

    async def visible_ids(self, caller: Caller) -> list[AccountId]:
        """The accounts that a caller may use, oldest first."""
        if caller.account_ids is None:
            return [AccountId(one) for one in await directory.all_ids(self._database)]
        return sorted(AccountId(one) for one in await directory.existing(self._database, sorted(caller.account_ids)))

    async def sync(self, account_id: AccountId) -> SyncState:
        """How fresh its mail is. AccountNotFound."""
        row = await directory.sync_of(self._database, account_id)
        if row is None:
            raise AccountNotFound
        return SyncState(row[0], SyncMode(row[1]), row[2])
