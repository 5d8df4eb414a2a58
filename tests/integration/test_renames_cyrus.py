"""Mailboxes that another client renames where UIDVALIDITY and UIDNEXT tell them not apart: MAILBOXID does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.harness import open_harness
from tests.servers.cyrus import Cyrus
from tests.sync_harness import Followed, OtherClient, add_remote_account, followed_live, mail, plain_backend

Live = tuple[Followed, OtherClient]
EMPTY = ("one", "two", "three")


@pytest.fixture
async def live(cyrus: Cyrus, tmp_path: Path) -> AsyncIterator[Live]:
    """An account that is followed and live, with some empty mailboxes and two of two messages, all as old."""
    user = cyrus.add_user()
    async with open_harness(tmp_path) as harness:
        with OtherClient(cyrus, user) as other:
            for name in (*EMPTY, "Work", "Play"):
                other.do("create", name)
            for name in ("Work", "Play"):
                other.append(name, mail(f"{name} 1"))
                other.append(name, mail(f"{name} 2"))
            account_id = await add_remote_account(harness, user.name)
            backend = plain_backend(account_id, harness, cyrus.imap_port, user)
            async with followed_live(harness, account_id, backend) as followed:
                yield followed, other


async def ids(followed: Followed) -> dict[str, str]:
    """path → id"""
    return {one.path: one.id for one in await followed.harness.reader.mailboxes.mailboxes(followed.account_id)}


async def test_empty_mailboxes_keep_their_ids_whichever_of_them_is_renamed(live: Live) -> None:
    followed, other = live
    before = await ids(followed)

    other.do("rename", "two", "second")
    other.do("rename", "three", "third")
    names = {"two": "second", "three": "third"}
    await followed.until(lambda: ids(followed), {names.get(path, path): id_ for path, id_ in before.items()})

    assert await followed.told("mailbox.deleted") == []


async def test_a_renamed_mailbox_is_told_from_one_that_was_deleted_and_one_that_is_new(live: Live) -> None:
    followed, other = live
    before = await ids(followed)

    other.do("rename", "one", "first")
    other.do("delete", "two")
    other.do("create", "four")
    await followed.until(followed.paths, (set(before) - {"one", "two"}) | {"first", "four"})

    after = await ids(followed)
    assert after["first"] == before["one"]
    assert after["four"] not in before.values()


async def test_messages_of_a_renamed_mailbox_keep_their_ids(live: Live) -> None:
    followed, other = live
    before = await ids(followed), await followed.ids("Work"), await followed.ids("Play")

    other.do("rename", "Work", "Office")
    other.do("rename", "Play", "Games")
    await followed.until(followed.paths, (set(before[0]) - {"Work", "Play"}) | {"Office", "Games"})

    after = await ids(followed)
    assert (after["Office"], after["Games"]) == (before[0]["Work"], before[0]["Play"])
    assert (await followed.ids("Office"), await followed.ids("Games")) == before[1:]
    assert await followed.told("message.deleted") == []
