"""A request whose answer was lost is made once, however often it is repeated with its Idempotency-Key."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import httpx2
import pytest
from app.db import directory
from app.db.session import Transaction
from app.errors import AlreadyExists, TimedOut
from app.mail.backend import MailBackend, OriginMailbox
from app.mail.confirmed import Applied, Confirmed
from app.mail.delta import Arrived, Copied, Delta, Location, MailboxFound
from app.mail.identifiers import new_id, now_ms
from app.mail.types import AccountId, AccountKind, Flags, Mailbox, MailboxId, Message, Role
from app.mailstore.content import read_content
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.services.access.callers import Scope
from app.services.accounts.rows import new_values

from tests.gateway import Gateway
from tests.unit.api.mail import note

UID_VALIDITY = 7


@dataclass
class LossyServer:
    """A mail server that adds, copies and makes. With `loses` it does what it is asked next and does not answer."""

    reader: MailReader
    account_id: AccountId
    loses: bool = False
    boxes: dict[str, dict[int, tuple[bytes, int]]] = field(default_factory=dict)
    """By name: UID → content and internal date."""
    appended: int = 0

    host = ""

    def listed(self, name: str) -> OriginMailbox:
        uid_next = max(self.boxes[name], default=0) + 1
        return OriginMailbox(name, name, "/", None, True, True, UID_VALIDITY, uid_next)

    async def list_mailboxes(self) -> Sequence[OriginMailbox]:
        return [self.listed(name) for name in self.boxes]

    async def newest(self, mailbox: Mailbox, count: int, below_uid: int | None = None) -> Sequence[Arrived]:
        uids = [uid for uid in self.boxes[mailbox.path] if below_uid is None or uid < below_uid]
        return [self.arrived(mailbox.id, mailbox.path, uid) for uid in sorted(uids, reverse=True)[:count]]

    def arrived(self, mailbox_id: MailboxId, name: str, uid: int) -> Arrived:
        content, received_at_ms = self.boxes[name][uid]
        read = read_content(content, hashlib.sha256(content).hexdigest())
        return replace(
            read, mailbox_id=mailbox_id, uid=uid, received_at_ms=received_at_ms, uid_validity=UID_VALIDITY, blob=None
        )

    async def read_raw(self, message: Message) -> AsyncIterator[bytes]:
        mailbox = await self.reader.mailboxes.mailbox(self.account_id, message.mailbox_id)
        yield self.boxes[mailbox.path][message.uid][0]

    async def append(
        self, mailbox: Mailbox, content: AsyncIterator[bytes], size_bytes: int, flags: Flags, received_at_ms: int | None
    ) -> Confirmed:
        del size_bytes, flags
        whole = b"".join([piece async for piece in content])
        uid = self._add(mailbox.path, whole, received_at_ms or now_ms())
        self._answer()
        return Confirmed(Delta(arrived=(self.arrived(mailbox.id, mailbox.path, uid),)))

    async def copy(self, messages: Sequence[Message], target: Mailbox) -> Confirmed:
        copied = []
        for message in messages:
            source = await self.reader.mailboxes.mailbox(self.account_id, message.mailbox_id)
            uid = self._add(target.path, *self.boxes[source.path][message.uid])
            copied.append(Copied(Location(source.id, message.uid), Location(target.id, uid)))
        self._answer()
        return Confirmed(Delta(copied=tuple(copied)))

    async def create_mailbox(self, path: str, role: Role | None = None) -> Confirmed:
        if path in self.boxes:
            raise AlreadyExists
        self.boxes[path] = {}
        self._answer()
        return Confirmed(Delta(mailboxes_found=(MailboxFound(path, path, "/", role, UID_VALIDITY),)))

    def _add(self, name: str, content: bytes, received_at_ms: int) -> int:
        uid = max(self.boxes[name], default=0) + 1
        self.boxes[name][uid] = (content, received_at_ms)
        self.appended += 1
        return uid

    def _answer(self) -> None:
        if self.loses:
            self.loses = False
            raise TimedOut("the answer was lost")


@dataclass
class Remote:
    """An account on a lossy server."""

    gateway: Gateway
    server: LossyServer
    client: httpx2.AsyncClient
    mailbox_ids: dict[str, MailboxId]

    async def post(self, path: str, key: str = "k1", **request: Any) -> httpx2.Response:
        headers = {"Idempotency-Key": key, **request.pop("headers", {})}
        return await self.client.post(f"/v1/me{path}", headers=headers, **request)

    async def put_in(self, content: bytes, key: str = "k1", name: str = "INBOX") -> httpx2.Response:
        headers = {"Content-Type": "message/rfc822"}
        return await self.post(
            "/messages", key, params={"mailbox_id": self.mailbox_ids[name]}, content=content, headers=headers
        )


@pytest.fixture
async def remote(gateway: Gateway) -> Remote:
    harness, account_id = gateway.harness, AccountId(new_id("acc"))
    server = LossyServer(harness.reader, account_id, boxes={"INBOX": {}, "Work": {}})

    async def add(transaction: Transaction) -> None:
        await directory.add(transaction, new_values(account_id, AccountKind.IMAP, "me@far.test", "", now_ms()))

    await harness.database.write(add)
    found = [MailboxFound(name, name, "/", None, UID_VALIDITY) for name in server.boxes]
    applied = await harness.index.apply(account_id, Delta(mailboxes_found=tuple(found)))
    gateway.backends.given[account_id] = cast("MailBackend", server)
    scopes = (Scope.MAIL_READ, Scope.MAIL_MODIFY, Scope.MAILBOXES)
    client = gateway.client(await gateway.token(account_id, scopes=scopes))
    return Remote(gateway, server, client, applied.mailbox_ids)


WITHOUT_ID = b"Subject: no id\r\n\r\nonce\r\n"


@pytest.mark.parametrize("content", [note("once"), WITHOUT_ID, b"no header at all"])
async def test_a_message_whose_append_was_not_answered_is_found_again(remote: Remote, content: bytes) -> None:
    await remote.put_in(content, "other")  # the same bytes, put in by another request before
    remote.server.loses = True

    lost = await remote.put_in(content)
    again = await remote.put_in(content)
    replayed = await remote.put_in(content)

    assert (lost.status_code, again.status_code) == (504, 201)
    assert "Idempotency-Replayed" not in again.headers
    assert (replayed.json(), replayed.headers["Idempotency-Replayed"]) == (again.json(), "true")
    assert remote.server.appended == 2
    reader = remote.gateway.harness.reader
    assert (await reader.messages.message(remote.server.account_id, again.json()["id"])).uid == 2


async def test_a_message_written_as_json_is_found_again(remote: Remote) -> None:
    draft = {"to": [{"address": "x@demo.test"}], "subject": "Draft", "text": "once", "html": "<p>once</p>"}
    parameters = {"mailbox_id": remote.mailbox_ids["INBOX"]}
    remote.server.loses = True

    lost = await remote.post("/messages", params=parameters, json=draft)
    again = await remote.post("/messages", params=parameters, json=draft)

    assert (lost.status_code, again.status_code) == (504, 201)
    assert remote.server.appended == 1


async def test_what_other_requests_put_in_meanwhile_is_not_taken_for_it(remote: Remote) -> None:
    remote.server.loses = True
    await remote.put_in(WITHOUT_ID)
    remote.server.boxes["INBOX"].clear()  # it had not arrived after all
    await remote.put_in(b"Subject: no id\r\n\r\nelse\r\n", "other")  # as large, and without a Message-ID too

    again = await remote.put_in(WITHOUT_ID)

    assert again.status_code == 201
    assert [content for content, _ in remote.server.boxes["INBOX"].values()][-1] == WITHOUT_ID


async def test_copies_that_were_not_answered_are_found_again(remote: Remote) -> None:
    ids = [(await remote.put_in(content, str(n))).json()["id"] for n, content in enumerate((note("a"), WITHOUT_ID))]
    order = {"message_ids": ids, "mailbox_id": remote.mailbox_ids["Work"]}
    await remote.post("/messages/copy", "earlier", json=order)
    remote.server.loses = True

    lost = await remote.post("/messages/copy", json=order)
    again = await remote.post("/messages/copy", json=order)

    assert (lost.status_code, again.status_code) == (504, 200)
    assert len(remote.server.boxes["Work"]) == 4
    messages = await remote.gateway.harness.reader.messages.find(
        remote.server.account_id, [result["new_id"] for result in again.json()["results"]]
    )
    assert [message.uid for message in messages] == [3, 4]


async def test_a_mailbox_that_was_made_without_an_answer_is_found_again(remote: Remote) -> None:
    remote.server.loses = True

    lost = await remote.post("/mailboxes", json={"name": "New"})
    again = await remote.post("/mailboxes", json={"name": "New"})

    assert (lost.status_code, again.status_code) == (504, 201)
    assert again.json()["name"] == "New"


async def test_a_mailbox_that_others_made_is_a_conflict_at_each_attempt(remote: Remote) -> None:
    remote.server.boxes["New"] = {}

    answers = [await remote.post("/mailboxes", json={"name": "New"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [409, 409]


# ---- mail that lives here: what is done and its answer are one transaction


def _crash(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on a process dies before it keeps an answer that no transaction of the work has kept; until undone."""

    async def dies(*_: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(type(gateway.services.idempotency), "finish", dies)
    return monkeypatch.undo


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/messages?mailbox_id={inbox}", {"json": {"subject": "x", "text": "x"}}),
        ("/messages?mailbox_id={inbox}", {"content": WITHOUT_ID, "headers": {"Content-Type": "message/rfc822"}}),
        ("/mailboxes", {"json": {"name": "New"}}),
        ("/send", {"json": {"to": [{"address": "me@demo.test"}], "text": "x"}}),
        ("/messages/copy", {"json": {"message_ids": ["{message}"], "mailbox_id": "{inbox}"}}),
    ],
)
async def test_a_crash_before_the_answer_is_kept_makes_nothing_twice(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, path: str, body: dict[str, Any]
) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    inbox = (await gateway.harness.mailbox(account_id)).id
    token = await gateway.token(
        account_id, scopes=(Scope.MAIL_READ, Scope.MAIL_MODIFY, Scope.MAIL_SEND, Scope.MAILBOXES)
    )
    put_in: dict[str, Any] = {
        "params": {"mailbox_id": inbox},
        "content": note("a"),
        "headers": {"Content-Type": "message/rfc822"},
    }
    first = await gateway.client(token).post("/v1/me/messages", **put_in)
    if "message_ids" in body.get("json", {}):
        body = {"json": {"message_ids": [first.json()["id"]], "mailbox_id": inbox}}
    client = gateway.client(token, **{"Idempotency-Key": "k1"})
    position = (await gateway.harness.reader.mailboxes.standing(account_id)).position

    revive = _crash(gateway, monkeypatch)
    await client.post("/v1/me" + path.format(inbox=inbox), **body)
    revive()
    after_crash = (await gateway.harness.reader.mailboxes.standing(account_id)).position
    again = await client.post("/v1/me" + path.format(inbox=inbox), **body)

    assert after_crash != position
    assert (await gateway.harness.reader.mailboxes.standing(account_id)).position == after_crash
    assert again.status_code < 300


