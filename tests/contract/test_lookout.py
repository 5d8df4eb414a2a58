"""Events whose poke was lost reach their followers all the same."""

from __future__ import annotations

from app.cluster.bus import ACCOUNTS, LocalBus, listening
from app.mail.delta import Delta, Note
from app.mail.events import AccountResync
from app.mail.types import AccountId
from app.mailstore.index import Index
from app.workers.missed_pokes import MissedPokeCheck

from tests.contract.stores import Stores


async def add_unheard(stores: Stores, account_id: AccountId) -> int:
    """An event that nobody here is woken for, as when its poke was lost; its number."""
    elsewhere = Index(stores.database, LocalBus())
    return (await elsewhere.apply(account_id, Delta(notes=(Note(AccountResync([], {}), account_id),)))).seq


async def test_a_follower_is_woken_for_an_event_whose_poke_was_lost(stores: Stores) -> None:
    quiet, busy = await stores.add_account(), await stores.add_account()
    with listening(stores.bus, quiet, busy, ACCOUNTS) as waiter:
        seq = await add_unheard(stores, quiet)
        for _ in range(3):
            await stores.index.apply(busy, Delta(notes=(Note(AccountResync([], {}), busy),)))
        before = await waiter.wait(0)

        await MissedPokeCheck(stores.log, stores.bus).round()

        assert before == {busy}
        assert await waiter.wait(0) == {quiet, ACCOUNTS}
        assert stores.bus.last(quiet) == seq


async def test_a_round_wakes_nobody_for_what_was_heard(stores: Stores) -> None:
    account_id = await stores.add_account()
    with listening(stores.bus, account_id) as waiter:
        await add_unheard(stores, account_id)
        await MissedPokeCheck(stores.log, stores.bus).round()
        await waiter.wait(0)

        await MissedPokeCheck(stores.log, stores.bus).round()

        assert await waiter.wait(0) == set()


async def test_followers_of_an_account_that_is_gone_are_woken_to_find_that_out(stores: Stores) -> None:
    gone = AccountId("acc_gone")
    with listening(stores.bus, gone) as waiter:
        stores.bus.poke(gone, 5)
        await waiter.wait(0)

        await MissedPokeCheck(stores.log, stores.bus).round()

        assert await waiter.wait(0) == {gone}
        assert stores.bus.last(gone) is None
