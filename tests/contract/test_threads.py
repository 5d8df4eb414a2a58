"""Threads are the same in whatever order their messages arrive."""

from __future__ import annotations

import random
from collections.abc import Sequence

import orjson
import pytest
from app.mail import filter as f
from app.mail.delta import Arrived, Delta, Flagged, Location, Removed
from app.mail.event_log import Event
from app.mail.types import AccountId, Address, Mailbox, Overview
from app.mailstore.changes import threads as module

from tests.contract.stores import Stores
from tests.contract.test_index import remote

HOUR_MS, DAY_MS = 3_600_000, 24 * 3_600_000
ANN, BOB, EVE = (Address("", f"{name}@example.com") for name in ("ann", "bob", "eve"))


def mail(
    uid: int,
    subject: str = "Hello",
    *,
    refers: Sequence[int] = (),
    author: Address = ANN,
    to: Address = BOB,
) -> Overview:
    references = tuple(f"<{one}@example.com>" for one in refers)
    return Overview(
        subject, (author,), (author,), (), (to,), message_id_header=f"<{uid}@example.com>", references=references
    )


def arrival(mailbox: Mailbox, uid: int, overview: Overview, at_ms: int = 0, origin: str | None = None) -> Arrived:
    return Arrived(mailbox.id, uid, frozenset(), at_ms or uid, 100, overview, None, modseq=1, origin_thread_id=origin)


async def partition(stores: Stores, account_id: AccountId) -> set[frozenset[int]]:
    """UIDs by thread; every row and summary says the same."""
    ids = await stores.reader.lists.matching_ids(account_id, f.All(()), 10_000)
    found: dict[str, set[int]] = {}
    for one in await stores.reader.messages.find(account_id, ids):
        assert orjson.loads(one.summary)["thread_id"] == one.thread_id
        found.setdefault(one.thread_id, set()).add(one.uid)
    return {frozenset(uids) for uids in found.values()}


async def told(stores: Stores, account_id: AccountId) -> list[Event]:
    return [one for one in await stores.log.after(account_id, 0, 100_000) if one.type == "thread.updated"]


def some_mail(chance: random.Random, mailbox: Mailbox) -> list[Arrived]:
    """Conversations of which some messages name others, some name nothing but answer by subject."""
    arrived = []
    for uid in range(1, 41):
        refers = chance.sample(range(1, 60), chance.choice((0, 0, 1, 2)))
        subject = ("Re: " if chance.random() < 0.4 else "") + chance.choice(("Invoice", "Plans", "[list] Plans", "A%b"))
        author, to = chance.sample((ANN, BOB, EVE), 2)
        overview = mail(uid, subject, refers=refers, author=author, to=to)
        arrived.append(arrival(mailbox, uid, overview, at_ms=chance.randint(1, 60) * DAY_MS))
    return arrived


async def test_any_order_of_arrival_gives_the_same_threads(stores: Stores) -> None:
    for seed in range(4):
        results = []
        for order in range(3):
            account_id, (inbox,) = await remote(stores, "INBOX")
            arrived = some_mail(random.Random(seed), inbox)
            chance = random.Random(100 * seed + order)
            chance.shuffle(arrived)
            while arrived:
                count = chance.randint(1, 12)
                await stores.index.apply(account_id, Delta(arrived=tuple(arrived[:count])))
                del arrived[:count]
            results.append(await partition(stores, account_id))
        assert results[0] == results[1] == results[2]
        assert max(len(one) for one in results[0]) > 2


async def test_a_message_that_joins_two_threads_makes_them_one_under_the_older_id(stores: Stores) -> None:
    account_id, (inbox,) = await remote(stores, "INBOX")
    for uid in (1, 2):
        await stores.index.apply(account_id, Delta(arrived=(arrival(inbox, uid, mail(uid)),)))
    ids = [((await stores.reader.messages.at(account_id, Location(inbox.id, uid))).thread_id, uid) for uid in (1, 2)]
    (first, _), (second, joining) = sorted(ids)  # made in one millisecond, neither is older
    before = await stores.reader.mailboxes.standing(account_id)

    await stores.index.apply(account_id, Delta(arrived=(arrival(inbox, 3, mail(3, refers=(1, 2))),)))
    await stores.index.apply(account_id, Delta(arrived=(arrival(inbox, 4, mail(4, refers=(2,))),)))

    assert await partition(stores, account_id) == {frozenset({1, 2, 3, 4})}
    assert (await stores.reader.messages.at(account_id, Location(inbox.id, 4))).thread_id == first
    merged, grown = await told(stores, account_id)
    assert (merged.subject, orjson.loads(merged.body)["data"]["merged"]) == (first, [second])
    assert (grown.subject, orjson.loads(grown.body)["data"]["merged"]) == (first, [])
    moved = await stores.reader.messages.at(account_id, Location(inbox.id, joining))
    assert moved.version > before.seq


