"""An account is followed by one worker at a time, and what an earlier one still writes is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.cluster import leases as module
from app.cluster.leases import Leases
from app.errors import Conflict
from app.mail.delta import Delta, Note
from app.mail.types import AccountId, AccountKind

from tests.contract.stores import Stores, open_stores

ONE, TWO = AccountId("acc_one"), AccountId("acc_two")


@pytest.fixture(params=["sqlite", "postgresql"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    async with open_stores(tmp_path, url) as stores:
        yield stores


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


async def test_a_lease_that_ran_out_is_taken_by_another(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = worker(stores), worker(stores)
    monkeypatch.setattr(module, "LEASE_MS", -1)
    await first.take([ONE], 10)

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
    note = Delta(notes=(Note("account.resync", account_id, {}),))
    (old,) = (await worker(stores, is_alone=True).take([account_id], 1)).values()
    (new,) = (await worker(stores, is_alone=True).take([account_id], 1)).values()

    await stores.index.apply(account_id, note, fence=new)
    with pytest.raises(Conflict):
        await stores.index.apply(account_id, note, fence=old)

    assert len(await stores.log.after(account_id, 0, 10)) == 1
