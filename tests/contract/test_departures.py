"""Messages that leave and come back, or are copied, are told by their origin's id, on every database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from app.mail.delta import Arrived, Delta, Location, MailboxDeleted, MailboxFound, MailboxReset, Removed
from app.mail.identifiers import now_ms
from app.mail.types import AccountId, AccountKind, MailboxId, MessageId, Overview
from app.mailstore.differences import Differences
from app.services.following.changes import Changes, ChangesSince
from app.services.following.events import Events
from app.services.following.states import StatePosition
from app.settings import Settings
from app.workers import retention as module
from app.workers.retention import DAY_MS, RetentionWorker

from tests.access import NoSubmissions
from tests.contract.stores import Stores

HERE, THERE = "INBOX", "Archive"


class Mirrored:
    """A mirrored account with two mailboxes, and what is told of it."""

    def __init__(self, stores: Stores, account_id: AccountId) -> None:
        self.stores = stores
        self.account_id = account_id
        self.ids: dict[str, MailboxId] = {}

    async def arrive(
        self,
        path: str,
        uid: int,
        origin_id: str | None = "M1",
        header: str | None = "<1@elsewhere.test>",
        *,
        is_announced: bool = True,
    ) -> str:
        """A message appears; its id."""
        overview = Overview(message_id_header=header)
        facts: dict[str, Any] = {"origin_id": origin_id, "is_announced": is_announced}
        one = Arrived(self.ids[path], uid, frozenset(), 1_000, 10, overview, None, **facts)
        applied = await self.stores.index.apply(self.account_id, Delta(arrived=(one,)))
        return applied.message_ids[Location(self.ids[path], uid)]

    async def remove(self, path: str, uid: int) -> None:
        await self.stores.index.apply(self.account_id, Delta(removed=(Removed(Location(self.ids[path], uid)),)))

    async def told(self) -> list[tuple[str, str]]:
        events = await self.stores.log.after(self.account_id, 0, 1_000)
        return [(one.type, one.subject) for one in events if one.type.startswith("message.")]

    async def since(self) -> StatePosition:
        position = (await self.stores.reader.mailboxes.standing(self.account_id)).position
        return StatePosition(position, position.seq)

    async def changes(self, since: StatePosition) -> Changes:
        events = Events(self.stores.log, self.stores.reader, self.stores.bus, NoSubmissions())
        return await ChangesSince(Differences(self.stores.database), self.stores.log, events).read(
            self.account_id, since
        )


async def mirrored(stores: Stores) -> Mirrored:
    account = Mirrored(stores, await stores.add_account(AccountKind.IMAP))
    found = tuple(MailboxFound(name, name, "/", None, 7) for name in (HERE, THERE))
    account.ids = (await stores.index.apply(account.account_id, Delta(mailboxes_found=found))).mailbox_ids
    return account


async def test_a_message_told_as_gone_before_it_is_seen_elsewhere_has_its_id_again(stores: Stores) -> None:
    account = await mirrored(stores)
    id_ = await account.arrive(HERE, 1)
    whole = await account.since()
    await account.remove(HERE, 1)
    without = await account.since()

    assert await account.arrive(THERE, 5) == id_

    assert await account.told() == [("message.created", id_), ("message.deleted", id_), ("message.created", id_)]
    for since in (whole, without):
        changes = await account.changes(since)
        assert (list(changes.created), changes.removed, changes.moved) == ([id_], {}, {})


async def test_an_id_comes_back_once(stores: Stores) -> None:
    account = await mirrored(stores)
    id_ = await account.arrive(HERE, 1)
    await account.remove(HERE, 1)

    ids = [await account.arrive(THERE, 5), await account.arrive(THERE, 6)]

    assert ids[0] == id_ != ids[1]


async def test_a_copy_of_a_message_that_lives_has_an_id_of_its_own(stores: Stores) -> None:
    account = await mirrored(stores)
    id_ = await account.arrive(HERE, 1)

    assert await account.arrive(THERE, 1) != id_


async def test_of_messages_that_are_one_to_their_origin_the_last_that_went_comes_back_first(stores: Stores) -> None:
    account = await mirrored(stores)
    first, second = await account.arrive(HERE, 1), await account.arrive(HERE, 2)
    await account.remove(HERE, 2)
    await asyncio.sleep(0.002)  # they are told apart by the millisecond
    await account.remove(HERE, 1)

    assert [await account.arrive(THERE, 8), await account.arrive(THERE, 9)] == [first, second]


async def test_another_message_never_takes_an_id(stores: Stores) -> None:
    account = await mirrored(stores)
    id_ = await account.arrive(HERE, 1)
    await account.remove(HERE, 1)

    assert await account.arrive(THERE, 5, "M2") != id_


async def test_what_was_told_as_gone_is_told_when_a_first_sync_finds_it(stores: Stores) -> None:
    account = await mirrored(stores)
    id_ = await account.arrive(HERE, 1)
    await account.remove(HERE, 1)

    assert await account.arrive(THERE, 5, is_announced=False) == id_

    assert (await account.told())[-1] == ("message.created", id_)


@pytest.mark.parametrize("end", ["reset", "deleted"])
async def test_messages_keep_their_ids_beyond_the_end_of_their_mailbox_without_a_flood(
    stores: Stores, end: str
) -> None:
    account = await mirrored(stores)
    ids = [await account.arrive(HERE, uid, f"M{uid}") for uid in (1, 2)]
    here = account.ids[HERE]
    ended = Delta(mailboxes_reset=(MailboxReset(here, 8),))
    if end == "deleted":
        ended = Delta(mailboxes_deleted=(MailboxDeleted(here),))
    await stores.index.apply(account.account_id, ended)
    before = await account.told()

    found = [await account.arrive(THERE, uid, f"M{uid}", is_announced=False) for uid in (1, 2)]

    assert found == ids
    assert await account.told() == before


async def test_ids_of_messages_that_are_gone_are_kept_as_long_and_as_many_as_tombstones(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await mirrored(stores)
    ids = [await account.arrive(HERE, uid, f"M{uid}") for uid in (1, 2, 3)]
    for uid in (1, 2, 3):
        await account.remove(HERE, uid)
        await asyncio.sleep(0.002)  # they are told apart by the millisecond
    retention = RetentionWorker(Settings(), stores.database, stores.reader, stores.store.blobs)

    monkeypatch.setattr(module, "DEPARTED_LIMIT", 2)
    await retention.round()
    assert await account.arrive(THERE, 1, "M1") != ids[0]
    assert await account.arrive(THERE, 3, "M3") == ids[2]

    monkeypatch.setattr(module, "now_ms", lambda: now_ms() + (Settings().tombstone_retention_days + 1) * DAY_MS)
    await retention.round()
    assert await account.arrive(THERE, 2, "M2") != ids[1]


async def test_copies_are_found_by_the_origins_id_or_without_one_by_the_header_and_told_by_which_came_later(
    stores: Stores,
) -> None:
    account = await mirrored(stores)
    first, copy = await account.arrive(HERE, 1), await account.arrive(THERE, 1)
    plain, alike = await account.arrive(HERE, 2, None), await account.arrive(THERE, 2, None)
    bare, equal = await account.arrive(HERE, 3, None, None), await account.arrive(THERE, 3, None, None)

    async def pairs(id_: str) -> set[tuple[str, bool, bool]]:
        found = await stores.reader.mirrored.pairs(account.account_id, [MessageId(id_)])
        return {(one.message.id, one.is_later, one.is_same) for one in found}

    assert await pairs(first) == {(copy, True, True)}
    assert await pairs(copy) == {(first, False, True)}
    assert await pairs(plain) == {(first, False, False), (copy, False, False), (alike, True, False)}
    assert await pairs(bare) == {(equal, True, False)}
