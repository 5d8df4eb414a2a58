"""An account over POP3 on a real Dovecot and a real SMTP server, used by REST and the stream alone."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from tests.e2e.rest import eventually, mailbox_of, subjects
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.postgate import Postgate
from tests.servers.smtp_sink import SmtpSink

MESSAGE = (
    b"From: Ann <ann@example.com>\r\nTo: me@example.com\r\nSubject: %s\r\nMessage-ID: <%s@example.com>\r\n"
    b"References: <thread@example.com>\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nThe zebra of %s.\r\n"
    b"--b\r\nContent-Type: text/csv; name=a.csv\r\n"
    b"Content-Disposition: attachment; filename=a.csv\r\n\r\n1,2\r\n--b--\r\n"
)


def message(name: str) -> bytes:
    return MESSAGE.replace(b"%s", name.encode())


@pytest.fixture
def remote(dovecot: Dovecot) -> DovecotUser:
    return dovecot.add_user()


def order(dovecot: Dovecot, user: DovecotUser, sink: SmtpSink) -> dict[str, Any]:
    pop3 = {"host": "127.0.0.1", "port": dovecot.pop3s_port, "username": user.name, "password": user.password}
    smtp = {"host": "127.0.0.1", "port": sink.tls_port, "username": sink.user, "password": sink.password}
    return {"kind": "pop3", "email": user.name, "pop3": pop3 | {"retention": "mirror_delete"}, "smtp": smtp}


def fetched(client: httpx2.Client, path: str) -> list[str]:
    answer = client.post(f"{path}/pop3/fetch", params={"wait": 20})
    assert answer.status_code == 200, answer.text
    return [one["subject"] for one in answer.json()["created"]]


def on_server(dovecot: Dovecot, user: DovecotUser) -> str:
    return dovecot.doveadm("fetch", "-u", user.name, "hdr.subject", "mailbox", "INBOX")


def test_an_account_over_pop3_works_as_any_other(
    gateway: Postgate, dovecot: Dovecot, remote: DovecotUser, smtp_sink: SmtpSink
) -> None:
    dovecot.deliver(message("old"), remote.name)
    with gateway.client() as client:
        wrong = order(dovecot, remote, smtp_sink)
        wrong["pop3"]["password"] = "wrong"
        assert client.post("/v1/accounts", json=wrong).json()["code"] == "mail_login_refused"
        made = client.post("/v1/accounts", json=order(dovecot, remote, smtp_sink))
        assert made.status_code == 201, made.text
        path = f"/v1/accounts/{made.json()['id']}"
        eventually(lambda: client.get(path).json()["sync"]["status"], "live")
        assert client.get(path).json()["sync"]["mode"] == "poll"
        assert "UIDL" in client.get(f"{path}/capabilities").json()["capabilities"]

        listed = client.get(f"{path}/messages").json()
        with gateway.stream() as stream:
            wanted = {"type": "subscribe", "sub_id": "s", "accounts": [made.json()["id"]], "types": ["message.created"]}
            stream.send(json.dumps(wanted))
            assert json.loads(stream.recv(10))["type"] == "subscribed"
            dovecot.deliver(message("new"), remote.name)
            assert fetched(client, path) == ["new"]
            frame = json.loads(stream.recv(10))
            assert frame["event"]["data"]["message"]["subject"] == "new"
        changes = client.get(f"{path}/changes", params={"since": listed["state"]}).json()
        assert len(changes["created"]) == 1

        _reads(client, path)
        _organises(client, path, dovecot, remote)
        _sends(client, path, smtp_sink)


def _reads(client: httpx2.Client, path: str) -> None:
    new, old = client.get(f"{path}/messages").json()["items"]
    assert new["thread_id"] == old["thread_id"]
    full = client.get(f"{path}/messages/{new['id']}", params={"view": "full"}).json()
    assert (full["text"].strip(), full["on_server"]) == ("The zebra of new.", True)
    (attachment,) = full["attachments"]
    content = client.get(f"{path}/messages/{new['id']}/attachments/{attachment['id']}")
    assert (content.content, attachment["filename"]) == (b"1,2", "a.csv")
    assert message("new").endswith(client.get(f"{path}/messages/{new['id']}/raw").content[-200:])
    search = {"filter": {"all": [{"text": "ZEBRA"}, {"subject": "new"}]}}
    found = client.post(f"{path}/messages/search", json=search).json()["items"]
    assert [one["id"] for one in found] == [new["id"]]


def _organises(client: httpx2.Client, path: str, dovecot: Dovecot, remote: DovecotUser) -> None:
    new, old = client.get(f"{path}/messages").json()["items"]
    bills = client.post(f"{path}/mailboxes", json={"name": "Bills"}).json()["id"]
    flagged = {"keywords": {"add": ["$flagged"]}, "mailbox_id": bills}
    moved = client.patch(f"{path}/messages/{new['id']}", json=flagged)
    assert (moved.json()["id"], moved.json()["mailbox_ids"]) == (new["id"], [bills])
    assert client.delete(f"{path}/messages/{old['id']}").status_code == 200
    fetched(client, path)
    assert "old" in on_server(dovecot, remote)  # it is in Trash, and can come back
    assert client.delete(f"{path}/messages/{old['id']}", params={"permanent": "true"}).status_code == 204
    fetched(client, path)
    assert "old" not in on_server(dovecot, remote)
    assert "new" in on_server(dovecot, remote)


def _sends(client: httpx2.Client, path: str, sink: SmtpSink) -> None:
    sent = client.post(f"{path}/send", json={"to": [{"address": "bob@example.org"}], "subject": "Hi", "text": "Hello"})
    assert sent.status_code == 202
    submission = f"{path}/submissions/{sent.json()['id']}"
    eventually(lambda: client.get(submission).json()["status"], "sent")
    assert len(sink.messages) == 1
    eventually(lambda: subjects(client, path, "sent"), ["Hi"])
    (copy,) = client.get(f"{path}/messages", params={"mailbox_id": mailbox_of(client, path, "sent")}).json()["items"]
    assert copy["keywords"] == ["$seen"]
    assert copy["on_server"] is None
