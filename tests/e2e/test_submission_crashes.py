"""kill -9 while a mail program submits: what was not acknowledged may be sent again, and nothing is half done or told
twice."""

from __future__ import annotations

import shutil
import smtplib
import time
from pathlib import Path

import pytest

from tests.servers.postgate import Postgate
from tests.servers.smtp_sink import SmtpSink

MESSAGE = b"From: alice@demo.test\r\nSubject: Both ways\r\nMessage-ID: <both@demo.test>\r\n\r\nText\r\n"


def submit(server: Postgate) -> None:
    alice = server.user()
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=30) as client:
        client.login(alice["email"], alice["password"])
        client.sendmail(alice["email"], ["bob@demo.test", "joe@elsewhere.example"], MESSAGE)


@pytest.mark.parametrize(
    ("point", "copies", "submissions"),
    [("smtp.kept", 0, 0), ("index.before_commit", 0, 0), ("smtp.before_reply", 1, 1)],
)
def test_a_submission_that_was_cut_short_is_not_acknowledged(
    tmp_path: Path, demo_data: Path, point: str, copies: int, submissions: int
) -> None:
    shutil.copytree(demo_data, tmp_path / "data")
    server = Postgate(tmp_path, SMARTHOST="127.0.0.1:9")  # where nobody answers: what is queued stays
    try:
        server.start(fault_point=point)
        with pytest.raises((OSError, smtplib.SMTPException)):
            submit(server)
        server.wait_until_dead()

        server.start()
        with server.client() as client:
            search = {"filter": {"message_id_header": "<both@demo.test>"}}
            found = client.post(f"{server.account_path('bob')}/messages/search", json=search).json()["items"]
            queued = client.get(f"{server.account_path()}/submissions").json()["items"]
            raw = [client.get(f"{server.account_path('bob')}/messages/{one['id']}/raw").content for one in found]
    finally:
        server.kill()

    assert len(found) == copies
    assert all(one.endswith(MESSAGE) for one in raw)
    assert [[to["address"] for to in one["recipients"]] for one in queued] == [["joe@elsewhere.example"]] * submissions


def notices(server: Postgate, seconds: float = 20.0) -> list[str]:
    """Subjects of what the mail system told Alice, once it told her anything."""
    deadline = time.monotonic() + seconds
    while True:
        with server.client() as client:
            search = {"filter": {"from": "MAILER-DAEMON"}}
            found = client.post(f"{server.account_path()}/messages/search", json=search).json()["items"]
        if found or time.monotonic() > deadline:
            return [one["subject"] for one in found]
        time.sleep(0.1)


@pytest.mark.parametrize("point", ["delivery.after_reply", "delivery.recorded"])
def test_a_sender_is_told_of_a_refused_recipient_once(
    tmp_path: Path, demo_data: Path, smtp_sink: SmtpSink, point: str
) -> None:
    shutil.copytree(demo_data, tmp_path / "data")
    smtp_sink.requires_auth = False
    smtp_sink.replies = {"joe@elsewhere.example": "550 5.1.1 No such user"}
    server = Postgate(tmp_path, SMARTHOST=f"127.0.0.1:{smtp_sink.port}", SMARTHOST_SECURITY="none")
    try:
        server.start(fault_point=point)
        submit(server)
        server.wait_until_dead()

        server.start()
        told = notices(server)
        time.sleep(0.5)
        told_later = notices(server)
    finally:
        server.kill()

    assert told == told_later == ["Undelivered mail"]
    assert smtp_sink.messages == []
