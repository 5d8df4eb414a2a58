"""An account on a real Dovecot and a real SMTP server, added, read, organised, followed and sent from by REST alone."""

from __future__ import annotations

import imaplib
import json
from email import message_from_bytes
from typing import Any

import httpx2
import pytest

from tests.e2e.rest import eventually, mailbox_of, subjects
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.postgate import Postgate
from tests.servers.process import free_port
from tests.servers.smtp_sink import SmtpSink


def order(dovecot: Dovecot, user: DovecotUser, sink: SmtpSink) -> dict[str, Any]:
    imap = {"host": "127.0.0.1", "port": dovecot.imaps_port, "security": "tls", "username": user.name}
    smtp = {"host": "127.0.0.1", "port": sink.tls_port, "security": "tls", "username": sink.user}
    return {
        "email": user.name,
        "name": "Remote",
        "kind": "imap",
        "imap": imap | {"password": user.password},
        "smtp": smtp | {"password": sink.password},
    }


def message(number: int) -> bytes:
    return (
        f"From: Ann <ann@example.com>\r\nTo: me@example.com\r\nSubject: Number {number}\r\n"
        f"Message-ID: <{number}@example.com>\r\n\r\nText {number}\r\n"
    ).encode()


@pytest.fixture
def remote(dovecot: Dovecot) -> DovecotUser:
    return dovecot.add_user()


@pytest.fixture
def account(client: httpx2.Client, dovecot: Dovecot, remote: DovecotUser, smtp_sink: SmtpSink) -> str:
    """The path of an account with three messages, whose first sync is done."""
    for number in range(3):
        dovecot.deliver(message(number), remote.name)
    answer = client.post("/v1/accounts", json=order(dovecot, remote, smtp_sink))
    assert answer.status_code == 201, answer.text
    path = f"/v1/accounts/{answer.json()['id']}"
    eventually(lambda: client.get(path).json()["sync"]["status"], "live")
    return path


def save(dovecot: Dovecot, user: DovecotUser, mailbox: str, content: bytes) -> None:
    """As another mail program of the user does."""
    with imaplib.IMAP4(dovecot.host, dovecot.imap_port, timeout=10) as connection:
        connection.login(user.name, user.password)
        assert connection.append(mailbox, "", "", content)[0] == "OK"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ({"imap": {"password": "wrong"}}, 424, "mail_login_refused"),
        ({"smtp": {"password": "wrong"}}, 424, "mail_login_refused"),
        ({"imap": {"port": free_port()}}, 503, "mail_server_unreachable"),
        ({"imap": {"host": "127.0.0.2"}}, 503, "mail_server_certificate"),
        ({"imap": {"host": "127.0.0.3"}}, 503, "mail_server_certificate"),
        ({"imap": {"host": "192.168.0.1"}}, 422, "address_not_allowed"),
    ],
)
def test_what_is_wrong_with_a_login_is_said_clearly_and_nothing_is_kept(
    client: httpx2.Client,
    dovecot: Dovecot,
    remote: DovecotUser,
    smtp_sink: SmtpSink,
    fault: dict[str, dict[str, Any]],
    status: int,
    code: str,
) -> None:
    wanted = order(dovecot, remote, smtp_sink)
    for name, changes in fault.items():
        wanted[name] |= changes
    accounts = len(client.get("/v1/accounts").json()["items"])

    answer = client.post("/v1/accounts", json=wanted)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert len(client.get("/v1/accounts").json()["items"]) == accounts


def test_a_list_works_before_the_first_sync_is_done(
    client: httpx2.Client, dovecot: Dovecot, remote: DovecotUser, smtp_sink: SmtpSink
) -> None:
    for number in range(200):
        dovecot.deliver(message(number), remote.name)
    path = f"/v1/accounts/{client.post('/v1/accounts', json=order(dovecot, remote, smtp_sink)).json()['id']}"

    listed = client.get(f"{path}/messages", params={"limit": 5})

    assert listed.status_code == 200
    eventually(lambda: len(client.get(f"{path}/messages", params={"limit": 500}).json()["items"]), 200)


def test_what_the_api_does_another_client_sees(
    client: httpx2.Client, account: str, dovecot: Dovecot, remote: DovecotUser
) -> None:
    listed = client.get(f"{account}/messages").json()["items"]
    ids = {one["subject"]: one["id"] for one in listed}
    first = client.patch(f"{account}/messages/{ids['Number 0']}", json={"keywords": {"add": ["$flagged", "work"]}})
    archive = mailbox_of(client, account, "archive")
    moved = client.post(f"{account}/messages/move", json={"message_ids": [ids["Number 1"]], "mailbox_id": archive})
    removed = client.delete(f"{account}/messages/{ids['Number 2']}", params={"permanent": True})

    assert (first.status_code, moved.status_code, removed.status_code) == (200, 200, 204)
    flags = dovecot.doveadm("fetch", "-u", remote.name, "flags", "mailbox", "INBOX")
    assert "\\Flagged" in flags
    assert "work" in flags
    assert dovecot.doveadm("fetch", "-u", remote.name, "hdr.subject", "mailbox", "Archive").strip().endswith("Number 1")
    assert subjects(client, account) == ["Number 0"]
    assert client.get(f"{account}/messages/{ids['Number 1']}").json()["mailbox_ids"] == [archive]


