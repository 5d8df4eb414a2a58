"""Mail on a real Dovecot, read and organised through the API; nothing follows the account but what a test starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from app.backends.imap.organising import mailbox_found
from app.db.session import Statement, Transaction
from app.db.tables import ACCOUNT
from app.mail.delta import Delta, MailboxCounted
from app.services.reading import freshness
from sqlalchemy import bindparam, update

from tests.gateway import Gateway, open_gateway
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.process import free_port
from tests.servers.tls import TlsFiles
from tests.sync_harness import Followed, OtherClient, add_remote_account, imap_backend, mail
from tests.unit.api.mail import EVERYTHING, Mail, multipart

PDF = (
    b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment; filename=a.pdf\r\n\r\nJVBERi0xLjQK"
)

_SET_STATUS: Statement = (
    update(ACCOUNT).where(ACCOUNT.c.id == bindparam("account_id")).values(sync_status=bindparam("new_status"))
)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path) as gateway:
        yield gateway


@pytest.fixture
def user(dovecot: Dovecot) -> DovecotUser:
    return dovecot.add_user()


@pytest.fixture
def client(dovecot: Dovecot, user: DovecotUser) -> Any:
    with OtherClient(dovecot, user) as client:
        yield client


@pytest.fixture
async def remote(gateway: Gateway, dovecot: Dovecot, tls: TlsFiles, user: DovecotUser) -> AsyncIterator[Mail]:
    """An account of which the mailboxes are known, and no message yet."""
    account_id = await add_remote_account(gateway.harness, user.name)
    backend = imap_backend(account_id, gateway.harness, dovecot, tls, user)
    gateway.backends.given[account_id] = backend
    listed = await backend.list_mailboxes()
    found = Delta(mailboxes_found=tuple(mailbox_found(one) for one in listed))
    ids = (await gateway.harness.index.apply(account_id, found)).mailbox_ids
    counted = tuple(MailboxCounted(ids[one.origin_name], one.uid_next, one.highest_modseq) for one in listed)
    await gateway.harness.index.apply(account_id, Delta(mailboxes_counted=counted))
    token = await gateway.token(account_id, scopes=EVERYTHING)
    yield Mail(gateway, account_id, gateway.client(token))
    await backend.close()


async def _sync(remote: Mail) -> None:
    """Follow the account until all is known, then no more."""
    followed = Followed(remote.gateway.harness, remote.account_id, remote.gateway.backends.given[remote.account_id])
    async with followed.following():
        await followed.until_live()


async def _set_status(remote: Mail, status: str) -> None:
    async def work(transaction: Transaction) -> None:
        await transaction.execute(_SET_STATUS, account_id=remote.account_id, new_status=status)

    await remote.gateway.harness.database.write(work)


async def _listed(remote: Mail, **headers: str) -> Any:
    parameters = {"mailbox_id": await remote.mailbox_id()}
    return (await remote.client.get("/v1/me/messages", params=parameters, headers=headers)).json()


async def test_a_list_works_before_the_first_sync_has_begun(remote: Mail, client: OtherClient) -> None:
    for number in range(5):
        client.append("INBOX", mail(f"n{number}"))

    first = await remote.get(mailbox_id=await remote.mailbox_id(), limit=2)
    second = await remote.get(mailbox_id=await remote.mailbox_id(), limit=2, cursor=first["next_cursor"])

    assert [one["subject"] for one in first["items"]] == ["n4", "n3"]
    assert [one["subject"] for one in second["items"]] == ["n2", "n1"]
    assert first["sync"]["status"] == "initial"
    assert first["items"][0]["preview"] is None


async def test_no_cache_asks_the_origin_for_what_nobody_told(
    remote: Mail, client: OtherClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "SWEPT_SECONDS", 0.0)  # the account counts as followed for long enough
    for number in range(3):
        client.append("INBOX", mail(f"n{number}"))
    await _sync(remote)
    before = (await remote.gateway.harness.reader.mailboxes.standing(remote.account_id)).seq
    client.append("INBOX", mail("new"))
    client.select()
    client.uid("STORE", "1", "+FLAGS", "(\\Seen)")
    client.uid("STORE", "2", "+FLAGS", "(\\Deleted)")
    client.do("expunge")

    assert [one["subject"] for one in (await _listed(remote))["items"]] == ["n2", "n1", "n0"]
    fresh = await _listed(remote, **{"Cache-Control": "no-cache"})

    assert [(one["subject"], one["keywords"]) for one in fresh["items"]] == [("new", []), ("n2", []), ("n0", ["$seen"])]
    events = await remote.gateway.harness.log.after(remote.account_id, before, 1_000)
    told = [one.type for one in events if one.type.startswith("message.")]
    assert sorted(told) == ["message.created", "message.deleted", "message.updated"]


@pytest.mark.parametrize("first", ["INBOX", "Archive"], ids=["where it was", "where it is"])
@pytest.mark.parametrize("how", ["MOVE", "COPY"])
async def test_a_message_moved_by_another_client_while_lists_alone_are_read_keeps_its_id(
    remote: Mail, client: OtherClient, how: str, first: str
) -> None:
    client.append("INBOX", mail("travels"))
    await _sync(remote)
    (id_,) = [one["id"] for one in (await _listed(remote))["items"]]
    client.select()
    client.uid(how, "1", "Archive")
    fresh = {"Cache-Control": "no-cache"}
    if how == "COPY":
        archive = {"mailbox_id": await remote.mailbox_id("Archive")}
        await remote.client.get("/v1/me/messages", params=archive, headers=fresh)
        client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
        client.do("expunge")

    lists = {}
    for path in (first, "INBOX", "Archive"):
        parameters = {"mailbox_id": await remote.mailbox_id(path)}
        lists[path] = (await remote.client.get("/v1/me/messages", params=parameters, headers=fresh)).json()["items"]

    assert lists["INBOX"] == []
    assert [one["id"] for one in lists["Archive"]] == [id_]
    events = await remote.gateway.harness.log.after(remote.account_id, 0, 1_000)
    assert "message.moved" in [one.type for one in events]


async def test_a_list_that_is_not_followed_asks_by_itself(remote: Mail, client: OtherClient) -> None:
    client.append("INBOX", mail("old"))
    await _sync(remote)
    await _set_status(remote, "down")
    client.append("INBOX", mail("new"))

    assert [one["subject"] for one in (await _listed(remote))["items"]] == ["new", "old"]
    everywhere = await remote.get()
    assert [one["subject"] for one in everywhere["items"]] == ["new", "old"]


async def test_an_origin_that_is_down_leaves_lists_and_gets_to_the_index(
    remote: Mail,
    client: OtherClient,
    dovecot: Dovecot,
    tls: TlsFiles,
    user: DovecotUser,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client.append("INBOX", mail("old"))
    await _sync(remote)
    await _set_status(remote, "down")
    monkeypatch.setattr(dovecot, "imap_port", free_port())
    gone = imap_backend(remote.account_id, remote.gateway.harness, dovecot, tls, user)
    remote.gateway.backends.given[remote.account_id] = gone

    listed = await _listed(remote)
    assert [one["subject"] for one in listed["items"]] == ["old"]
    assert listed["sync"]["status"] == "down"
    (shown,) = listed["items"]
    assert (await remote.get(f"/{shown['id']}"))["subject"] == "old"
    answer = await remote.client.get(f"/v1/me/messages/{shown['id']}/raw")
    assert (answer.status_code, answer.json()["code"]) == (503, "mail_server_unreachable")
    assert answer.headers["Retry-After"]
    await gone.close()


async def test_a_message_is_read_whole_and_in_parts(remote: Mail, client: OtherClient) -> None:
    content = multipart(b"Content-Type: text/html\r\n\r\n<p>Pay <b>me</b></p>", PDF, subject="Invoice")
    client.append("INBOX", content)
    (shown,) = (await _listed(remote))["items"]
    path = f"/v1/me/messages/{shown['id']}"

    full = await remote.get(f"/{shown['id']}", view="full")
    assert (full["text"].strip(), full["html"], full["problems"]) == ("Pay me", "<p>Pay <b>me</b></p>", [])
    assert full["locations"][0]["uid"] == 1
    (attachment,) = full["attachments"]
    assert abs(attachment["size_bytes"] - 9) <= 2
    downloaded = await remote.client.get(f"{path}/attachments/{attachment['id']}")
    assert (downloaded.content, downloaded.headers["Content-Length"]) == (b"%PDF-1.4\n", "9")
    assert (await remote.get(f"/{shown['id']}", view="full"))["attachments"][0]["size_bytes"] in (9, 10, 11)
    assert (await remote.client.get(f"{path}/raw")).content == content
    ranged = await remote.client.get(f"{path}/raw", headers={"Range": "bytes=9-15"})
    assert (ranged.status_code, ranged.content) == (206, content[9:16])
    assert (await remote.client.get(f"{path}/parts/1")).content == b"<p>Pay <b>me</b></p>"
    headers = await remote.get(f"/{shown['id']}/headers")
    assert headers["items"][0] == {"name": "Subject", "value": "Invoice"}
    client.select()
    assert b"\\Seen" not in client.uid("FETCH", "1", "FLAGS")[0]


async def test_text_in_which_the_origin_sees_no_part_is_shown_and_said_to_be_odd(
    remote: Mail, client: OtherClient
) -> None:
    head = b"Subject: odd\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n\r\n"
    client.append("INBOX", head + b"A text without a boundary.\r\n")
    (id_,) = [one["id"] for one in (await _listed(remote))["items"]]

    full = await remote.get(f"/{id_}", view="full")

    assert full["text"] == "A text without a boundary.\n"
    assert full["problems"] == ["a multipart has no usable boundary"]


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: odd\r\nTo: b@example.org\r\nThe words.\r\n",
        b"Subject: odd\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--y\r\nContent-Type: text/plain\r\n\r\n"
        b"The words.\r\n--y\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        b"JVBERg==\r\n--y--\r\n",
    ],
)
async def test_words_that_the_origin_does_not_find_are_shown(remote: Mail, client: OtherClient, content: bytes) -> None:
    client.append("INBOX", content)
    (id_,) = [one["id"] for one in (await _listed(remote))["items"]]

    full = await remote.get(f"/{id_}", view="full")

    assert full["text"].strip() == "The words."
    for attachment in full["attachments"]:
        path = f"/v1/me/messages/{id_}/attachments/{attachment['id']}"
        assert (await remote.client.get(path)).content == b"%PDF"


async def test_a_change_is_made_where_the_mail_lives(remote: Mail, client: OtherClient) -> None:
    client.append("INBOX", mail("one"))
    (shown,) = (await _listed(remote))["items"]

    answer = await remote.client.patch(f"/v1/me/messages/{shown['id']}", json={"keywords": {"add": ["$seen", "work"]}})

    assert answer.json()["keywords"] == ["$seen", "work"]
    client.select()
    (flags,) = client.uid("FETCH", "1", "FLAGS")
    assert b"\\Seen" in flags
    assert b"work" in flags


async def test_a_change_of_what_another_client_changed_is_refused(remote: Mail, client: OtherClient) -> None:
    client.append("INBOX", mail("one"))
    (shown,) = (await _listed(remote))["items"]
    etag = (await remote.client.get(f"/v1/me/messages/{shown['id']}")).headers["ETag"]
    client.select()
    client.uid("STORE", "1", "+FLAGS", "(\\Flagged)")

    answer = await remote.client.patch(
        f"/v1/me/messages/{shown['id']}", json={"keywords": {"add": ["$seen"]}}, headers={"If-Match": etag}
    )

    assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed")
    assert b"\\Seen" not in client.uid("FETCH", "1", "FLAGS")[0]


async def test_messages_move_and_are_removed_and_keep_their_ids(remote: Mail, client: OtherClient) -> None:
    for number in range(3):
        client.append("INBOX", mail(f"n{number}"))
    ids = [one["id"] for one in (await _listed(remote))["items"]]
    archive = await remote.mailbox_id("Archive")

    moved = await remote.client.post(
        "/v1/me/messages/move", json={"message_ids": [*ids[:2], "msg_none"], "mailbox_id": archive}
    )
    assert [one["status"] for one in moved.json()["results"]] == [200, 200, 404]
    removed = await remote.client.delete(f"/v1/me/messages/{ids[2]}")
    assert removed.json()["mailbox_ids"] == [await remote.mailbox_id("Trash")]
    copied = await remote.client.post("/v1/me/messages/copy", json={"message_ids": ids[2:], "mailbox_id": archive})
    new_id = copied.json()["results"][0]["new_id"]
    assert (await remote.get(f"/{new_id}"))["mailbox_ids"] == [archive]
    await remote.client.post("/v1/me/messages/batch", json={"message_ids": [ids[2]], "delete": "trash"})

    counts = {name: int(client.imap.select(name)[1][0] or 0) for name in ("INBOX", "Archive", "Trash")}
    assert counts == {"INBOX": 0, "Archive": 3, "Trash": 0}
    await _sync(remote)
    assert {one["id"] for one in (await remote.get(mailbox_id=archive))["items"]} == {*ids[:2], new_id}


async def test_what_vanished_meanwhile_is_told_by_its_result(remote: Mail, client: OtherClient) -> None:
    client.append("INBOX", mail("gone"))
    client.append("INBOX", mail("there"))
    there, gone = [one["id"] for one in (await _listed(remote))["items"]]
    client.select()
    client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")
    client.do("expunge")

    answer = await remote.client.post(
        "/v1/me/messages/batch", json={"message_ids": [gone, there], "keywords": {"add": ["$seen"]}}
    )

    assert [one["status"] for one in answer.json()["results"]] == [404, 200]
    await remote.get(f"/{gone}", expected=404)


async def test_a_message_is_imported_once_whatever_follows(remote: Mail, client: OtherClient) -> None:
    content = mail("imported", "x\r\n" * 100_000)
    parameters = {"mailbox_id": await remote.mailbox_id(), "keywords": "$seen", "received_at": "2001-02-03T04:05:06Z"}

    answer = await remote.client.post(
        "/v1/me/messages", params=parameters, content=content, headers={"Content-Type": "message/rfc822"}
    )

    body = answer.json()
    assert (answer.status_code, body["subject"], body["keywords"]) == (201, "imported", ["$seen"])
    assert body["received_at"] == "2001-02-03T04:05:06Z"
    assert (await remote.client.get(f"/v1/me/messages/{body['id']}/raw")).content == content
    await _sync(remote)
    assert [one["id"] for one in (await _listed(remote))["items"]] == [body["id"]]


async def test_texts_are_searched_by_the_origin(remote: Mail, client: OtherClient) -> None:
    client.append("INBOX", mail("one", "a needle in here"))
    client.append("Archive", mail("two", "a needle there"))
    client.append("INBOX", mail("three", "hay"))
    await _sync(remote)

    async def found(filter_: Any) -> set[str]:
        answer = await remote.client.post("/v1/me/messages/search", json={"filter": filter_})
        return {one["subject"] for one in answer.json()["items"]}

    assert await found({"text": "needle"}) == {"one", "two"}
    assert await found({"all": [{"body": "needle"}, {"mailbox_id": await remote.mailbox_id()}]}) == {"one"}
    assert await found({"header": {"name": "Message-ID", "value": "three@"}}) == {"three"}
    assert await found({"not": {"text": "needle"}}) == {"three"}


async def test_a_download_that_is_given_up_leaves_the_connection_usable(remote: Mail, client: OtherClient) -> None:
    client.append("INBOX", mail("large", "0123456789abcde\r\n" * 300_000))
    (shown,) = (await _listed(remote))["items"]
    path = f"/v1/me/messages/{shown['id']}/raw"
    for _ in range(6):
        async with asyncio.timeout(20):
            assert (await remote.client.get(path, headers={"Range": "bytes=0-9"})).status_code == 206
    assert len((await remote.client.get(path)).content) == shown["size_bytes"]
