"""An account at Gmail by REST alone: what a caller sees of messages that are in several mailboxes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from app.services.access.callers import Scope

from tests.gateway import Gateway, open_gateway
from tests.gmail_harness import GmailAccount, gmail_backend, mail
from tests.servers.gmail import running_gmail
from tests.servers.gmail_store import ALL, INBOX, TRASH
from tests.sync_harness import add_remote_account


@dataclass
class Opened:
    """`ids`: mailboxes by path."""

    gateway: Gateway
    account: GmailAccount
    ids: dict[str, str]

    @property
    def path(self) -> str:
        return f"/v1/accounts/{self.account.account_id}"

    async def get(self, path: str, client: httpx2.AsyncClient | None = None) -> Any:
        answer = await (client or self.gateway.admin).get(self.path + path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        answer = await self.gateway.admin.request(method, self.path + path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def paths(self, shown: dict[str, Any]) -> list[str]:
        by_id = {id_: path for path, id_ in self.ids.items()}
        return sorted(by_id[id_] for id_ in shown["mailbox_ids"])


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    """Three messages, of which "both" has the label Work too; their first sync is done."""
    async with open_gateway(tmp_path) as gateway, running_gmail() as gmail:
        account_id = await add_remote_account(gateway.harness, "me@gmail.test")
        backend = gmail_backend(gmail, gateway.harness, account_id)
        gateway.backends.given[account_id] = backend
        account = GmailAccount(gateway.harness, account_id, backend, gmail=gmail)
        gmail.store.make("Work")
        gmail.store.deliver(mail("plain"))
        gmail.store.deliver(mail("both"), INBOX, "Work")
        gmail.store.deliver(mail("work"), "Work")
        try:
            async with account.following():
                await account.settled()
                mailboxes = await gateway.harness.reader.mailboxes.mailboxes(account_id)
                yield Opened(gateway, account, {one.path: one.id for one in mailboxes})
        finally:
            await backend.close()


async def test_what_is_listed_moved_copied_and_removed_keeps_one_id_and_the_difference_tells_it(opened: Opened) -> None:
    listed = await opened.get("/messages")
    since = listed["state"]
    messages = {one["subject"]: one for one in listed["items"]}
    assert len(listed["items"]) == 3
    assert opened.paths(messages["both"]) == [INBOX, "Work", ALL]
    work = await opened.get(f"/messages?mailbox_id={opened.ids['Work']}&count=exact")
    assert {one["subject"] for one in work["items"]} == {"both", "work"}
    assert work["total"] == 2
    full = await opened.get(f"/messages/{messages['both']['id']}?view=full")
    assert sorted(one["mailbox_id"] for one in full["locations"]) == sorted(full["mailbox_ids"])

    plain, both = messages["plain"]["id"], messages["both"]["id"]
    patched = await opened.ask("PATCH", f"/messages/{plain}", {"mailbox_id": opened.ids["Work"]})
    assert opened.paths(patched) == ["Work", ALL]
    copied = await opened.ask(
        "POST", "/messages/copy", {"message_ids": [messages["work"]["id"]], "mailbox_id": opened.ids[INBOX]}
    )
    assert copied["results"][0]["new_id"] == messages["work"]["id"]
    trashed = await opened.ask("DELETE", f"/messages/{both}")
    assert opened.paths(trashed) == [TRASH]
    await opened.account.settled()

    changes = await opened.get(f"/changes?since={since}")
    assert changes["created"] == changes["removed"] == []
    assert {one["id"] for one in changes["moved"]} == {one["id"] for one in messages.values()}
    assert {one["id"]: sorted(one["to"]) for one in changes["moved"]}[both] == [opened.ids[TRASH]]


async def test_a_token_for_one_label_sees_its_messages_as_being_there_alone(opened: Opened) -> None:
    work = opened.ids["Work"]
    scopes = (Scope.MAIL_READ, Scope.MAIL_MODIFY)
    secret = await opened.gateway.token(opened.account.account_id, scopes=scopes, mailbox_ids=(work,))
    client = opened.gateway.client(secret)

    listed = await opened.get("/messages", client)
    assert {one["subject"]: one["mailbox_ids"] for one in listed["items"]} == {"both": [work], "work": [work]}
    both = next(one["id"] for one in listed["items"] if one["subject"] == "both")
    full = await opened.get(f"/messages/{both}?view=full", client)
    assert [one["mailbox_id"] for one in full["locations"]] == full["mailbox_ids"] == [work]
    found = await client.post(f"{opened.path}/messages/search", json={"filter": {"subject": "o"}})
    assert {one["subject"]: one["mailbox_ids"] for one in found.json()["items"]} == {"both": [work], "work": [work]}

    store = opened.account.gmail.store
    mails = {one.subject: one for one in store.mails.values()}
    store.take(mails["both"], "Work")
    store.place(mails["plain"], "Work")
    await opened.account.settled()

    changes = await opened.get(f"/changes?since={listed['state']}&view=summary", client)
    assert [(one["id"], one["reason"]) for one in changes["removed"]] == [(both, "moved")]
    assert [(one["subject"], one["mailbox_ids"]) for one in changes["created"]] == [("plain", [work])]