async def test_a_crash_between_two_groups_copies_none_of_them_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    mailbox_ids = {path: (await gateway.harness.mailbox(account_id, path)).id for path in ("INBOX", "Archive", "Trash")}
    client = gateway.client(await gateway.token(account_id, scopes=(Scope.MAIL_READ, Scope.MAIL_MODIFY)))
    ids: list[str] = []
    for path in ("INBOX", "Archive"):
        content = await gateway.harness.store.keep(WITHOUT_ID)
        applied = await gateway.harness.store.add(account_id, mailbox_ids[path], [(content, frozenset(), None)])
        ids += applied.message_ids.values()
    order = {"message_ids": ids, "mailbox_id": mailbox_ids["Trash"]}
    copy_group, calls = gateway.harness.store.copy, []

    async def dies_at_the_second(*args: Any) -> Applied:
        calls.append(args)
        if len(calls) == 2:
            raise RuntimeError("killed")
        return await copy_group(*args)

    monkeypatch.setattr(MailStore, "copy", lambda _, *args: dies_at_the_second(*args))
    lost = await client.post("/v1/me/messages/copy", json=order, headers={"Idempotency-Key": "k1"})
    again = await client.post("/v1/me/messages/copy", json=order, headers={"Idempotency-Key": "k1"})

    assert (lost.status_code, again.status_code) == (500, 200)
    assert len(calls) == 3
    assert len({result["new_id"] for result in again.json()["results"]}) == 2
    assert len(await gateway.harness.reader.mirrored.known(account_id, mailbox_ids["Trash"])) == 2


