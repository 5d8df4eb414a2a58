"""An account is followed by one worker at a time, and what an earlier one still writes is refused."""

from __future__ import annotations

import asyncio
import time

import pytest
from app.cluster import claims
from app.cluster.leases import Leases
from app.db.session import Statement
from app.db.tables import LEASE
from app.errors import Conflict
from app.mail.delta import Delta, Note
from app.mail.events import AccountResync
from app.mail.types import AccountId, AccountKind
from sqlalchemy import update

from tests.contract.stores import Stores

_END_LEASES: Statement = update(LEASE).values(expires_at_ms=1)
ONE, TWO = AccountId("acc_one"), AccountId("acc_two")


def worker(stores: Stores, *, is_alone: bool = False) -> Leases:
    return Leases(stores.database, is_alone=is_alone)


async def test_a_lease_is_held_by_one_worker_until_it_is_given_back(stores: Stores) -> None:
    first, second = worker(stores), worker(stores)

    assert await first.take([ONE, TWO], 10) == {ONE: 1, TWO: 1}
    assert await second.take([ONE, TWO], 10) == {}
    await first.release([ONE])
    assert await second.take([ONE, TWO], 10) == {ONE: 2}
    assert await first.renew() == {TWO: 1}
    assert await second.renew() == {ONE: 2}


async def let_leases_end(stores: Stores) -> None:
    """As when the workers that hold them died a while ago."""
    await stores.database.write(lambda transaction: transaction.execute(_END_LEASES))


async def test_a_lease_that_ran_out_is_taken_by_another(stores: Stores) -> None:
    first, second = worker(stores), worker(stores)
    await first.take([ONE], 10)
    await let_leases_end(stores)

    assert await second.take([ONE], 10) == {ONE: 2}
    assert await first.renew() == {}


async def test_only_so_many_are_taken_at_once(stores: Stores) -> None:
    first = worker(stores)

    assert len(await first.take([ONE, TWO], 1)) == 1
    assert len(await first.take([ONE, TWO], 10)) == 1


async def test_a_worker_that_is_alone_takes_over_at_once(stores: Stores) -> None:
    await worker(stores, is_alone=True).take([ONE], 10)

    later = worker(stores, is_alone=True)
    assert await later.take([ONE], 10) == {ONE: 2}
    assert await later.renew() == {ONE: 2}


async def test_what_an_earlier_holder_writes_is_refused(stores: Stores) -> None:
    account_id = await stores.add_account(AccountKind.IMAP)
    note = Delta(notes=(Note(AccountResync([], {}), account_id),))
    (old,) = (await worker(stores, is_alone=True).take([account_id], 1)).values()
    (new,) = (await worker(stores, is_alone=True).take([account_id], 1)).values()

    await stores.index.apply(account_id, note, fence=new)
    with pytest.raises(Conflict):
        await stores.index.apply(account_id, note, fence=old)

    assert len(await stores.log.after(account_id, 0, 10)) == 1


async def test_a_lease_that_ran_out_and_that_nobody_took_is_held_again_by_renewing(stores: Stores) -> None:
    first, second = worker(stores), worker(stores)
    await first.take([ONE], 10)
    await let_leases_end(stores)

    assert await first.renew() == {ONE: 1}
    assert await second.take([ONE], 10) == {}


async def test_a_released_lease_is_not_renewed(stores: Stores) -> None:
    first = worker(stores)
    await first.take([ONE, TWO], 10)
    await first.release([ONE])

    assert await first.renew() == first.held == {TWO: 1}


async def test_leases_go_by_the_databases_clock_alone(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = worker(stores), worker(stores)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    await first.take([ONE], 10)
    monkeypatch.setattr(time, "time", lambda: 2.0**40)

    assert await second.take([ONE], 10) == {}


async def test_after_the_database_failed_no_lease_is_taken_for_abandoned_at_once(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = worker(stores), worker(stores)
    await first.take([ONE], 10)
    await let_leases_end(stores)
    stores.database.failure_count += 1

    assert await second.take([ONE], 10) == {}
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.0)
    stores.database.failure_count += 1
    assert await second.take([ONE], 10) == {ONE: 2}


async def test_a_worker_hears_of_leases_that_it_lost(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.01)
    first, second = worker(stores), worker(stores)
    await first.take([ONE, TWO], 10)
    await second.renew()
    is_lost = asyncio.Event()
    keeping = asyncio.create_task(first.keep(is_lost.set))

    await let_leases_end(stores)
    while not await second.take([ONE], 10):
        await let_leases_end(stores)
    async with asyncio.timeout(10):
        await is_lost.wait()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)

    assert first.held == {TWO: 1}