async def test_messages_of_equal_subject_are_not_one_thread(stores: Stores) -> None:
    account_id, (inbox,) = await remote(stores, "INBOX")
    overviews = [mail(uid, "Invoice") for uid in (1, 2, 3)]

    arrived = [arrival(inbox, uid, one, at_ms=uid * HOUR_MS) for uid, one in enumerate(overviews, 1)]
    await stores.index.apply(account_id, Delta(arrived=tuple(arrived)))

    assert await partition(stores, account_id) == {frozenset({1}), frozenset({2}), frozenset({3})}


async def test_an_answer_that_names_nothing_joins_what_it_answers_alone(stores: Stores) -> None:
    account_id, (inbox,) = await remote(stores, "INBOX")
    arrived = (
        arrival(inbox, 1, mail(1, "[team] Plans"), at_ms=DAY_MS),
        arrival(inbox, 2, mail(2, "Re: plans", author=BOB, to=ANN), at_ms=2 * DAY_MS),
        arrival(inbox, 3, mail(3, "Re: Plans", author=EVE, to=ANN), at_ms=2 * DAY_MS),  # of one who did not get it
        arrival(inbox, 4, mail(4, "Re: Plans", author=BOB, to=ANN), at_ms=40 * DAY_MS),  # too late
    )

    await stores.index.apply(account_id, Delta(arrived=arrived))

    assert await partition(stores, account_id) == {frozenset({1, 2}), frozenset({3}), frozenset({4})}


async def test_the_origins_threads_are_taken_as_they_are(stores: Stores) -> None:
    account_id, (inbox,) = await remote(stores, "INBOX")
    arrived = (
        arrival(inbox, 1, mail(1), origin="T1"),
        arrival(inbox, 2, mail(2, refers=(1,)), origin="T2"),
        arrival(inbox, 3, mail(3), origin="T1"),
    )

    for one in arrived:
        await stores.index.apply(account_id, Delta(arrived=(one,)))

    assert await partition(stores, account_id) == {frozenset({1, 3}), frozenset({2})}


async def test_a_thread_of_several_messages_is_told_once_a_change(stores: Stores) -> None:
    account_id, (inbox,) = await remote(stores, "INBOX")
    three = tuple(arrival(inbox, uid, mail(uid, refers=() if uid == 1 else (1,))) for uid in (1, 2, 3))
    alone = arrival(inbox, 4, mail(4))
    changes = (
        Delta(arrived=(*three, alone)),
        Delta(flagged=tuple(Flagged(Location(inbox.id, uid), frozenset({"\\Seen"})) for uid in (1, 2, 4))),
        Delta(removed=(Removed(Location(inbox.id, 1)), Removed(Location(inbox.id, 2)))),
        Delta(removed=(Removed(Location(inbox.id, 3)), Removed(Location(inbox.id, 4)))),
    )

    counts = []
    for change in changes:
        await stores.index.apply(account_id, change)
        counts.append(len(await told(stores, account_id)))

    assert counts == [1, 2, 3, 3]


async def test_what_a_first_sync_finds_is_threaded_in_silence(stores: Stores) -> None:
    account_id, (inbox,) = await remote(stores, "INBOX")
    arrived = [
        Arrived(inbox.id, uid, frozenset(), uid, 1, mail(uid, refers=(1,)), None, modseq=1, is_announced=False)
        for uid in (1, 2, 3)
    ]

    for one in arrived:
        await stores.index.apply(account_id, Delta(arrived=(one,)))

    assert await partition(stores, account_id) == {frozenset({1, 2, 3})}
    assert await told(stores, account_id) == []


async def test_a_thread_with_too_many_messages_for_one_change_stays_apart(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MERGED_LIMIT", 3)
    account_id, (mailbox,) = await remote(stores, "INBOX")
    answers: list[tuple[int, Sequence[int]]] = [(11, (10,)), (21, (20,)), (22, (20,)), (23, (20,))]
    for uid, refers in [(1, ()), (10, ()), (20, ()), *answers]:
        await stores.index.apply(account_id, Delta(arrived=(arrival(mailbox, uid, mail(uid, refers=refers)),)))

    for uid in (30, 31):
        await stores.index.apply(account_id, Delta(arrived=(arrival(mailbox, uid, mail(uid, refers=(1, 10, 20))),)))

    assert await partition(stores, account_id) == {frozenset({1, 10, 11, 30, 31}), frozenset({20, 21, 22, 23})}
