"""States that clients hold survive: days offline, a database restored from a backup, one that was lost."""

from __future__ import annotations

import imaplib
import json
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.postgate import Postgate

SETTLE_SECONDS = 90.0


@dataclass
class Scene:
    """A gateway that follows an account on a real server, and a client that holds states of it."""

    gateway: Postgate
    dovecot: Dovecot
    user: DovecotUser
    data: Path
    path: str = ""

    def get(self, path: str, expected: int = 200, /, **parameters: Any) -> Any:
        with self.gateway.client() as client:
            answer = client.get(f"{self.path}{path}", params=parameters)
        assert answer.status_code == expected, answer.text
        return answer.json()

    def add_account(self) -> None:
        login = {"host": "127.0.0.1", "port": self.dovecot.imap_port, "security": "starttls"}
        login |= {"username": self.user.name, "password": self.user.password}
        order = {"email": self.user.name, "kind": "imap", "imap": login, "smtp": login}
        with self.gateway.client() as client:
            answer = client.post("/v1/accounts", params={"verify": "false"}, json=order)
        assert answer.status_code == 201, answer.text
        self.path = f"/v1/accounts/{answer.json()['id']}"

    def state(self) -> str:
        return str(self.get("/messages")["state"])

    def subjects(self) -> list[str]:
        return sorted(one["subject"] for one in self.get("/messages", limit=500)["items"])

    def ids(self) -> dict[str, str]:
        return {one["subject"]: one["id"] for one in self.get("/messages", limit=500)["items"]}

    def settled(self, expected: list[str]) -> None:
        """Wait until the account is watched and shows these subjects."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            found = (self.get("")["sync"]["status"], self.subjects())
            if found == ("live", expected):
                return
            assert time.monotonic() < deadline, f"{found} is not {expected}"
            time.sleep(0.1)

    def back_up(self) -> None:
        """As one does while it runs."""
        paths = self.data / "postgate.sqlite3", self.data / "backup"
        with closing(sqlite3.connect(paths[0])) as source, closing(sqlite3.connect(paths[1])) as target:
            source.backup(target)

    def restore(self) -> None:
        self.gateway.stop()
        self.lose()
        shutil.copy(self.data / "backup", self.data / "postgate.sqlite3")
        done = self.gateway.command("restore", "--in-place")
        assert done.returncode == 0, done.stderr
        self.gateway.start()

    def lose(self) -> None:
        for file in self.data.glob("postgate.sqlite3*"):
            file.unlink()

    def other_client(self) -> imaplib.IMAP4:
        connection = imaplib.IMAP4(self.dovecot.host, self.dovecot.imap_port, timeout=10)
        connection.login(self.user.name, self.user.password)
        connection.select("INBOX")
        return connection


@pytest.fixture
def scene(gateway: Postgate, tmp_path: Path, dovecot: Dovecot) -> Scene:
    one = Scene(gateway, dovecot, dovecot.add_user(), tmp_path / "data")
    for number in range(5):
        dovecot.deliver(content(number), one.user.name)
    connection = one.other_client()
    connection.create("Elsewhere")
    connection.logout()
    one.add_account()
    one.settled([f"Number {number}" for number in range(5)])
    return one


def content(number: int) -> bytes:
    return (
        f"From: Ann <ann@example.com>\r\nTo: me@example.com\r\nSubject: Number {number}\r\n"
        f"Message-ID: <{number}@example.com>\r\n\r\nText {number}\r\n"
    ).encode()


def change_elsewhere(scene: Scene) -> list[str]:
    """Another client removes 0, flags 1, moves 2 to another mailbox, and 5 arrives; the subjects then."""
    connection = scene.other_client()
    for command in (("STORE", "1", "+FLAGS", "(\\Deleted)"), ("STORE", "2", "+FLAGS", "(\\Flagged)")):
        connection.uid(*command)
    connection.uid("MOVE", "3", "Elsewhere")
    connection.expunge()
    connection.logout()
    scene.dovecot.deliver(content(5), scene.user.name)
    return [f"Number {number}" for number in (1, 2, 3, 4, 5)]


def test_what_changed_while_the_gateway_was_off_is_told_exactly(scene: Scene) -> None:
    state, ids = scene.state(), scene.ids()
    scene.gateway.stop()
    expected = change_elsewhere(scene)
    scene.gateway.start()
    scene.settled(expected)

    changes = scene.get("/changes", since=state, view="summary")

    now = scene.ids()
    assert [one["subject"] for one in changes["created"]] == ["Number 5"]
    assert [(one["id"], one["keywords"]) for one in changes["updated"]] == [(ids["Number 1"], ["$flagged"])]
    assert [one["id"] for one in changes["removed"]] == [ids["Number 0"]]
    elsewhere = next(one["id"] for one in changes["mailboxes"]["updated"] if one["path"] == "Elsewhere")
    assert [(one["id"], one["to"]) for one in changes["moved"]] == [(ids["Number 2"], [elsewhere])]
    assert {subject: id_ for subject, id_ in ids.items() if subject != "Number 0"}.items() <= now.items()
    assert changes["has_more"] is False
    again = scene.get("/changes", since=changes["new_state"])
    assert [again[name] for name in ("created", "updated", "moved", "removed")] == [[], [], [], []]


def test_a_restored_database_heals_and_states_from_before_have_expired(scene: Scene) -> None:
    old, ids = scene.state(), scene.ids()
    scene.back_up()
    expected = change_elsewhere(scene)
    scene.settled(expected)
    lost = scene.state()
    scene.restore()
    scene.settled(expected)

    mailboxes = {one["id"] for one in scene.get("/mailboxes")["items"]}
    for state in (old, lost):
        refused = scene.get("/changes", 410, since=state)
        assert (refused["code"], set(refused["mailbox_ids"])) == ("state_expired", mailboxes)
        assert scene.get("/events", 410, after=state)["code"] == "state_expired"
        anew = scene.get("/changes", since=state, **{"except": ",".join(refused["mailbox_ids"])})
        assert {one["id"] for one in anew["mailboxes"]["updated"]} == mailboxes
        assert scene.get("/changes", since=anew["new_state"])["created"] == []
    kept = {subject: id_ for subject, id_ in ids.items() if subject != "Number 0"}
    assert kept.items() <= scene.ids().items()
    events = scene.get("/events", limit=500)["items"]
    assert [one["type"] for one in events].count("message.created") == 1


def test_a_stream_that_resumes_in_a_log_that_was_lost_is_told_of_the_gap(scene: Scene) -> None:
    scene.back_up()
    expected = change_elsewhere(scene)
    scene.settled(expected)
    lost = scene.state()
    scene.restore()
    scene.settled(expected)
    account_id = scene.path.rpartition("/")[2]

    with scene.gateway.stream() as socket:
        socket.send(json.dumps({"type": "subscribe", "sub_id": "s", "accounts": [account_id], "after": lost}))
        frames = [json.loads(socket.recv(10)) for _ in range(2)]

    assert [one["type"] for one in frames] == ["subscribed", "gap"]
    assert "restored from a backup" in frames[1]["reason"]
    changes = scene.get("/changes", since=frames[1]["to"], view="summary")
    assert [one["subject"] for one in changes["created"]] == ["Number 5"]  # what the sync after the restore found


def test_a_lost_database_is_filled_anew_without_a_flood(scene: Scene) -> None:
    scene.gateway.stop()
    scene.lose()
    (scene.data / "demo.json").unlink()
    scene.gateway.start()
    old = scene.path
    scene.add_account()
    scene.settled([f"Number {number}" for number in range(5)])

    events = scene.get("/events", limit=500)["items"]

    assert [one["type"] for one in events].count("message.created") == 0
    with scene.gateway.client() as client:
        assert client.get(f"{old}/messages").status_code == 404
