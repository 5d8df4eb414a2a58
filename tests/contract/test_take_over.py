"""The accounts and submissions of a process that died are taken over, and a process without the database lets go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
from app.cluster import claims
from app.cluster.leases import Leases
from app.db.session import Statement
from app.db.tables import LEASE
from app.errors import DatabaseUnavailable
from app.mail.backend import Backends, MailBackend
from app.mail.types import AccountId, AccountKind
from app.workers.supervisor import Supervisor
from sqlalchemy import update

from tests.contract.stores import Stores

_END_LEASES: Statement = update(LEASE).values(expires_at_ms=1)


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr("app.workers.supervisor.RENEW_SECONDS", 0.02)


class _OneBackend:
    async def of(self, account_id: AccountId) -> MailBackend:
        del account_id
        return cast("MailBackend", self)

    async def forget_changed(self) -> None:
        """No other process changes an account."""


class Process(Supervisor):
    """A supervisor whose sync tasks only note which accounts they follow."""

    def __init__(self, stores: Stores) -> None:
        self.leases = Leases(stores.database, is_alone=False)
        super().__init__(
            stores.database, stores.index, stores.reader, cast("Backends", _OneBackend()), stores.bus, self.leases
        )
        self.followed: set[AccountId] = set()

    async def _follow(self, id_: AccountId, backend: MailBackend, epoch: int) -> None:
        del backend, epoch
        self.followed.add(id_)
        try:
            await asyncio.Event().wait()
        finally:
            self.followed.discard(id_)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - asks the state of what is tested, which tells nobody
            await asyncio.sleep(0.01)


async def test_accounts_of_a_process_that_died_are_followed_by_another(stores: Stores) -> None:
    account_id = await stores.add_account(AccountKind.IMAP)
    await Leases(stores.database, is_alone=False).take([account_id], 1)
    survivor = Process(stores)

    async with survivor.running():
        await until(lambda: stores.bus.heard() != {})
        assert survivor.followed == set()
        await stores.database.write(lambda transaction: transaction.execute(_END_LEASES))
        await until(lambda: survivor.followed == {account_id})


async def test_accounts_of_a_process_that_stops_are_followed_by_another(stores: Stores) -> None:
    account_id = await stores.add_account(AccountKind.IMAP)
    first, second = Process(stores), Process(stores)

    async with second.running():
        async with first.running():
            await until(lambda: bool(first.followed or second.followed))
            assert not (first.followed and second.followed)
        await until(lambda: second.followed == {account_id})


async def test_a_process_that_cannot_renew_its_leases_follows_no_account(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = await stores.add_account(AccountKind.IMAP)
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.5)
    process = Process(stores)

    async def fails() -> dict[AccountId, int]:
        raise DatabaseUnavailable

    async with process.running():
        await until(lambda: process.followed == {account_id})
        monkeypatch.setattr(process.leases, "renew", fails)
        await until(lambda: process.followed == set())
