"""The examples run against a demo."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.servers.postgate import Postgate

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 60


@pytest.fixture(scope="module")
def environment(shared_postgate: Postgate) -> dict[str, str]:
    """What the examples read: a token of Alice's account."""
    order = {"account_ids": [shared_postgate.user()["account_id"]], "scopes": ["mail.read", "mail.send", "push"]}
    with shared_postgate.client() as admin:
        token = admin.post("/v1/tokens", json=order).json()["token"]
    return os.environ | {"URL": shared_postgate.base_url, "KEY": token}


def run(name: str, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_list_shows_two_pages_and_a_whole_message(environment: dict[str, str]) -> None:
    lines = run("list_mail.py", environment).splitlines()

    assert lines[0] == "alice@demo.test:"
    assert lines[41] == ""
    assert "Best regards" in lines


def test_a_message_is_sent(environment: dict[str, str], shared_postgate: Postgate) -> None:
    id_, status = run("send_mail.py", environment, "bob@demo.test").split()

    assert (id_[:4], status) == ("sub_", "sent")
    with shared_postgate.client() as client:
        [newest] = client.get(f"{shared_postgate.account_path('bob')}/messages", params={"limit": 1}).json()["items"]
    assert newest["subject"] == "Hello"


@pytest.fixture
def follower(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The example that follows, subscribed, until its second event."""
    command = [sys.executable, str(EXAMPLES / "follow_mail.py"), "2"]
    with subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "subscribed\n"
        yield process
        process.kill()


def test_events_are_followed(follower: subprocess.Popen[str], shared_postgate: Postgate) -> None:
    for subject in (b"One", b"Two"):
        shared_postgate.deliver(b"Subject: " + subject + b"\r\n\r\nText\r\n")
    printed, complaints = follower.communicate(timeout=SECONDS)

    assert follower.returncode == 0, complaints
    assert [line.split()[0] for line in printed.splitlines()] == ["message.created", "message.created"]
    assert '"subject": "Two"' in printed
