"""A backup is made beside running clients and put back: none of them mistakes what comes after for what it knew."""

from __future__ import annotations

import contextlib
import json
import poplib
import re
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.servers.postgate import Postgate
from tests.servers.process import ServerFailed
from tests.servers.smtp_sink import SmtpSink


@pytest.fixture(params=["sqlite", "postgresql"])
def postgate(request: pytest.FixtureRequest, tmp_path: Path, demo_data: Path, smtp_sink: SmtpSink) -> Postgate:
    """The demo of this test alone, with a smarthost; not started."""
    smtp_sink.requires_tls = False
    settings = {
        "SMARTHOST": f"127.0.0.1:{smtp_sink.port}",
        "SMARTHOST_USERNAME": smtp_sink.user,
        "SMARTHOST_PASSWORD": smtp_sink.password,
        "SMARTHOST_SECURITY": "none",
    }
    if request.param == "postgresql":
        return Postgate(tmp_path, DATABASE_URL=request.getfixturevalue("postgres_url"), **settings)
    shutil.copytree(demo_data, tmp_path / "data")
    return Postgate(tmp_path, **settings)


@dataclass
class Clients:
    """What an IMAP client, a POP3 client and an app have cached of alice's INBOX."""

    server: Postgate
    states: list[str] = field(default_factory=list)
    places: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """Message by UIDVALIDITY and UID."""
    uidls: dict[str, bytes] = field(default_factory=dict)

    def look(self) -> None:
        """Read what is there; nothing may contradict what was read before."""
        with self.server.client() as client:
            self.states.append(client.get(f"{self.server.account_path()}/messages").json()["state"])
        for place, content in self._imap():
            assert self.places.setdefault(place, content) == content
        for uidl, content in self._pop3():
            assert self.uidls.setdefault(uidl, content) == content

    def _imap(self) -> list[tuple[tuple[int, int], bytes]]:
        connection = self.server.imap()
        try:
            connection.select("INBOX", readonly=True)
            validity = int(connection.response("UIDVALIDITY")[1][0] or b"0")
            answer = connection.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")[1]
        finally:
            connection.shutdown()
        parts = [one for one in answer if isinstance(one, tuple)]
        return [((validity, int(re.findall(rb"UID (\d+)", head)[0])), content) for head, content in parts]

    def _pop3(self) -> list[tuple[str, bytes]]:
        connection = poplib.POP3("127.0.0.1", self.server.ports["pop3"], timeout=30)
        user = self.server.user()
        connection.user(user["email"])
        connection.pass_(user["password"])
        uidls = [line.split() for line in connection.uidl()[1]]
        found = [(uidl.decode(), b"\r\n".join(connection.top(number.decode(), 0)[1])) for number, uidl in uidls]
        with contextlib.suppress(poplib.error_proto, OSError):
            connection.quit()
        return found

    def deliver(self, *names: str) -> None:
        for name in names:
            text = f"From: a@example.com\r\nSubject: {name}\r\nMessage-ID: <{name}@example.com>\r\n\r\nText\r\n"
            self.server.deliver(text.encode())

    def validities(self) -> set[int]:
        return {validity for validity, _ in self.places}


def put_back(server: Postgate, backup: Path) -> None:
    server.stop()
    done = server.command("restore", str(backup))
    assert done.returncode == 0, done.stderr
    server.start()


def test_no_client_mistakes_new_mail_for_mail_of_the_time_that_was_lost(postgate: Postgate, tmp_path: Path) -> None:
    postgate.start()
    try:
        clients = Clients(postgate)
        clients.deliver("kept-1", "kept-2")
        clients.look()
        kept = dict(clients.uidls)
        made = postgate.command("backup", str(tmp_path / "backup"))
        assert made.returncode == 0, made.stderr
        clients.deliver("lost-1", "lost-2", "lost-3")
        clients.look()
        before = clients.validities()

        put_back(postgate, tmp_path / "backup")
        fresh = Clients(postgate, places=clients.places, uidls=clients.uidls)
        fresh.look()
        assert {uidl for uidl, _ in fresh._pop3()} == set(kept)
        assert len(fresh.validities() - before) == 1
        clients.deliver("new-1", "new-2", "new-3", "new-4")
        fresh.look()

        assert len({content for _, content in fresh._imap()}) == len(kept) + 4
        check_states(postgate, clients.states)
    finally:
        postgate.stop()


def check_states(server: Postgate, states: list[str]) -> None:
    """States from before the restore are refused by REST and answered by a gap on the stream."""
    account_id = server.user()["account_id"]
    for state in states:
        with server.client() as client:
            refused = client.get(f"{server.account_path()}/changes", params={"since": state})
            mailboxes = {one["id"] for one in client.get(f"{server.account_path()}/mailboxes").json()["items"]}
            assert (refused.status_code, refused.json()["code"]) == (410, "state_expired")
            assert set(refused.json()["mailbox_ids"]) == mailboxes
        with server.stream() as socket:
            socket.send(json.dumps({"type": "subscribe", "sub_id": "s", "accounts": [account_id], "after": state}))
            frames = [json.loads(socket.recv(10)) for _ in range(2)]
        assert [one["type"] for one in frames] == ["subscribed", "gap"]
        assert "restored from a backup" in frames[1]["reason"]


