"""What lists and searches ask the index, on every database."""

from __future__ import annotations

import pytest
from app.errors import AccountNotFound, MailboxNotFound
from app.mail import filter as f
from app.mail.types import AccountId
from app.mailstore.reading.lists import Anchor, Sort

from tests.contract.stores import Stores, message


async def fill(stores: Stores, account_id: AccountId, count: int) -> list[str]:
    """Messages a second apart in INBOX; their ids, oldest first."""
    inbox = await stores.mailbox(account_id, "INBOX")
    ids: list[str] = []
    for number in range(count):
        content = await stores.store.keep(message(number, f"s{number}"))
        applied = await stores.store.add(account_id, inbox.id, [(content, frozenset(), 1_000 * number)])
        ids += applied.message_ids.values()
    return ids


async def test_the_standing_tells_the_log_and_the_mailbox_at_once(stores: Stores) -> None:
    account = await stores.add_account()
    inbox = await stores.mailbox(account, "INBOX")
    await fill(stores, account, 2)

    standing = await stores.reader.mailboxes.standing(account, inbox.id)

    assert (standing.sync_status, standing.sync_mode, standing.total) == ("live", "embedded", 2)
    assert (standing.uid_validity, bool(standing.is_complete)) == (inbox.uid_validity, True)
    everywhere = await stores.reader.mailboxes.standing(account)
    assert (everywhere.seq, everywhere.uid_validity) == (standing.seq, None)
    assert (await stores.reader.mailboxes.standing(account, "mbx_none")).uid_validity is None
    with pytest.raises(AccountNotFound):
        await stores.reader.mailboxes.standing(AccountId("acc_none"), inbox.id)


async def test_one_mailbox_is_found_with_its_parent(stores: Stores) -> None:
    account = await stores.add_account()
    await stores.store.mailboxes.create(account, "Work/Projects")

    projects = await stores.mailbox(account, "Work/Projects")

    assert await stores.reader.mailboxes.mailbox(account, projects.id) == projects
    assert projects.parent_id == (await stores.mailbox(account, "Work")).id
    with pytest.raises(MailboxNotFound):
        await stores.reader.mailboxes.mailbox(account, "mbx_none")


async def test_ids_are_found_by_uid_and_threads_by_id(stores: Stores) -> None:
    account = await stores.add_account()
    inbox = await stores.mailbox(account, "INBOX")
    ids = await fill(stores, account, 3)

    assert set(await stores.reader.messages.ids_at(account, inbox.id, [1, 3, 99])) == {ids[0], ids[2]}
    assert set(await stores.reader.messages.ids_at(account, inbox.id, range(1, 2_000))) == set(ids)
    thread = (await stores.reader.messages.message(account, ids[1])).thread_id
    assert await stores.reader.messages.threads(account, [thread, "thr_none"]) == {
        thread: [(ids[1], [inbox.id])],
        "thr_none": [],
    }


@pytest.mark.parametrize(
    ("leaf", "found"),
    [
        (f.ReceivedBetween(1_000, None), ["s2", "s1"]),
        (f.ReceivedBetween(None, 1_000), ["s0"]),
        (f.SizeBetween(None, 10_000_000), ["s2", "s1", "s0"]),
        (f.SizeBetween(10_000_000, None), []),
        (f.HasAttachments(False), ["s2", "s1", "s0"]),
        (f.MessageIdHeader("<none@x>"), []),
        (f.IsOneOf([]), []),
        (f.Not(f.Any(())), ["s2", "s1", "s0"]),
    ],
)
async def test_conditions_may_be_open_on_either_side(stores: Stores, leaf: f.Filter, found: list[str]) -> None:
    account = await stores.add_account()
    await fill(stores, account, 3)

    listed = await stores.reader.lists.search(account, leaf, limit=10)

    assert [one.summary.partition(b'"subject":"')[2][:2].decode() for one in listed] == found
    assert await stores.reader.lists.count(account, leaf) == len(found)


async def test_the_pages_before_and_after_a_message_meet(stores: Stores) -> None:
    account = await stores.add_account()
    ids = await fill(stores, account, 5)
    anchor = Anchor(2_000, 3, ids[2])

    after = await stores.reader.lists.search(account, f.All(()), limit=2, after=anchor)
    before = await stores.reader.lists.search(account, f.All(()), limit=2, before=anchor)

    assert [one.anchor.id for one in before + after] == [ids[4], ids[3], ids[1], ids[0]]
    by_subject = await stores.reader.lists.search(
        account, f.All(()), sort=Sort("subject", is_descending=False), limit=5
    )
    assert [one.anchor.id for one in by_subject] == ids
