"""Who follows an account: one worker at a time, by a row that it renews and whose epoch fences what it writes."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from app.db import leases
from app.db.session import Database, Row, Transaction
from app.mail.identifiers import now_ms
from app.mail.types import AccountId

LEASE_MS = 60_000
RENEW_SECONDS = 20.0
_FOR_EVER_MS = 2**62


class Leases:
    """The leases of one worker. `is_alone` where no other process shares the database: each take succeeds at once,
    and what an earlier run of this process left is no obstacle."""

    def __init__(self, database: Database, *, is_alone: bool, worker: str | None = None) -> None:
        self._database = database
        self._is_alone = is_alone
        self._worker = worker or secrets.token_hex(8)

    async def take(self, account_ids: Sequence[AccountId], limit: int) -> dict[AccountId, int]:
        """Take up to `limit` of these accounts, which this worker doesn't hold, as far as they are free: id → epoch."""

        async def work(transaction: Transaction) -> Sequence[Row]:
            now = now_ms()
            before = _FOR_EVER_MS + 1 if self._is_alone else now
            return await leases.take(
                transaction, account_ids, self._worker, before_ms=before, until_ms=self._until(now), limit=limit
            )

        return _epochs(await self._database.write(work, is_durable=False)) if account_ids else {}

    async def renew(self) -> dict[AccountId, int]:
        """Hold for longer; what is still held: id → epoch. To be called every RENEW_SECONDS."""

        async def work(transaction: Transaction) -> Sequence[Row]:
            now = now_ms()
            return await leases.renew(transaction, self._worker, now_ms=now, until_ms=self._until(now))

        return _epochs(await self._database.write(work, is_durable=False))

    async def release(self, account_ids: Sequence[AccountId]) -> None:
        """Let others have these accounts now."""

        async def work(transaction: Transaction) -> None:
            await leases.release(transaction, account_ids, self._worker)

        await self._database.write(work, is_durable=False)

    def _until(self, now: int) -> int:
        return _FOR_EVER_MS if self._is_alone else now + LEASE_MS


def _epochs(rows: Sequence[Row]) -> dict[AccountId, int]:
    return {AccountId(row[0]): row[1] for row in rows}
