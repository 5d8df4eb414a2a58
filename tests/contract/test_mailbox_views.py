"""What IMAP sessions read is the same on every database."""

from __future__ import annotations

import asyncio

import pytest
from app.mail.types import DELETED, SEEN, AccountId, Flags, Mailbox
from app.mailstore import store
from app.mailstore.store import FlagChange
from app.mailstore.views import MailboxViews, structure_of

from tests.contract.stores import Stores, message


async def inbox_with(stores: Stores, *flags: Flags) -> tuple[AccountId, Mailbox]:
    """An account whose INBOX holds one message for each set of flags."""
    account_id = await stores.add_account()
    inbox = await stores.mailbox(account_id, "INBOX")
    contents = [(await stores.store.keep(message(number)), one, 1_000) for number, one in enumerate(flags)]
    await stores.store.add(account_id, inbox.id, contents)
    return account_id, await stores.mailbox(account_id, "INBOX")


async def test_rows_hold_the_columns_asked_for_by_ascending_uid(stores: Stores) -> None:
    account_id, inbox = await inbox_with(stores, frozenset(), frozenset({SEEN}), frozenset())
    views = MailboxViews(stores.database)

    rows = await views.rows(account_id, inbox.id, [3, 2, 99], ("uid", "flags", "imap_envelope", "structure", "header"))

    assert [(row.uid, row.flags) for row in rows] == [(2, "\\Seen"), (3, "")]
    assert b"<1@example.com>" in rows[0].imap_envelope
    assert structure_of(rows[0].structure).media_type == "text/plain"
    assert rows[0].header.endswith(b"\r\n\r\n")


async def test_many_uids_are_read_as_few_are(stores: Stores) -> None:
    account_id, inbox = await inbox_with(stores, frozenset(), frozenset())
    views = MailboxViews(stores.database)

    rows = await views.rows(account_id, inbox.id, range(1, 2_000), ("uid",))

    assert [row.uid for row in rows] == [1, 2]


async def test_counts_and_combinations_of_flags_are_those_of_the_mailbox(stores: Stores) -> None:
    flags: list[Flags] = [frozenset(), frozenset({SEEN, DELETED}), frozenset({"Deleted"}), frozenset()]
    account_id, inbox = await inbox_with(stores, *flags)
    views = MailboxViews(stores.database)

    combinations = await views.flags_in(account_id, inbox.id, 10, is_long=True)

    assert combinations == [("", 1), ("\\Deleted \\Seen", 2), ("Deleted", 3)]
    assert len(await views.flags_in(account_id, inbox.id, 2, is_long=False)) == 2
    assert await views.deleted_count(account_id, inbox.id) == 1
    assert await views.size_bytes(account_id, inbox.id) == sum(len(message(number)) for number in range(4))


async def test_messages_are_read_by_ranges_and_uids_in_pieces(stores: Stores) -> None:
    account_id, inbox = await inbox_with(stores, *[frozenset[str]()] * 5)
    await stores.store.expunge(account_id, inbox.id, [3], only_deleted=False)
    views = MailboxViews(stores.database)

    assert [row.uid for row in await views.rows_between(account_id, inbox.id, 2, 4, ("uid", "flags"))] == [2, 4]
    assert await views.uids_after(account_id, inbox.id, 1, 2) == [2, 4]
    assert await views.uids_after(account_id, inbox.id, 4, 2) == [5]


async def test_an_expunge_of_many_takes_those_that_are_deleted(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "EXPUNGED_AT_ONCE", 2)
    flags = [frozenset({DELETED}) if number != 3 else frozenset[str]() for number in range(6)]
    account_id, inbox = await inbox_with(stores, *flags)
    before = await MailboxViews(stores.database).position(account_id)

    applied = await stores.store.expunge(account_id, inbox.id, None)

    left = await MailboxViews(stores.database).uids_after(account_id, inbox.id, 0, 10)
    assert (left, applied.seq - before) == ([4], 5)


async def test_recent_messages_are_those_nobody_claimed(stores: Stores) -> None:
    account_id, inbox = await inbox_with(stores, frozenset(), frozenset())
    views = MailboxViews(stores.database)
    assert await views.recent_count(account_id, inbox.id) == 2

    assert await stores.store.claim_recent(account_id, inbox.id) == 1

    assert await views.recent_count(account_id, inbox.id) == 0
    assert await views.recent_from(account_id, inbox.id) == 3


async def test_of_sessions_that_ask_together_one_claims_a_recent_message(stores: Stores) -> None:
    account_id, inbox = await inbox_with(stores)
    for number in range(20):
        content = await stores.store.keep(message(number))
        await stores.store.add(account_id, inbox.id, [(content, frozenset(), None)])

        claims = [stores.store.claim_recent(account_id, inbox.id) for _ in range(3)]

        assert sorted(await asyncio.gather(*claims)) == [number + 1, number + 2, number + 2]


async def test_changes_come_in_order_without_gaps(stores: Stores) -> None:
    account_id, inbox = await inbox_with(stores, frozenset(), frozenset())
    views = MailboxViews(stores.database)
    before = await views.position(account_id)
    archive = await stores.mailbox(account_id, "Archive")

    stored = await stores.store.store_flags(account_id, inbox.id, [1, 2], FlagChange(add=frozenset({SEEN})))
    await stores.store.move(account_id, inbox.id, [1], archive.id)
    await stores.store.expunge(account_id, inbox.id, [2], only_deleted=False)
    first = await views.changes_after(account_id, before, 3)
    rest = await views.changes_after(account_id, first[-1].seq, 100)

    changes = [*first, *rest]
    assert [change.seq for change in changes] == list(range(before + 1, before + 5))
    assert [(change.type, change.uid) for change in changes] == [
        ("message.updated", 1),
        ("message.updated", 2),
        ("message.moved", 1),
        ("message.deleted", 2),
    ]
    assert (changes[2].target_mailbox_id, changes[2].target_uid) == (archive.id, 1)
    assert (stored.applied.seq_before, stored.applied.seq) == (before, before + 2)
    assert await views.position(account_id) == before + 4
