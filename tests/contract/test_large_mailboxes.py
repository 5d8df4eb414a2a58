"""A mailbox that ends with very many messages is taken apart in several transactions, and every event is told."""

from __future__ import annotations

import pytest
from app.errors import Conflict
from app.mail import filter as f
from app.mail.delta import Delta, MailboxDeleted, MailboxReset
from app.mail.types import AccountId
from app.mailstore import index as module
from app.mailstore import mailboxes

from tests.contract.stores import Stores, message


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENDED_AT_ONCE", 3)
    monkeypatch.setattr(mailboxes, "ENDED_AT_ONCE", 3)
    monkeypatch.setattr(module, "REMOVED_AT_ONCE", 2)


async def filled(stores: Stores, path: str, count: int = 8) -> AccountId:
    account_id = await stores.add_account()
    mailbox = await stores.mailbox(account_id, path)
    contents = [(await stores.store.keep(message(number)), frozenset[str](), 1_000) for number in range(count)]
    await stores.store.add(account_id, mailbox.id, contents)
    return account_id


async def told_since(stores: Stores, account_id: AccountId, seq: int) -> list[str]:
    return [one.type for one in await stores.log.after(account_id, seq, 100)]


async def left(stores: Stores, account_id: AccountId) -> int:
    return await stores.reader.lists.count(account_id, f.All(()))


async def test_a_large_mailbox_that_is_deleted_loses_most_messages_before(stores: Stores) -> None:
    account_id = await filled(stores, "Archive")
    archive = await stores.mailbox(account_id, "Archive")
    before = (await stores.reader.mailboxes.standing(account_id)).seq

    await stores.store.mailboxes.delete(account_id, archive.id)

    assert await left(stores, account_id) == 0
    assert await told_since(stores, account_id, before) == [*["message.deleted"] * 5, "mailbox.deleted"]


async def test_a_large_mailbox_that_may_not_be_deleted_keeps_its_messages(stores: Stores) -> None:
    account_id = await filled(stores, "INBOX")
    inbox = await stores.mailbox(account_id, "INBOX")

    for delete in (stores.store.mailboxes.delete, stores.store.mailboxes.delete_name):
        with pytest.raises(Conflict):
            await delete(account_id, inbox.id)

    assert await left(stores, account_id) == 8


async def test_a_large_mailbox_that_is_gone_elsewhere_loses_most_messages_before(stores: Stores) -> None:
    account_id = await filled(stores, "Archive")
    archive = await stores.mailbox(account_id, "Archive")
    before = (await stores.reader.mailboxes.standing(account_id)).seq

    await stores.index.apply(account_id, Delta(mailboxes_deleted=(MailboxDeleted(archive.id),)))

    assert await told_since(stores, account_id, before) == [*["message.deleted"] * 5, "mailbox.deleted"]


async def test_only_a_reset_that_makes_a_mailbox_anew_takes_its_messages(stores: Stores) -> None:
    account_id = await filled(stores, "Archive")
    archive = await stores.mailbox(account_id, "Archive")
    before = (await stores.reader.mailboxes.standing(account_id)).seq

    same = MailboxReset(archive.id, archive.uid_validity)
    await stores.index.apply(account_id, Delta(mailboxes_reset=(same,)))
    assert await told_since(stores, account_id, before) == []
    await stores.index.apply(account_id, Delta(mailboxes_reset=(MailboxReset(archive.id, archive.uid_validity + 1),)))

    assert await left(stores, account_id) == 0
    assert await told_since(stores, account_id, before) == [*["message.deleted"] * 5, "mailbox.reset"]


async def test_a_mailbox_of_ordinary_size_ends_in_one_transaction(stores: Stores) -> None:
    account_id = await filled(stores, "Archive", 3)
    archive = await stores.mailbox(account_id, "Archive")
    before = (await stores.reader.mailboxes.standing(account_id)).seq

    await stores.store.mailboxes.delete(account_id, archive.id)

    assert await told_since(stores, account_id, before) == ["mailbox.deleted"]