def send(server: Postgate, **order: Any) -> dict[str, Any]:
    message = {"to": [{"address": "bob@elsewhere.example"}], "subject": "Once", "text": "Only once", **order}
    with server.client() as client:
        answer = client.post(f"{server.account_path()}/send", json=message, headers={"Idempotency-Key": "one"})
    assert answer.status_code == 202, answer.text
    taken: dict[str, Any] = answer.json()
    return taken


def submission(server: Postgate, id_: str, *, until: tuple[str, ...], seconds: float = 30.0) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        with server.client() as client:
            found: dict[str, Any] = client.get(f"{server.account_path()}/submissions/{id_}").json()
        if found["status"] in until:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_what_was_sent_since_the_backup_is_uncertain_and_not_sent_again(
    postgate: Postgate, tmp_path: Path, smtp_sink: SmtpSink
) -> None:
    postgate.start()
    try:
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        taken = send(postgate, send_at=later)
        assert postgate.command("backup", str(tmp_path / "backup")).returncode == 0
        with postgate.client() as client:
            now = {"send_at": datetime.now(UTC).isoformat()}
            client.patch(f"{postgate.account_path()}/submissions/{taken['id']}", json=now).raise_for_status()
        submission(postgate, taken["id"], until=("sent",))

        put_back(postgate, tmp_path / "backup")
        again = send(postgate, send_at=later)
        state = submission(postgate, taken["id"], until=("uncertain",))
        other = send_other(postgate)
        submission(postgate, other, until=("sent",))  # the worker has looked at all that is due

        assert again["id"] == taken["id"]
        assert state["recipients"][0]["status"] == "uncertain"
        assert len(smtp_sink.messages) == 2
    finally:
        postgate.stop()


def send_other(server: Postgate) -> str:
    message = {"to": [{"address": "bob@elsewhere.example"}], "subject": "Other", "text": "Another"}
    with server.client() as client:
        return str(client.post(f"{server.account_path()}/send", json=message).json()["id"])


@pytest.mark.parametrize("postgate", ["sqlite"], indirect=True)
def test_a_copy_put_back_by_other_means_is_refused_at_the_start_which_names_the_command(
    postgate: Postgate, tmp_path: Path
) -> None:
    postgate.start()
    clients, database = Clients(postgate), tmp_path / "data" / "postgate.sqlite3"
    clients.deliver("kept")
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(tmp_path / "copy")) as copy:
        source.backup(copy)
        (copied_tick,) = copy.execute("SELECT tick FROM installation").fetchone()
    clients.deliver("lost-1", "lost-2")
    clients.look()
    deadline = time.monotonic() + 30
    while json.loads((tmp_path / "data" / "epoch").read_bytes())["tick"] <= copied_tick:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    postgate.kill()
    for file in (tmp_path / "data").glob("postgate.sqlite3*"):
        file.unlink()
    shutil.copy(tmp_path / "copy", database)

    with pytest.raises(ServerFailed, match="postgate restore --in-place"):
        postgate.start()
    assert postgate.command("restore", "--in-place").returncode == 0
    postgate.start()

    clients.deliver("new")
    clients.look()
    postgate.stop()


@pytest.mark.parametrize("postgate", ["sqlite"], indirect=True)
def test_a_start_without_its_master_key_is_refused_and_names_the_key(postgate: Postgate, tmp_path: Path) -> None:
    postgate.start()
    login = {"host": "127.0.0.1", "port": 1, "security": "none", "username": "me", "password": "secret"}
    remote = {"kind": "imap", "email": "me@example.com", "name": "Me", "imap": login, "smtp": login}
    with postgate.client() as client:
        assert client.post("/v1/accounts", params={"verify": "false"}, json=remote).status_code == 201
    postgate.stop()
    key = tmp_path / "data" / "master.key"
    kept = key.rename(tmp_path / "master.key")

    with pytest.raises(ServerFailed, match=r"postgate: The master key [0-9a-f]{8} is missing: there is no file"):
        postgate.start()
    assert not key.exists()
    kept.rename(key)

    postgate.start()
    postgate.stop()


@pytest.mark.parametrize("postgate", ["sqlite"], indirect=True)
def test_a_second_server_and_a_restore_are_refused_while_one_runs(postgate: Postgate, tmp_path: Path) -> None:
    postgate.start()
    try:
        assert postgate.command("backup", str(tmp_path / "backup")).returncode == 0
        for words in (("demo",), ("restore", str(tmp_path / "backup")), ("restore", "--in-place")):
            refused = postgate.command(*words)
            lines = refused.stderr.splitlines()
            assert refused.returncode == 1
            assert lines == [f"postgate: Another process (pid {postgate.pid}) uses {tmp_path / 'data'}: stop it first"]
        modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "backup").rglob("*")}
        assert modes == {0}
    finally:
        postgate.stop()
