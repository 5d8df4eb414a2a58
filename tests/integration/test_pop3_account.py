"""An account over POP3 on real servers: what comes, what stays, what leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from app.mail.backend import WHOLE
from app.mail.identifiers import now_ms
from app.mail.pop3 import Pop3Rules, Retention
from app.mailstore.pop3_ledger import Pop3State
from app.workers.pop3 import fetching

from tests.pop3_harness import (
    Maildrop,
    Polled,
    courier_maildrop,
    delivered,
    dovecot_maildrop,
    open_polled,
    own_maildrop,
)
from tests.servers.tls import TlsFiles
from tests.sync_harness import mail


@pytest.fixture(params=["dovecot", "courier", "own"])
async def maildrop(request: pytest.FixtureRequest, tmp_path: Path, tls: TlsFiles) -> AsyncIterator[Maildrop]:
    """An empty maildrop on each server."""
    if request.param == "own":
        async with own_maildrop(tmp_path / "origin", tls) as found:
            yield found
    elif request.param == "dovecot":
        yield dovecot_maildrop(request.getfixturevalue("dovecot"))
    else:
        yield courier_maildrop(request.getfixturevalue("courier"))


async def in_thread_subjects(maildrop: Maildrop) -> list[str]:
    return sorted(await asyncio.to_thread(maildrop.subjects))


async def remove_here(account: Polled, subject: str) -> None:
    """Delete a message for good, as the API does."""
    (message,) = [one for one in await account.messages() if orjson.loads(one.summary)["subject"] == subject]
    await account.backend.expunge([message])


async def test_what_was_there_comes_without_events_and_new_mail_with_one_each(
    maildrop: Maildrop, tmp_path: Path
) -> None:
    await delivered(maildrop, "one", "two", "three")
    async with open_polled(tmp_path, maildrop.login) as account:
        await account.poll()
        assert sorted(await account.subjects()) == ["one", "three", "two"]
        assert await account.told() == []

        await delivered(maildrop, "four")
        outcome = await account.poll()

        assert [one.overview.subject for one in outcome.arrived] == ["four"]
        assert await account.told() == ["message.created"]
        assert await account.states() == ["stored"] * 4
        inbox = await account.harness.mailbox(account.account_id)
        assert (inbox.total, inbox.unread, inbox.is_complete) == (4, 4, True)


async def test_a_message_is_kept_byte_for_byte(maildrop: Maildrop, tmp_path: Path) -> None:
    await asyncio.to_thread(maildrop.deliver, mail("dots", ".\r\n..\r\n.a\r\n" + "x" * 900))
    (content,) = await asyncio.to_thread(maildrop.contents)
    async with open_polled(tmp_path, maildrop.login) as account:
        await account.poll()

        (message,) = await account.messages()
        assert b"".join([piece async for piece in account.backend.read_raw(message, WHOLE)]) == content


async def test_keep_leaves_everything_on_the_server(maildrop: Maildrop, tmp_path: Path) -> None:
    await delivered(maildrop, "one", "two")
    async with open_polled(tmp_path, maildrop.login) as account:
        await account.poll()
        await remove_here(account, "one")
        await account.poll()
        await account.poll()

        assert await account.subjects() == ["two"]
        assert await in_thread_subjects(maildrop) == ["one", "two"]
        assert sorted(await account.states()) == ["kept", "stored"]


async def test_remove_after_download_empties_the_server_and_keeps_all_here(maildrop: Maildrop, tmp_path: Path) -> None:
    await delivered(maildrop, "one", "two")
    async with open_polled(tmp_path, maildrop.login, "remove_after_download") as account:
        await account.poll()

        assert await in_thread_subjects(maildrop) == []
        assert await account.states() == ["delete_pending"] * 2
        await account.poll()
        assert await account.states() == ["deleted"] * 2
        assert sorted(await account.subjects()) == ["one", "two"]


async def test_mirror_delete_removes_there_what_was_deleted_here_alone(maildrop: Maildrop, tmp_path: Path) -> None:
    await delivered(maildrop, "one", "two")
    async with open_polled(tmp_path, maildrop.login, "mirror_delete") as account:
        await account.poll()
        await remove_here(account, "one")
        await account.poll()

        assert await in_thread_subjects(maildrop) == ["two"]
        assert await account.subjects() == ["two"]


async def test_keep_last_leaves_the_newest(maildrop: Maildrop, tmp_path: Path) -> None:
    for subject in ("one", "two", "three"):
        await delivered(maildrop, subject)
    order = await asyncio.to_thread(maildrop.subjects)
    async with open_polled(tmp_path, maildrop.login, "keep_last:1") as account:
        await account.poll()

        assert await in_thread_subjects(maildrop) == order[-1:]
        assert sorted(await account.subjects()) == ["one", "three", "two"]


async def test_keep_days_counts_from_when_a_message_was_stored(
    maildrop: Maildrop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await delivered(maildrop, "old")
    async with open_polled(tmp_path, maildrop.login, "keep_days:7") as account:
        with monkeypatch.context() as patch:
            eight_days_ago = now_ms() - 8 * 24 * 3600 * 1000
            patch.setattr(fetching, "now_ms", lambda: eight_days_ago)
            await account.poll()
        await delivered(maildrop, "new")
        await account.poll()

        assert await in_thread_subjects(maildrop) == ["new"]
        assert sorted(await account.subjects()) == ["new", "old"]


async def test_what_another_client_removes_stays_here_and_says_so(maildrop: Maildrop, tmp_path: Path) -> None:
    await delivered(maildrop, "one")
    async with open_polled(tmp_path, maildrop.login) as account:
        await account.poll()
        (message,) = await account.messages()
        assert orjson.loads(message.summary)["on_server"] is True

        await asyncio.to_thread(maildrop.remove, 1)
        await account.poll()

        (message,) = await account.messages()
        assert orjson.loads(message.summary)["on_server"] is False
        (event,) = await account.events("message.")
        data = orjson.loads(event.body)["data"]
        assert (event.type, data["changed"], data["on_server"]) == ("message.updated", ["on_server"], False)


async def test_a_mirror_removes_what_two_lists_lack(maildrop: Maildrop, tmp_path: Path) -> None:
    await delivered(maildrop, "one", "two")
    async with open_polled(tmp_path, maildrop.login, mirror=True) as account:
        await account.poll()
        await asyncio.to_thread(maildrop.remove, 1)
        await account.poll()
        assert len(await account.subjects()) == 2
        await account.poll()

        assert await account.subjects() == await in_thread_subjects(maildrop)
        assert await account.told() == ["message.updated", "message.deleted"]


async def test_identical_copies_are_each_a_message(maildrop: Maildrop, tmp_path: Path) -> None:
    await delivered(maildrop, "same", "same", "same")
    async with open_polled(tmp_path, maildrop.login) as account:
        await account.poll()
        await asyncio.to_thread(maildrop.remove, 2)
        await account.poll()

        assert await account.subjects() == ["same"] * 3
        assert sorted(await account.states()) == ["gone", "stored", "stored"]


async def test_a_large_message_is_told_by_its_header_and_completed(
    maildrop: Maildrop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "BATCH_SECONDS", 0.0)
    async with open_polled(tmp_path, maildrop.login) as account:
        await account.poll()
        await asyncio.to_thread(maildrop.deliver, mail("large", "word " * 100_000))
        await account.poll()

        created, completed = await account.events("message.")
        assert (created.type, completed.type) == ("message.created", "message.updated")
        shown = orjson.loads(created.body)["data"]["message"]
        assert (shown["subject"], shown["preview"]) == ("large", None)
        (message,) = await account.messages()
        assert orjson.loads(message.summary)["preview"].startswith("word word")
        assert message.blob is not None
        assert await account.states() == ["stored"]


async def test_moving_to_another_server_doubles_nothing(maildrop: Maildrop, tmp_path: Path, tls: TlsFiles) -> None:
    """The same mail under other unique ids: each is known by its header, and told of by no event."""
    await delivered(maildrop, "one", "two")
    async with own_maildrop(tmp_path / "other", tls) as other, open_polled(tmp_path, maildrop.login) as account:
        await account.poll()
        ids = await account.ids()
        for content in await asyncio.to_thread(maildrop.contents):
            await asyncio.to_thread(other.deliver, content)
        await delivered(other, "three")

        account.begin_anew(login=other.login)
        await account.poll()

        assert [one.type for one in await account.events("message.")] == ["message.created"]
        assert (await account.ids())[:2] == ids
        assert await account.states() == ["stored"] * 3


async def test_rules_can_change(maildrop: Maildrop, tmp_path: Path) -> None:
    await delivered(maildrop, "one", "two")
    async with open_polled(tmp_path, maildrop.login) as account:
        await account.poll()
        await remove_here(account, "one")
        await account.poll()

        account.begin_anew(Pop3Rules(Retention.parse("mirror_delete")))
        await account.poll()
        assert await in_thread_subjects(maildrop) == ["two"]

        account.begin_anew(Pop3Rules(Retention.parse("remove_after_download")))
        await account.poll()
        assert await in_thread_subjects(maildrop) == []
        assert Pop3State.STORED not in await account.states()
        assert await account.subjects() == ["two"]


async def test_a_copy_that_is_damaged_here_is_not_removed_there(maildrop: Maildrop, tmp_path: Path) -> None:
    await delivered(maildrop, "one")
    async with open_polled(tmp_path, maildrop.login) as account:
        await account.poll()
        (message,) = await account.messages()
        assert message.blob is not None
        (tmp_path / "blobs" / message.blob[:2] / message.blob[2:]).write_bytes(b"damaged")

        account.begin_anew(Pop3Rules(Retention.parse("remove_after_download")))
        await account.poll()

        assert await in_thread_subjects(maildrop) == ["one"]