@pytest.mark.parametrize("chosen", ["ids", "filter"])
async def test_a_batch_that_was_cut_off_deletes_nothing_for_good_that_it_moved_to_trash(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    paths = ("INBOX", "Archive", "Trash")
    mailbox_ids = {path: (await gateway.harness.mailbox(account_id, path)).id for path in paths}
    scopes = (Scope.MAIL_READ, Scope.MAIL_MODIFY, Scope.MAIL_DELETE)
    client = gateway.client(await gateway.token(account_id, scopes=scopes), **{"Idempotency-Key": "k1"})
    ids = {}
    for path in paths:
        content = await gateway.harness.store.keep(WITHOUT_ID)
        applied = await gateway.harness.store.add(account_id, mailbox_ids[path], [(content, frozenset(), None)])
        (ids[path],) = applied.message_ids.values()
    which = {"message_ids": [*ids.values()]} if chosen == "ids" else {"filter": {"subject": "no id"}}

    revive = _crash(gateway, monkeypatch)
    lost = await client.post("/v1/me/messages/batch", json={**which, "delete": True})
    revive()
    again = await client.post("/v1/me/messages/batch", json={**which, "delete": True})
    replayed = await client.post("/v1/me/messages/batch", json={**which, "delete": True})

    assert (lost.status_code, again.status_code, replayed.status_code) == (500, 200, 200)
    left = await gateway.harness.reader.messages.find(account_id, [*ids.values()])
    assert {message.id: message.mailbox_id for message in left} == {
        ids[path]: mailbox_ids["Trash"] for path in ("INBOX", "Archive")
    }
