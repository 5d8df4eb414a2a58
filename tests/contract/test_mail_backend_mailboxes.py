"""What every MailBackend promises of mailboxes, tested on each."""

from __future__ import annotations

import asyncio

import pytest
from app.errors import (
    AlreadyExists,
    InvalidRequest,
    MessageNotFound,
    ServerRefused,
)
from app.mail.types import SEEN

from tests.contract.mail_account import MailAccount, joined, note


async def test_mailboxes_are_listed_with_roles_and_numbers(account: MailAccount) -> None:
    await account.add("INBOX", note("one"))
    await account.add("INBOX", note("two"), frozenset({SEEN}))

    listed = {one.path: one for one in await account.backend.list_mailboxes()}

    assert {path: one.role for path, one in listed.items()} == account.roles
    inbox = listed["INBOX"]
    assert (inbox.total, inbox.unread, inbox.is_selectable, inbox.is_subscribed) == (2, 1, True, True)


@pytest.mark.parametrize("name", ["Projekte & Ähnliches", "it's", "100%", "日本語", 'quo"te', "a{5}", "b{5+}"])
async def test_a_mailbox_is_made_filled_and_removed_under_any_name(account: MailAccount, name: str) -> None:
    if account.refused_in_names & set(name):
        with pytest.raises(ServerRefused):
            await account.backend.create_mailbox(name)
        return
    delta = (await account.backend.create_mailbox(name)).delta
    message = await account.add(name, note("inside"))

    (found,) = delta.mailboxes_found
    assert (found.path, found.is_subscribed) == (name, True)
    assert await account.subjects(name) == ["inside"]
    mailbox = await account.mailbox(name)
    assert mailbox.id == message.mailbox_id
    assert ((await account.backend.delete_mailbox(mailbox)).delta).mailboxes_deleted[0].mailbox_id == mailbox.id
    assert name not in {one.path for one in await account.backend.list_mailboxes()}


async def test_a_mailbox_that_was_just_made_is_removed_again(account: MailAccount) -> None:
    await account.backend.create_mailbox("Mistake")
    mailbox = await account.mailbox("Mistake")

    await account.backend.delete_mailbox(mailbox)

    assert "Mistake" not in {one.path for one in await account.backend.list_mailboxes()}


async def test_a_mailbox_is_not_made_twice(account: MailAccount) -> None:
    await account.backend.create_mailbox("Work")

    with pytest.raises(AlreadyExists):
        await account.backend.create_mailbox("Work")


@pytest.mark.parametrize("name", ["", "a\r\nb", "a\0b", "a//b", "/a"])
async def test_a_mailbox_name_that_cannot_be_is_refused(account: MailAccount, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await account.backend.create_mailbox(name)


async def test_those_below_a_renamed_mailbox_go_along(account: MailAccount) -> None:
    await account.backend.create_mailbox("Work")
    await account.backend.create_mailbox("Work/Projects")
    await account.add("Work/Projects", note("plan"))
    projects, work = await account.mailbox("Work/Projects"), await account.mailbox("Work")

    delta = (await account.backend.rename_mailbox(work, "Office")).delta

    assert {(one.mailbox_id, one.path) for one in delta.mailboxes_renamed} == {
        (work.id, "Office"),
        (projects.id, "Office/Projects"),
    }
    assert await account.subjects("Office/Projects") == ["plan"]
    assert (await account.mailbox("Office/Projects")).is_subscribed


async def test_a_subscription_is_ended_and_begun(account: MailAccount) -> None:
    await account.backend.create_mailbox("Work")
    work = await account.mailbox("Work")

    await account.backend.set_subscribed(work, False)
    assert not (await account.mailbox("Work")).is_subscribed
    await account.backend.set_subscribed(work, True)
    assert (await account.mailbox("Work")).is_subscribed


async def test_a_mailbox_made_anew_under_its_name_is_another_mailbox(account: MailAccount) -> None:
    await account.backend.create_mailbox("Work")
    message = await account.add("Work", note("old"))
    work = await account.mailbox("Work")
    await account.backend.delete_mailbox(work)
    await asyncio.sleep(1.1)  # UIDVALIDITY counts seconds
    await account.backend.create_mailbox("Work")
    await account.add("Work", note("new"))
    account.mirror.known[work.id] = work

    with pytest.raises(MessageNotFound):
        await account.backend.store_flags([message], add=frozenset({SEEN}))
    with pytest.raises(MessageNotFound):
        await joined(account.backend.read_raw(message))
    with pytest.raises(MessageNotFound):
        await account.backend.expunge([message])