def test_a_message_in_any_mailbox_is_pushed(
    gateway: Postgate, client: httpx2.Client, account: str, dovecot: Dovecot, remote: DovecotUser
) -> None:
    with gateway.stream() as socket:
        wanted = {"type": "subscribe", "sub_id": "s", "accounts": [account.rpartition("/")[2]], "types": ["message.*"]}
        socket.send(json.dumps(wanted))
        assert json.loads(socket.recv(10))["type"] == "subscribed"
        dovecot.deliver(message(10), remote.name)
        first = json.loads(socket.recv(20))
        save(dovecot, remote, "Archive", message(11))
        second = json.loads(socket.recv(20))

    assert [one["event"]["data"]["message"]["subject"] for one in (first, second)] == ["Number 10", "Number 11"]


def test_a_full_message_its_bytes_and_its_attachment_can_be_read(
    client: httpx2.Client, account: str, dovecot: Dovecot, remote: DovecotUser
) -> None:
    content = (
        b"From: a@example.com\r\nTo: b@example.com\r\nSubject: Parts\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n'
        b"<p>Hi <script>alert(1)</script><b>there</b></p>\r\n--x\r\nContent-Type: application/pdf\r\n"
        b'Content-Disposition: attachment; filename="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        b"aGVsbG8gd29ybGQ=\r\n--x--\r\n"
    )
    dovecot.deliver(content, remote.name)
    eventually(lambda: "Parts" in subjects(client, account), expected=True)
    listed = client.get(f"{account}/messages").json()["items"]
    path = f"{account}/messages/{next(one['id'] for one in listed if one['subject'] == 'Parts')}"

    full = client.get(path, params={"view": "full"}).json()
    attachment = full["attachments"][0]
    downloaded = client.get(f"{path}/attachments/{attachment['id']}", headers={"Range": "bytes=6-"})

    assert ("script" in full["html"], "<b>there</b>" in full["html"], "there" in full["text"]) == (False, True, True)
    assert (attachment["filename"], downloaded.status_code, downloaded.content) == ("a.pdf", 206, b"world")
    assert client.get(f"{path}/raw").content.endswith(content[-200:])


def test_a_restart_of_dovecot_loses_nothing(
    client: httpx2.Client, account: str, dovecot: Dovecot, remote: DovecotUser
) -> None:
    dovecot.restart()
    dovecot.deliver(message(20), remote.name)

    eventually(lambda: "Number 20" in subjects(client, account), expected=True)
    eventually(lambda: client.get(account).json()["sync"]["status"], "live")


def test_while_the_origin_is_down_lists_are_answered_and_say_so(
    client: httpx2.Client, account: str, dovecot: Dovecot, remote: DovecotUser
) -> None:
    dovecot.stop()
    try:
        eventually(lambda: client.get(account).json()["sync"]["status"], "down")
        listed = client.get(f"{account}/messages").json()
        unread = client.get(f"{account}/messages/{listed['items'][0]['id']}/raw")
    finally:
        dovecot.start()

    assert (len(listed["items"]), listed["sync"]["status"], unread.status_code) == (3, "down", 503)
    eventually(lambda: client.get(account).json()["sync"]["status"], "live", seconds=60)


def test_a_message_is_sent_and_filed_once(
    client: httpx2.Client, account: str, dovecot: Dovecot, remote: DovecotUser, smtp_sink: SmtpSink
) -> None:
    wanted = {"to": [{"address": "bob@elsewhere.example"}], "subject": "Sent", "text": "Hi", "bcc": []}
    sent = client.post(f"{account}/send", json=wanted).json()

    eventually(lambda: client.get(f"{account}/submissions/{sent['id']}").json()["status"], "sent")
    eventually(lambda: subjects(client, account, "sent"), ["Sent"])
    client.post(f"{account}/send", json=wanted | {"subject": "Later"})
    eventually(lambda: subjects(client, account, "sent"), ["Later", "Sent"])
    assert [message_from_bytes(message.content)["Subject"] for message in smtp_sink.messages] == ["Sent", "Later"]
    assert dovecot.doveadm("fetch", "-u", remote.name, "flags", "mailbox", "Sent").count("\\Seen") == 2


def test_a_reply_goes_to_the_sender_in_the_thread_and_marks_the_original(
    client: httpx2.Client, account: str, smtp_sink: SmtpSink
) -> None:
    original = next(one for one in client.get(f"{account}/messages").json()["items"] if one["subject"] == "Number 0")
    wanted = {"mode": "reply", "reply_to_message_id": original["id"], "text": "Thanks"}
    sent = client.post(f"{account}/send", json=wanted).json()

    eventually(lambda: client.get(f"{account}/submissions/{sent['id']}").json()["status"], "sent")
    eventually(
        lambda: "$answered" in client.get(f"{account}/messages/{original['id']}").json()["keywords"], expected=True
    )
    content = smtp_sink.messages[0].content
    assert b"In-Reply-To: <0@example.com>" in content
    assert b"Subject: Re: Number 0" in content
    assert smtp_sink.messages[0].recipients == ["ann@example.com"]
