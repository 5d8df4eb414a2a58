"""Logins, deliveries and maildrops keep their promises on every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import orjson
import pytest
from app.db import submissions
from app.db.accounts import address_of
from app.errors import DatabaseUnavailable, NotAuthenticated
from app.mail.types import AccountId, AccountKind, MailboxId
from app.services.access.logins import Logins
from app.services.accounts.maildrops import MaildropInUse, Maildrops
from app.services.sending.deliveries import Deliveries, Inbox, Outgoing

from tests.access import set_password
from tests.contract.stores import Stores, message, open_stores
from tests.harness import FAST_HASHER


@dataclass
class Office:
    """Services over one database, and an account of theirs with its address."""

    stores: Stores
    deliveries: Deliveries
    logins: Logins
    maildrops: Maildrops
    account_id: AccountId
    address: str

    async def inbox(self, address: str | None = None) -> Inbox:
        found = await self.deliveries.find(address or self.address)
        assert found is not None
        return found


@pytest.fixture
async def office(database_url: str | None, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_stores(tmp_path, database_url) as stores:
        account_id = await stores.add_account()
        address = await address_of(stores.database, account_id)
        assert address is not None
        yield Office(
            stores,
            Deliveries(stores.database, stores.index, stores.store, stores.bus, ["demo.test"]),
            Logins(stores.database, FAST_HASHER),
            Maildrops(stores.database, stores.store),
            account_id,
            address,
        )


async def test_a_password_that_was_set_lets_its_owner_in(office: Office) -> None:
    await set_password(office.stores.database, office.logins, office.account_id, "secret")

    login = await office.logins.verify(office.address, "secret", address="127.0.0.1")
    assert login.account_id == office.account_id
    with pytest.raises(NotAuthenticated):
        await office.logins.verify(office.address, "Secret", address="127.0.0.1")


async def test_an_account_without_password_lets_nobody_in(office: Office) -> None:
    with pytest.raises(NotAuthenticated):
        await office.logins.verify(office.address, "", address="127.0.0.1")


async def test_mail_is_found_its_inbox_by_address_in_any_case_and_with_a_plus(office: Office) -> None:
    local, _, domain = office.address.partition("@")

    for address in (office.address.upper(), f"{local}+shop@{domain}", f'"{local}"@{domain}'):
        assert (await office.inbox(address)).account_id == office.account_id
    assert await office.deliveries.find(f"nobody@{domain}") is None
    assert await office.deliveries.find("") is None


async def test_a_remote_account_receives_nothing_here(office: Office) -> None:
    remote = await office.stores.add_account(AccountKind.IMAP)

    assert await office.deliveries.is_embedded(office.account_id)
    assert not await office.deliveries.is_embedded(remote)
    assert await office.deliveries.account_of(f"{remote}@demo.test") is None


async def test_a_user_may_send_as_none_but_the_own_address(office: Office) -> None:
    local, _, domain = office.address.partition("@")

    assert await office.deliveries.may_send_as(office.account_id, f"{local}+x@{domain}")
    assert not await office.deliveries.may_send_as(office.account_id, f"other@{domain}")
    assert not await office.deliveries.may_send_as(AccountId("acc_none"), office.address)


async def test_deliveries_at_one_time_all_arrive(office: Office) -> None:
    inbox = await office.inbox()

    async def deliver(number: int) -> None:
        content = await office.stores.store.keep(message(number))
        assert await office.deliveries.deliver(content, [inbox, inbox]) == [True, True]

    await asyncio.gather(*(deliver(number) for number in range(20)))
    maildrop = await office.maildrops.open(office.account_id)

    assert [one.uid for one in maildrop.messages] == list(range(1, 21))
    assert len({one.uidl for one in maildrop.messages}) == 20


async def test_a_queued_message_is_a_submission_with_its_event(office: Office) -> None:
    content = await office.stores.store.keep(message(1))
    outgoing = Outgoing(office.account_id, office.address, ("joe@there.example",), "<1@example.com>")

    assert await office.deliveries.deliver(content, [], outgoing) == []

    (row,) = await submissions.page(office.stores.database, office.account_id, 10)
    assert (row.status, row.blob, row.size_bytes) == ("queued", content.blob, len(message(1)))
    assert orjson.loads(row.recipients) == [["joe@there.example", "pending", None, None]]
    events = await office.stores.log.after(office.account_id, 0, 100)
    assert [one.type for one in events if one.subject == row.id] == ["submission.queued"]


async def test_a_maildrop_removes_what_it_is_told_and_is_held_by_one(office: Office) -> None:
    for number in range(3):
        content = await office.stores.store.keep(message(number))
        await office.deliveries.deliver(content, [await office.inbox()])
    maildrop = await office.maildrops.open(office.account_id)
    with pytest.raises(MaildropInUse):
        await office.maildrops.open(office.account_id)

    await maildrop.remove(maildrop.messages[:2])
    await maildrop.remove(maildrop.messages[:2])
    office.maildrops.release(office.account_id)

    again = await office.maildrops.open(office.account_id)
    assert again.messages == maildrop.messages[2:]


async def test_a_message_reaches_all_its_recipients_or_none(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    other = await office.stores.add_account()
    inboxes = [await office.inbox(), await office.inbox(f"{other}@demo.test")]
    outgoing = Outgoing(office.account_id, office.address, ("joe@there.example",), "<1@example.com>")
    content = await office.stores.store.keep(message(1))

    async def fail(*_: object) -> NoReturn:
        raise DatabaseUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(submissions, "add", fail)
        with pytest.raises(DatabaseUnavailable):
            await office.deliveries.deliver(content, inboxes, outgoing)
    assert await _counts(office, inboxes) == [0, 0]

    assert await office.deliveries.deliver(content, inboxes, outgoing) == [True, True]
    assert await _counts(office, inboxes) == [1, 1]
    assert len(await submissions.page(office.stores.database, office.account_id, 10)) == 1


async def test_an_account_that_is_gone_keeps_the_message_from_no_other(office: Office) -> None:
    inboxes = [await office.inbox(), Inbox("gone@demo.test", AccountId("acc_gone"), MailboxId("mbx_gone"))]
    content = await office.stores.store.keep(message(1))
    assert await office.deliveries.deliver(content, inboxes) == [True, False]
    assert await _counts(office, inboxes[:1]) == [1]


async def test_deliveries_to_the_same_accounts_in_any_order_all_succeed(office: Office) -> None:
    other = await office.stores.add_account()
    inboxes = [await office.inbox(), await office.inbox(f"{other}@demo.test")]
    contents = [await office.stores.store.keep(message(number)) for number in range(20)]
    orders = [inboxes, inboxes[::-1]] * 10
    deliver = office.deliveries.deliver
    await asyncio.gather(*(deliver(content, order) for content, order in zip(contents, orders, strict=True)))
    assert await _counts(office, inboxes) == [20, 20]


async def _counts(office: Office, inboxes: Sequence[Inbox]) -> list[int]:
    mailboxes = [await office.stores.reader.mailboxes.mailbox(inbox.account_id, inbox.mailbox_id) for inbox in inboxes]
    return [mailbox.total for mailbox in mailboxes]
