"""Right after an account was added its mailboxes and messages are listed, though nothing has followed it yet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from app.backends.imap.backend import ImapBackend
from app.services.accounts import initial_listing

from tests.gateway import open_gateway
from tests.integration.raw_server import raw_server
from tests.integration.test_hostile_origins import origin_at
from tests.servers.hostile_imap import Dialog, HostileImap, row
from tests.sync_harness import add_remote_account
from tests.unit.api.mail import EVERYTHING, Mail


@asynccontextmanager
async def added(folder: Path, server: HostileImap) -> AsyncIterator[Mail]:
    """An account at this server of which nothing is known yet."""
    async with raw_server(server) as port, open_gateway(folder) as gateway:
        account_id = await add_remote_account(gateway.harness, "ann@x.test")
        backend = ImapBackend(account_id, origin_at(port), gateway.harness.reader.mailboxes)
        gateway.backends.given[account_id] = backend
        yield Mail(gateway, account_id, gateway.client(await gateway.token(account_id, scopes=EVERYTHING)))
        await backend.close()


async def hanging(dialog: Dialog, tag: str) -> None:
    await dialog.reader.read()


async def test_its_mailboxes_are_listed_with_their_counts(tmp_path: Path) -> None:
    async with added(tmp_path, HostileImap(rows=[row()] * 3)) as mail:
        answer = await mail.client.get(f"/v1/accounts/{mail.account_id}/mailboxes")

        assert answer.status_code == 200
        assert [(one["path"], one["total"]) for one in answer.json()["items"]] == [("INBOX", 3)]


async def test_its_messages_are_listed_page_by_page(tmp_path: Path) -> None:
    async with added(tmp_path, HostileImap(rows=[row()] * 5)) as mail:
        uids: list[int] = []
        cursor: str | None = None
        while True:
            parameters = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = (await mail.client.get(f"/v1/accounts/{mail.account_id}/messages", params=parameters)).json()
            uids += [one["id"] for one in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break

        assert len(set(uids)) == len(uids) == 5


async def test_an_account_that_is_empty_is_an_empty_list(tmp_path: Path) -> None:
    async with added(tmp_path, HostileImap(rows=[])) as mail:
        answer = await mail.client.get(f"/v1/accounts/{mail.account_id}/messages")

        assert (answer.status_code, answer.json()["items"]) == (200, [])


@pytest.mark.parametrize("path", ["mailboxes", "messages"])
async def test_a_server_that_does_not_answer_in_time_is_no_empty_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(initial_listing, "FIRST_SECONDS", 0.1)
    async with added(tmp_path, HostileImap({"LIST": hanging})) as mail:
        answer = await mail.client.get(f"/v1/accounts/{mail.account_id}/{path}")

        assert (answer.status_code, answer.json()["code"]) == (503, "sync_pending")
        assert int(answer.headers["Retry-After"]) > 0


async def test_a_slow_server_is_waited_for(tmp_path: Path) -> None:
    async def slow(dialog: Dialog, tag: str) -> None:
        await asyncio.sleep(2.5)
        server.spoilt.clear()
        await server._answer(dialog, tag, "LIST")

    server = HostileImap({"LIST": slow})
    async with added(tmp_path, server) as mail:
        answer = await mail.client.get(f"/v1/accounts/{mail.account_id}/messages")

        assert [one["subject"] for one in answer.json()["items"]] == ["Hello"]
        assert answer.json()["sync"]["status"] == "initial"
