"""What an account whose mailboxes are labels promises: one message, one id, in all its mailboxes (X-GM-EXT-1)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gmail_house import GmailAccount, mail, open_gmail
from tests.servers.gmail_store import ALL, INBOX, SENT, STARRED, TRASH


@pytest.fixture
async def account(tmp_path: Path) -> AsyncIterator[GmailAccount]:
    async with open_gmail(tmp_path) as account:
        yield account


async def test_a_message_is_one_in_all_its_mailboxes_and_fetched_once(account: GmailAccount) -> None:
    store = account.gmail.store
    store.make("Work")
    plain, labelled = store.deliver(mail("plain")), store.deliver(mail("labelled"), INBOX, "Work")
    async with account.following():
        await account.settled()

        assert await account.labels() == {"plain": [INBOX, ALL], "labelled": [INBOX, "Work", ALL]}

    assert account.gmail.fetched == {plain.id: 1, labelled.id: 1}


async def test_labels_given_and_taken_by_another_client_keep_the_id(account: GmailAccount) -> None:
    store = account.gmail.store
    store.make("Work")
    one = store.deliver(mail("one"))
    async with account.following():
        await account.settled()
        id_ = (await account.message("one")).id
        for change, paths in (
            (lambda: store.place(one, "Work"), [INBOX, "Work", ALL]),
            (lambda: store.archive(one), ["Work", ALL]),
            (lambda: store.flag(one, {"\\Flagged"}), ["Work", ALL, STARRED]),
            (lambda: store.trash(one), [TRASH]),
            (lambda: store.place(one, INBOX), [INBOX, ALL, STARRED]),
        ):
            change()
            await account.settled()
            message = await account.message("one")
            assert message.id == id_
            assert await account.paths_of(message) == sorted(paths)

        assert set(await account.told()) == {"message.moved", "message.updated"}


async def test_new_mail_is_created_once(account: GmailAccount) -> None:
    async with account.following():
        await account.settled()
        account.gmail.store.deliver(mail("new"))
        account.gmail.store.send(mail("sent"))
        await account.settled()

        assert (await account.told()).count("message.created") == 2
        assert await account.labels() == {"new": [INBOX, ALL], "sent": [ALL, SENT]}
