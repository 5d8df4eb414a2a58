"""The worker that follows an account: one at a time, by a row that it renews and whose epoch fences its writes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

from app.cluster.claims import LeaseGrace, Renewal
from app.db import leases
from app.db.claims import FOR_EVER_MS
from app.db.session import Database, Transaction
from app.mail.types import AccountId


class Leases:
    """The leases of one worker.

    `is_alone`: no other process shares the database. A take then replaces leases of an earlier run of this process,
    and nothing needs renewing. It fails only while a write under the earlier epoch still locks the row.
    """

    def __init__(self, database: Database, *, is_alone: bool, worker: str | None = None) -> None:
        self._database = database
        self.is_alone = is_alone
        self._worker = worker or secrets.token_hex(8)
        self._patience = LeaseGrace(database)
        self._held: dict[AccountId, int] = {}
        self._lock = asyncio.Lock()

    async def take(self, account_ids: Sequence[AccountId], limit: int) -> dict[AccountId, int]:
        """Take up to `limit` of these accounts, which this worker does not hold, if they are free: id → epoch."""
        slack_ms = FOR_EVER_MS if self.is_alone else self._patience.slack_ms
        taken = set() if self.is_alone or not account_ids else await leases.taken(self._database, slack_ms)
        free = [id_ for id_ in account_ids if id_ not in taken]

        async def work(transaction: Transaction) -> dict[str, int]:
            return await leases.take(transaction, free, self._worker, slack_ms=slack_ms, limit=limit)

        if not free:
            return {}
        async with self._lock:
            epochs = _typed(await self._database.write(work, is_durable=False))
            self._held |= epochs
        return epochs

    @property
    def held(self) -> dict[AccountId, int]:
        """The leases held after the last take or renewal: id → epoch."""
        return dict(self._held)

    async def renew(self) -> dict[AccountId, int]:
        """Extend the leases. Return those that are still held: id → epoch."""

        async def work(transaction: Transaction) -> dict[str, int]:
            return await leases.renew(transaction, self._worker)

        async with self._lock:
            if self.is_alone:
                epochs = await leases.held(self._database, self._worker)
            else:
                epochs = await self._database.write(work, is_durable=False)
            self._held = _typed(epochs)
        return self.held

    async def keep(self, on_change: Callable[[], None]) -> None:
        """Renew until all leases are lost, because no renewal succeeds. `on_change` is called when one was lost."""

        async def renew() -> bool:
            before = self.held
            if not before.items() <= (await self.renew()).items():
                on_change()
            return True

        await Renewal(renew, is_alone=self.is_alone).run()
        self._held = {}

    async def release(self, account_ids: Sequence[AccountId]) -> None:
        """Release these accounts, so that others can take them at once."""

        async def work(transaction: Transaction) -> None:
            await leases.release(transaction, account_ids, self._worker)

        async with self._lock:
            await self._database.write(work, is_durable=False)
            self._held = {id_: epoch for id_, epoch in self._held.items() if id_ not in set(account_ids)}


def _typed(epochs: dict[str, int]) -> dict[AccountId, int]:
    return {AccountId(id_): epoch for id_, epoch in epochs.items()}
