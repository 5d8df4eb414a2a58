"""The index keeps its promises on every database."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import orjson
import pytest
from app.cluster.bus import listening
from app.errors import AccountNotFound, Conflict
from app.mail import filter as f
from app.mail.delta import (
    Arrived,
    Delta,
    Flagged,
    Location,
    MailboxCounted,
    MailboxFound,
    MailboxReset,
    Moved,
    Reason,
    Removed,
)
from app.mail.event_log import Event
from app.mail.types import AccountId, AccountKind, Flags, Mailbox, MailboxId, Overview
from app.mailstore.reading.lists import Sort
from app.mailstore.store import FlagChange

from tests.contract.stores import Stores, message


async def events_of(stores: Stores, account_id: AccountId) -> list[Event]:
    return await stores.log.after(account_id, 0, 100_000)


async def deliver(
    stores: Stores, account_id: AccountId, number: int, path: str = "INBOX", subject: str = "Hello"
) -> None:
    content = await stores.store.keep(message(number, subject))
    mailbox = await stores.mailbox(account_id, path)
    await stores.store.add(account_id, mailbox.id, [(content, frozenset(), 1_000 * number)])


async def remote(stores: Stores, *names: str) -> tuple[AccountId, list[Mailbox]]:
    """A mirrored account with some mailboxes."""
    account_id = await stores.add_account(AccountKind.IMAP)
    found = tuple(MailboxFound(name, name, "/", None, 7) for name in names)
    await stores.index.apply(account_id, Delta(mailboxes_found=found))
    return account_id, [await stores.mailbox(account_id, name) for name in names]


def arrived(mailbox: Mailbox, uid: int, modseq: int = 5, flags: Flags = frozenset(), **more: Any) -> Arrived:
    overview = Overview(f"Message {uid}", message_id_header=f"<{uid}@remote>")
    return Arrived(mailbox.id, uid, flags, uid * 1_000, 100, overview, None, modseq=modseq, **more)


async def test_every_change_of_a_row_has_its_event_and_numbers_have_no_gap(stores: Stores) -> None:
    account = await stores.add_account()
    for number in range(1, 5):
        await deliver(stores, account, number)
    inbox, trash = await stores.mailbox(account, "INBOX"), await stores.mailbox(account, "Trash")
    await stores.store.store_flags(account, inbox.id, [1], FlagChange(add=frozenset({"\\Seen"})))
    await stores.store.move(account, inbox.id, [2], trash.id)
    await stores.store.copy(account, inbox.id, [3], trash.id)
    await stores.store.expunge(account, inbox.id, [4], only_deleted=False)

    events = await events_of(stores, account)

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events if event.type.startswith("message.")][-8:] == [
        *["message.created"] * 4,
        "message.updated",
        "message.moved",
        "message.created",
        "message.deleted",
    ]
    (deleted,) = [event for event in events if event.type == "message.deleted"]
    assert orjson.loads(deleted.body)["data"]["reason"] == "expunged"


async def test_a_change_that_fails_leaves_neither_row_nor_event(stores: Stores) -> None:
    account = await stores.add_account()
    before = await events_of(stores, account)

    async def fail(_: object) -> Delta:
        raise Conflict

    with pytest.raises(Conflict):
        await stores.index.change(account, fail)

    assert await events_of(stores, account) == before


async def test_an_unknown_account_is_said_so(stores: Stores) -> None:
    with pytest.raises(AccountNotFound):
        await stores.index.apply(AccountId("acc_none"), Delta())


async def test_a_moved_message_keeps_its_id_and_its_old_uid_is_never_given_again(stores: Stores) -> None:
    account = await stores.add_account()
    await deliver(stores, account, 1)
    inbox, archive = await stores.mailbox(account, "INBOX"), await stores.mailbox(account, "Archive")
    (before,) = await stores.reader.messages.locate(account, inbox.id, [1])

    await stores.store.move(account, inbox.id, [1], archive.id)
    await deliver(stores, account, 2)

    (moved,) = await stores.reader.messages.find(account, [before.id])
    assert (moved.mailbox_id, moved.uid) == (archive.id, 1)
    assert [one.uid for one in await stores.reader.messages.locate(account, inbox.id, [1, 2])] == [2]


async def test_a_mailbox_made_anew_has_another_uid_validity(stores: Stores) -> None:
    account = await stores.add_account()
    seen = set()
    for _ in range(3):
        await stores.store.mailboxes.create(account, "Work/Projects")
        mailbox = await stores.mailbox(account, "Work/Projects")
        seen.add(mailbox.uid_validity)
        await stores.store.mailboxes.delete(account, mailbox.id)

    assert len(seen) == 3


async def test_applying_a_delta_twice_changes_nothing_the_second_time(stores: Stores) -> None:
    account, (inbox, archive) = await remote(stores, "INBOX", "Archive")
    await stores.index.apply(account, Delta(arrived=tuple(arrived(inbox, uid) for uid in (1, 2, 3))))
    delta = Delta(
        moved=(Moved(Location(inbox.id, 1), Location(archive.id, 9)),),
        arrived=(arrived(inbox, 4),),
        flagged=(Flagged(Location(inbox.id, 2), frozenset({"\\Seen"}), 6),),
        removed=(Removed(Location(inbox.id, 3)),),
    )
    await stores.index.apply(account, delta)
    once = await events_of(stores, account)

    await stores.index.apply(account, delta)

    assert await events_of(stores, account) == once


async def test_an_older_modseq_never_overwrites_a_newer_one(stores: Stores) -> None:
    account, (inbox,) = await remote(stores, "INBOX")
    await stores.index.apply(account, Delta(arrived=(arrived(inbox, 1, modseq=10),)))
    newer = Flagged(Location(inbox.id, 1), frozenset({"\\Seen"}), 12)
    older = Flagged(Location(inbox.id, 1), frozenset({"\\Flagged"}), 11)

    await stores.index.apply(account, Delta(flagged=(newer,)))
    await stores.index.apply(account, Delta(flagged=(older,)))

    assert (await stores.reader.mirrored.known(account, inbox.id))[1].flags == frozenset({"\\Seen"})


async def test_a_move_seen_as_an_arrival_first_ends_with_the_sources_id(stores: Stores) -> None:
    account, (inbox, archive) = await remote(stores, "INBOX", "Archive")
    await stores.index.apply(account, Delta(arrived=(arrived(inbox, 1),)))
    (source,) = await stores.reader.messages.locate(account, inbox.id, [1])
    await stores.index.apply(account, Delta(arrived=(arrived(archive, 9),)))

    await stores.index.apply(account, Delta(moved=(Moved(Location(inbox.id, 1), Location(archive.id, 9)),)))

    (here,) = await stores.reader.messages.locate(account, archive.id, [9])
    assert here.id == source.id
    reasons = [orjson.loads(one.body)["data"].get("reason") for one in await events_of(stores, account)]
    assert reasons[-2:] == [Reason.MERGED, None]


async def test_a_move_seen_as_an_arrival_first_ends_with_the_flags_seen_there(stores: Stores) -> None:
    account, (inbox, archive) = await remote(stores, "INBOX", "Archive")
    await stores.index.apply(account, Delta(arrived=(arrived(inbox, 1),)))
    await stores.index.apply(account, Delta(arrived=(arrived(archive, 9, flags=frozenset({"\\Seen"})),)))

    await stores.index.apply(account, Delta(moved=(Moved(Location(inbox.id, 1), Location(archive.id, 9)),)))

    assert (await stores.reader.mirrored.known(account, archive.id))[9].flags == frozenset({"\\Seen"})
    assert [(await stores.mailbox(account, name)).unread for name in ("INBOX", "Archive")] == [0, 0]
    assert (await events_of(stores, account))[-1].type == "message.updated"


async def test_the_modseq_of_the_mailbox_that_a_message_left_says_nothing_of_it_where_it_is(stores: Stores) -> None:
    account, (inbox, archive) = await remote(stores, "INBOX", "Archive")
    await stores.index.apply(account, Delta(arrived=(arrived(inbox, 1, modseq=500),)))
    here = Location(archive.id, 9)
    await stores.index.apply(account, Delta(moved=(Moved(Location(inbox.id, 1), here),)))

    await stores.index.apply(account, Delta(flagged=(Flagged(here, frozenset({"\\Seen"}), 12),)))

    assert (await stores.reader.mirrored.known(account, archive.id))[9].flags == frozenset({"\\Seen"})


async def test_a_first_sync_and_a_reset_are_one_event_each(stores: Stores) -> None:
    account, (inbox,) = await remote(stores, "INBOX")
    before = len(await events_of(stores, account))
    many = tuple(arrived(inbox, uid, is_announced=False) for uid in range(1, 101))
    await stores.index.apply(account, Delta(arrived=many))
    await stores.index.apply(account, Delta(mailboxes_counted=(MailboxCounted(inbox.id, is_complete=True),)))
    assert len(await events_of(stores, account)) == before
    assert (await stores.mailbox(account, "INBOX")).total == 100

    await stores.index.apply(account, Delta(mailboxes_reset=(MailboxReset(inbox.id, 8),)))

    assert [one.type for one in await events_of(stores, account)][before:] == ["mailbox.reset"]
    assert await stores.reader.mirrored.known(account, inbox.id) == {}


async def test_an_arrival_of_another_uid_validity_is_not_taken(stores: Stores) -> None:
    account, (inbox,) = await remote(stores, "INBOX")

    await stores.index.apply(account, Delta(arrived=(arrived(inbox, 1, uid_validity=6),)))

    assert await stores.reader.mirrored.known(account, inbox.id) == {}


async def test_a_commit_wakes_those_who_follow_the_account(stores: Stores) -> None:
    account = await stores.add_account()
    with listening(stores.bus, account) as waiter:
        await deliver(stores, account, 1)

        assert await waiter.wait(1) == {account}


async def test_writers_at_once_number_their_events_without_gap_or_double(stores: Stores) -> None:
    account = await stores.add_account()
    await asyncio.gather(*(deliver(stores, account, number) for number in range(40)))

    events = await events_of(stores, account)

    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    inbox = await stores.mailbox(account, "INBOX")
    assert sorted(await stores.reader.mirrored.known(account, inbox.id)) == list(range(1, 41))
    assert (inbox.total, inbox.unread, inbox.uid_next) == (40, 40, 41)


async def test_pages_are_anchored_so_that_new_mail_never_shifts_them(stores: Stores) -> None:
    account = await stores.add_account()
    for number in range(10):
        await deliver(stores, account, number)
    everything = f.All(())
    first = await stores.reader.lists.search(account, everything, limit=4)
    await deliver(stores, account, 99)

    second = await stores.reader.lists.search(account, everything, limit=4, after=first[-1].anchor)
    back = await stores.reader.lists.search(account, everything, limit=4, before=second[0].anchor)

    assert [one.anchor.uid for one in first + second] == [10, 9, 8, 7, 6, 5, 4, 3]
    assert back == first


@pytest.mark.parametrize("key", ["received_at", "date", "size", "subject", "from"])
@pytest.mark.parametrize("is_descending", [True, False])
async def test_pages_of_every_order_hold_each_message_once(stores: Stores, key: str, is_descending: bool) -> None:
    account = await stores.add_account()
    for number in range(9):
        await deliver(stores, account, number, subject=f"Subject {number % 3}")
    sort, everything = Sort(key, is_descending), f.All(())
    seen, anchor = [], None
    while page := await stores.reader.lists.search(account, everything, sort=sort, limit=2, after=anchor):
        seen += [one.anchor.id for one in page]
        anchor = page[-1].anchor

    assert len(seen) == len(set(seen)) == 9


async def test_search_takes_like_patterns_and_quotes_as_plain_text(stores: Stores) -> None:
    account = await stores.add_account()
    for number, subject in enumerate(["100% sure", "under_score", "it's", "back\\slash", 'quo"te', "ÄÖÜ straße"]):
        await deliver(stores, account, number, subject=subject)

    async def found(text: str) -> int:
        return await stores.reader.lists.count(account, f.Contains("subject", text))

    assert [await found(text) for text in ("%", "_", "'", "\\", '"', "STRAßE", "' OR 1=1 --")] == [1, 1, 1, 1, 1, 1, 0]


async def test_flags_are_found_whole_and_without_regard_to_case(stores: Stores) -> None:
    account = await stores.add_account()
    await deliver(stores, account, 1)
    inbox = await stores.mailbox(account, "INBOX")
    await stores.store.store_flags(account, inbox.id, [1], FlagChange(add=frozenset({"$Forwarded", "\\Seen"})))

    counts = [
        await stores.reader.lists.count(account, f.HasFlag(flag))
        for flag in ("$forwarded", "$Forward", "\\seen", "\\See")
    ]

    assert counts == [1, 0, 1, 0]


async def test_a_reply_joins_the_thread_of_what_it_answers_in_either_order(stores: Stores) -> None:
    account = await stores.add_account()
    inbox = await stores.mailbox(account, "INBOX")
    reply = await stores.store.keep(message(2, extra="In-Reply-To: <1@example.com>\r\n"))
    await stores.store.add(account, inbox.id, [(reply, frozenset(), None)])
    await deliver(stores, account, 1)
    await deliver(stores, account, 3)

    first, second, third = sorted(
        await stores.reader.messages.locate(account, inbox.id, [1, 2, 3]), key=lambda one: one.uid
    )

    assert first.thread_id == second.thread_id != third.thread_id


async def test_random_changes_leave_counts_and_log_equal_to_the_rows(stores: Stores) -> None:
    """Replaying the events gives the mailboxes, flags and counts that a fresh read gives."""
    account = await stores.add_account()
    chance = random.Random(7)
    paths = ["INBOX", "Archive", "Trash"]
    boxes = {path: (await stores.mailbox(account, path)).id for path in paths}
    for number in range(250):
        await _random_change(stores, account, boxes, chance, number)

    replayed: dict[str, tuple[str, tuple[str, ...]]] = {}
    for event in await events_of(stores, account):
        _replay(replayed, event)

    rows: dict[str, tuple[str, tuple[str, ...]]] = {}
    for path in paths:
        mailbox = await stores.mailbox(account, path)
        found = await stores.reader.messages.locate(account, mailbox.id, range(1, mailbox.uid_next))
        rows |= {one.id: (str(mailbox.id), tuple(orjson.loads(one.summary)["keywords"])) for one in found}
        assert mailbox.total == len(found)
        assert mailbox.unread == sum("\\Seen" not in one.flags for one in found)
    assert replayed == rows


async def _random_change(
    stores: Stores, account: AccountId, boxes: dict[str, MailboxId], chance: random.Random, number: int
) -> None:
    source, target = (boxes[path] for path in chance.sample(list(boxes), 2))
    uids = sorted(await stores.reader.mirrored.known(account, source))
    some = chance.sample(uids, min(len(uids), chance.randint(1, 3)))
    match chance.choice(["deliver", "deliver", "flag", "unflag", "move", "copy", "expunge"]):
        case "deliver":
            content = await stores.store.keep(message(number))
            await stores.store.add(account, source, [(content, frozenset(), None)])
        case "flag":
            await stores.store.store_flags(account, source, some, FlagChange(add=frozenset({"\\Seen", "\\Deleted"})))
        case "unflag":
            await stores.store.store_flags(
                account, source, some, FlagChange(add=frozenset({"$work"}), is_replacing=True)
            )
        case "move":
            await stores.store.move(account, source, some, target)
        case "copy":
            await stores.store.copy(account, source, some, target)
        case "expunge":
            await stores.store.expunge(account, source, None)


def _replay(state: dict[str, tuple[str, tuple[str, ...]]], event: Event) -> None:
    data = orjson.loads(event.body)["data"]
    match event.type:
        case "message.created":
            state[event.subject] = (data["mailbox_id"], tuple(data["message"]["keywords"]))
        case "message.updated":
            state[event.subject] = (state[event.subject][0], tuple(data["keywords"]))
        case "message.moved":
            state[event.subject] = (data["to"][0], state[event.subject][1])
        case "message.deleted":
            del state[event.subject]
