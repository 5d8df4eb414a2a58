"""An account on a real Dovecot is followed: what is there is indexed, what changes is heard of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.tls import TlsFiles
from tests.sync_house import Followed, OtherClient, mail, open_followed


@pytest.fixture
def user(dovecot: Dovecot) -> DovecotUser:
    return dovecot.add_user()


@pytest.fixture
async def followed(tmp_path: Path, dovecot: Dovecot, tls: TlsFiles, user: DovecotUser) -> AsyncIterator[Followed]:
    async with open_followed(tmp_path, dovecot, tls, user) as account:
        yield account


@pytest.fixture
def client(dovecot: Dovecot, user: DovecotUser) -> object:
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
    inbox = await followed.house.mailbox(followed.account_id)
    assert (inbox.total, inbox.unread, inbox.is_complete) == (5, 5, True)


async def test_new_mail_is_told_with_its_summary(followed: Followed, dovecot: Dovecot, user: DovecotUser) -> None:
    async with followed.following():
        await followed.until_live()

        await asyncio.to_thread(dovecot.deliver, mail("fresh"), user.name)

        await followed.until(followed.subjects, ["fresh"])
    (event,) = await followed.events("message.")
    assert event.type == "message.created"
    assert orjson.loads(event.body)["data"]["message"]["subject"] == "fresh"
