"""An account on a real Dovecot is followed: what is there is indexed, what changes is heard of."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from app.cluster.bus import ACCOUNTS
from app.db import directory
from app.db.session import Transaction
from app.mail.metadata import with_metadata

from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.tls import TlsFiles
from tests.sync_harness import (
    Followed,
    GivenBackends,
    OtherClient,
    imap_backend,
    mail,
    open_followed,
    supervised,
)


@pytest.fixture
def user(dovecot: Dovecot) -> DovecotUser:
    return dovecot.add_user()


@pytest.fixture
async def followed(tmp_path: Path, dovecot: Dovecot, tls: TlsFiles, user: DovecotUser) -> AsyncIterator[Followed]:
    async with open_followed(tmp_path, dovecot, tls, user) as account:
        yield account


@pytest.fixture
def client(dovecot: Dovecot, user: DovecotUser) -> Iterator[OtherClient]:
    with OtherClient(dovecot, user) as client:
        yield client


async def test_a_first_sync_indexes_every_mailbox_without_an_event_for_each_message(
    followed: Followed, client: OtherClient
) -> None:
    for number in range(5):
        client.append("INBOX", mail(f"n{number}"))
    client.append("Archive", mail("old"), "(\\Seen)")

    async with followed.following():
        await followed.until_live()

    assert await followed.subjects() == [f"n{number}" for number in range(5)]
    assert await followed.content() == await followed.origin_content()
    assert await followed.events("message.") == []
    progress = [orjson.loads(one.body)["data"] for one in await followed.events("sync.progress")]
    assert [(one["indexed"], one["total"]) for one in progress if one["is_complete"]] == [(5, 5), (1, 1)]
    inbox = await followed.harness.mailbox(followed.account_id)
    assert (inbox.total, inbox.unread, inbox.is_complete) == (5, 5, True)


async def test_new_mail_is_told_with_its_summary(followed: Followed, dovecot: Dovecot, user: DovecotUser) -> None:
    async with followed.following():
        await followed.until_live()

        await asyncio.to_thread(dovecot.deliver, mail("fresh"), user.name)

        await followed.until(followed.subjects, ["fresh"])
    (event,) = await followed.events("message.")
    assert event.type == "message.created"
    assert orjson.loads(event.body)["data"]["message"]["subject"] == "fresh"


async def test_new_mail_is_told_in_every_mailbox(followed: Followed, client: OtherClient) -> None:
    async with followed.following():
        await followed.until_live()
        for name in ("Archive", "Sent", "Trash"):
            client.append(name, mail(name))
        for name in ("Archive", "Sent", "Trash"):
            await followed.until(lambda name=name: followed.subjects(name), [name])  # type: ignore[misc]

    assert await followed.told() == ["message.created"] * 3


async def test_flags_set_by_another_client_are_told(followed: Followed, client: OtherClient) -> None:
    client.append("INBOX", mail("one"))
    async with followed.following():
        await followed.until_live()
        client.select()
        client.uid("STORE", "1", "+FLAGS", "(\\Seen $Work)")
        await followed.until(followed.flags, [{"\\Seen", "$Work"}])

    assert await followed.told() == ["message.updated"]
    assert (await followed.harness.mailbox(followed.account_id)).unread == 0


async def test_messages_expunged_by_another_client_are_told(followed: Followed, client: OtherClient) -> None:
    for name in ("one", "two"):
        client.append("INBOX", mail(name))
    async with followed.following():
        await followed.until_live()
        client.select()
        client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
        client.do("expunge")
        await followed.until(followed.subjects, ["two"])

    assert (await followed.told())[-1] == "message.deleted"
    assert (await followed.harness.mailbox(followed.account_id)).total == 1


@pytest.mark.parametrize("command", ["MOVE", "COPY"])
async def test_a_message_moved_by_another_client_keeps_its_id(
    followed: Followed, client: OtherClient, command: str
) -> None:
    client.append("INBOX", mail("travels"))
    async with followed.following():
        await followed.until_live()
        ids = await followed.ids()
        client.select()
        client.uid(command, "1", "Archive")
        if command == "COPY":  # what clients do where there is no MOVE
            await followed.until(lambda: followed.subjects("Archive"), ["travels"])
            client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
            client.do("expunge")
        await followed.until(followed.ids, [])
        await followed.until(lambda: followed.ids("Archive"), ids)

    events = await followed.events("message.")
    assert "message.moved" in [one.type for one in events]
    deleted = [orjson.loads(one.body)["data"]["reason"] for one in events if one.type == "message.deleted"]
    assert deleted == ([] if command == "MOVE" else ["merged"])


async def test_a_move_while_nobody_watched_keeps_the_id(followed: Followed, client: OtherClient) -> None:
    client.append("INBOX", mail("travels"))
    async with followed.following():
        await followed.until_live()
    ids = await followed.ids()
    client.select()
    client.uid("MOVE", "1", "Archive")

    async with followed.following():
        await followed.until(lambda: followed.ids("Archive"), ids)

    assert await followed.told() == ["message.moved"]


async def test_a_copy_by_another_client_has_an_id_of_its_own(followed: Followed, client: OtherClient) -> None:
    client.append("INBOX", mail("twice"))
    async with followed.following():
        await followed.until_live()
        client.select()
        client.uid("COPY", "1", "Archive")
        await followed.until(lambda: followed.subjects("Archive"), ["twice"])

    assert await followed.ids() != await followed.ids("Archive")
    assert await followed.told() == ["message.created"]


async def test_mailboxes_made_renamed_and_deleted_by_another_client_are_told(
    followed: Followed, client: OtherClient
) -> None:
    async with followed.following():
        await followed.until_live()
        before = await followed.paths()

        client.do("create", "Work")
        client.append("Work", mail("plan"))
        await followed.until(lambda: _subjects(followed, "Work"), ["plan"])
        ids = await followed.ids("Work")
        mailbox_id = (await followed.harness.mailbox(followed.account_id, "Work")).id

        client.do("rename", "Work", "Office")
        await followed.until(lambda: _subjects(followed, "Office"), ["plan"])
        assert (await followed.harness.mailbox(followed.account_id, "Office")).id == mailbox_id
        assert await followed.ids("Office") == ids

        client.do("delete", "Office")
        await followed.until(followed.paths, before)

    assert [one for one in await followed.told("mailbox.") if one != "mailbox.created"][-1] == "mailbox.deleted"


async def test_a_message_moved_into_a_new_mailbox_keeps_its_id(followed: Followed, client: OtherClient) -> None:
    client.append("INBOX", mail("travels"))
    async with followed.following():
        await followed.until_live()
        ids = await followed.ids()
        client.do("create", "Trips")
        client.select()
        client.uid("MOVE", "1", "Trips")
        await followed.until(lambda: _subjects(followed, "Trips"), ["travels"])
        await followed.until(lambda: followed.ids("Trips"), ids)


async def test_a_mailbox_made_anew_under_its_name_is_reset_with_one_event(
    followed: Followed, client: OtherClient
) -> None:
    async def work(transaction: Transaction) -> None:
        settings = with_metadata("", {"user": "u_7"})
        await directory.change(transaction, followed.account_id, {"settings": settings})

    await followed.harness.database.write(work)
    client.do("create", "Work")
    client.append("Work", mail("old"))
    async with followed.following():
        await followed.until_live()
        await asyncio.sleep(1.1)  # UIDVALIDITY counts seconds
    client.do("delete", "Work")
    client.do("create", "Work")
    client.append("Work", mail("new"))

    async with followed.following():
        await followed.until(lambda: followed.subjects("Work"), ["new"])
        await followed.until_live()

    assert (await followed.told("mailbox.")).count("mailbox.reset") == 1
    assert await followed.told() == []
    [resync] = await followed.events("account.resync")
    assert orjson.loads(resync.body)["data"]["metadata"] == {"user": "u_7"}


async def test_a_restart_of_the_mail_server_loses_nothing(
    followed: Followed, dovecot: Dovecot, user: DovecotUser
) -> None:
    await asyncio.to_thread(dovecot.deliver, mail("before"), user.name)
    async with followed.following():
        await followed.until_live()
        await asyncio.to_thread(dovecot.stop)
        await followed.until(followed.state, ("unreachable", "down"))
        await asyncio.to_thread(dovecot.start)
        await asyncio.to_thread(dovecot.deliver, mail("meanwhile"), user.name)
        await followed.until(followed.subjects, ["before", "meanwhile"])
        await followed.until_live()
        await asyncio.to_thread(dovecot.deliver, mail("after"), user.name)
        await followed.until(followed.subjects, ["before", "meanwhile", "after"])

    assert await followed.told() == ["message.created"] * 2
    told = await followed.told("account.")
    assert (told[0], told[-1]) == ("account.connected", "account.connected")
    assert "account.disconnected" in told


async def test_a_refused_login_waits_for_new_credentials(
    followed: Followed, dovecot: Dovecot, tls: TlsFiles, user: DovecotUser
) -> None:
    wrong = replace(user, password="wrong")
    refused = imap_backend(followed.account_id, followed.harness, dovecot, tls, wrong)
    backends = GivenBackends({followed.account_id: refused})
    async with supervised(followed.harness, backends):
        await followed.until(followed.state, ("auth_required", "down"))

        backends.by_id[followed.account_id] = followed.backend
        await _set_status(followed, "ready")
        followed.harness.bus.poke(ACCOUNTS)

        await followed.until_live()

    assert (await followed.told("account."))[:2] == ["account.auth_required", "account.connected"]


async def test_previews_follow_the_first_sync(followed: Followed, client: OtherClient) -> None:
    client.append("INBOX", mail("old", "First words."))
    async with followed.following():
        await followed.until_live()
        await followed.until(lambda: _previews(followed), ["First words."])
        client.append("INBOX", mail("new", "Other words."))
        await followed.until(lambda: _previews(followed), ["First words.", "Other words."])


async def test_a_first_sync_that_is_cut_off_at_any_point_is_taken_up_again(
    followed: Followed, client: OtherClient
) -> None:
    for number in range(30):
        client.append("INBOX", mail(f"n{number}"))
        client.append("Archive", mail(f"a{number}"), "(\\Seen)")
    client.select()
    chance = random.Random(1)
    for number in range(12):
        with suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0.0, 0.15)), followed.following():
                await asyncio.sleep(1)
        client.uid("STORE", str(number + 1), "+FLAGS", "(\\Flagged)")
        if number == 6:
            client.uid("STORE", "20:22", "+FLAGS", "(\\Deleted)")
            client.do("expunge")

    async with followed.following():
        await followed.until_live()

    assert await followed.content() == await followed.origin_content()
    assert (await followed.harness.mailbox(followed.account_id)).total == 27


async def _subjects(followed: Followed, path: str) -> list[str] | None:
    return await followed.subjects(path) if path in await followed.paths() else None


async def _previews(followed: Followed) -> list[str | None]:
    return [one.preview for one in await followed.messages()]


async def _set_status(followed: Followed, status: str) -> None:
    async def work(transaction: Transaction) -> None:
        await directory.change(transaction, followed.account_id, {"status": status})

    await followed.harness.database.write(work)
