"""kill -9 at named points: what was acknowledged is there once, what was sent was sent once."""

from __future__ import annotations

import imaplib
import shutil
import smtplib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.servers.postgate import Postgate
from tests.servers.smtp_sink import SmtpSink

MESSAGE_ID = "<crash@example.com>"
MESSAGE = (
    f"From: Ann <ann@example.com>\r\nTo: alice@demo.test\r\nSubject: Crash\r\nMessage-ID: {MESSAGE_ID}\r\n\r\nText\r\n"
).encode()
SETTLED = ("sent", "failed", "uncertain")


@pytest.fixture
def crashing(tmp_path: Path, demo_data: Path) -> Iterator[Postgate]:
    """A demo that was made before, so that only the work of the test passes a fault point."""
    shutil.copytree(demo_data, tmp_path / "data")
    server = Postgate(tmp_path)
    try:
        yield server
    finally:
        server.kill()


def deliver_by_smtp(server: Postgate) -> None:
    server.deliver(MESSAGE)


def append_by_imap(server: Postgate) -> None:
    connection = server.imap()
    try:
        kind, _ = connection.append("INBOX", "", imaplib.Time2Internaldate(0), MESSAGE)
        assert kind == "OK"
    finally:
        connection.shutdown()


def import_by_rest(server: Postgate) -> None:
    with server.client() as client:
        path = server.account_path()
        inbox = mailbox_id(client, path, "inbox")
        answer = client.post(
            f"{path}/messages",
            params={"mailbox_id": inbox},
            content=MESSAGE,
            headers={"Content-Type": "message/rfc822"},
        )
        assert answer.status_code == 201


def mailbox_id(client: httpx2.Client, account: str, role: str) -> str:
    mailboxes = client.get(f"{account}/mailboxes").json()["items"]
    return str(next(one["id"] for one in mailboxes if one["role"] == role))


def copies(server: Postgate) -> int:
    with server.client() as client:
        search = {"filter": {"message_id_header": MESSAGE_ID}}
        return len(client.post(f"{server.account_path()}/messages/search", json=search).json()["items"])


@pytest.mark.parametrize("take", [deliver_by_smtp, append_by_imap, import_by_rest])
@pytest.mark.parametrize("point", ["blob.synced", "blob.placed", "index.before_commit", "index.committed"])
def test_a_message_is_there_once_or_was_not_acknowledged(
    crashing: Postgate, take: Callable[[Postgate], None], point: str
) -> None:
    crashing.start(fault_point=point)
    assert crashing.is_running, "something else passes this point"
    is_acknowledged = True
    try:
        take(crashing)
    except (OSError, smtplib.SMTPException, imaplib.IMAP4.abort, httpx2.HTTPError, AssertionError):
        is_acknowledged = False
    crashing.wait_until_dead()

    crashing.start()

    assert copies(crashing) == (1 if is_acknowledged or point == "index.committed" else 0)


def send(server: Postgate, key: str = "one") -> dict[str, Any]:
    order = {"to": [{"address": "bob@elsewhere.example"}], "subject": "Once", "text": "Only once"}
    with server.client() as client:
        answer = client.post(f"{server.account_path()}/send", json=order, headers={"Idempotency-Key": key})
    assert answer.status_code == 202, answer.text
    taken: dict[str, Any] = answer.json()
    return taken


def settled(server: Postgate, submission_id: str, seconds: float = 20.0) -> dict[str, Any]:
    """The submission once no attempt is under way."""
    deadline = time.monotonic() + seconds
    while True:
        with server.client() as client:
            found: dict[str, Any] = client.get(f"{server.account_path()}/submissions/{submission_id}").json()
        if found["status"] in SETTLED or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


@pytest.fixture
def sending(tmp_path: Path, demo_data: Path, smtp_sink: SmtpSink) -> Iterator[Postgate]:
    """The same with a smarthost that keeps what it gets."""
    shutil.copytree(demo_data, tmp_path / "data")
    server = Postgate(
        tmp_path,
        SMARTHOST=f"127.0.0.1:{smtp_sink.port}",
        SMARTHOST_USERNAME=smtp_sink.user,
        SMARTHOST_PASSWORD=smtp_sink.password,
        SMARTHOST_SECURITY="none",
    )
    smtp_sink.requires_tls = False
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("point", "expected", "received"),
    [
        ("delivery.before_content", "uncertain", 0),
        ("delivery.after_reply", "uncertain", 1),
        ("delivery.recorded", "sent", 1),
        ("delivery.before_filing", "sent", 1),
        ("delivery.filed", "sent", 1),
    ],
)
def test_a_send_is_made_once_or_says_uncertain(
    sending: Postgate, smtp_sink: SmtpSink, point: str, expected: str, received: int
) -> None:
    sending.start(fault_point=point)
    taken = send(sending)
    sending.wait_until_dead()

    sending.start()
    again = send(sending)
    state = settled(sending, taken["id"])

    assert again["id"] == taken["id"]
    assert state["status"] == expected
    assert len(smtp_sink.messages) == received
    assert sent_copies(sending) == (1 if expected == "sent" else 0)


def sent_copies(server: Postgate, seconds: float = 5.0) -> int:
    """Copies in Sent, after the time that filing may take."""
    deadline = time.monotonic() + seconds
    while True:
        with server.client() as client:
            path = server.account_path()
            search = {"filter": {"all": [{"subject": "Once"}, {"mailbox_id": mailbox_id(client, path, "sent")}]}}
            count = len(client.post(f"{path}/messages/search", json=search).json()["items"])
        if count or time.monotonic() > deadline:
            return count
        time.sleep(0.1)


def test_a_hundred_retries_with_one_key_are_one_send(sending: Postgate, smtp_sink: SmtpSink) -> None:
    sending.start()

    ids = {send(sending)["id"] for _ in range(100)}
    state = settled(sending, ids.pop())

    assert not ids
    assert state["status"] == "sent"
    assert len(smtp_sink.messages) == 1
