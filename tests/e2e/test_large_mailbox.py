"""A large mailbox is taken in in the background: in little memory, resumed where it was cut off, usable meanwhile.

Nor does it take more when another client changes the flags of all its messages at once.
"""

from __future__ import annotations

import logging
import socket
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.postgate import Postgate

log = logging.getLogger(__name__)

MESSAGES = 5_000
SOAK_MESSAGES = 200_000
ELSEWHERE = 50
GROWTH_MB, FLAGS_GROWTH_MB = 60, 40
APPENDED_AT_ONCE = 1_000


def test_a_large_mailbox_is_taken_in_while_it_and_others_are_used(
    gateway: Postgate, dovecot: Dovecot, tmp_path: Path
) -> None:
    take_in(gateway, dovecot, tmp_path / "data", MESSAGES)


@pytest.mark.soak
def test_two_hundred_thousand_messages_are_taken_in_while_they_and_others_are_used(
    gateway: Postgate, dovecot: Dovecot, tmp_path: Path
) -> None:
    take_in(gateway, dovecot, tmp_path / "data", SOAK_MESSAGES)


def test_flags_of_a_large_mailbox_that_change_at_once_are_taken_in_in_little_memory(
    gateway: Postgate, dovecot: Dovecot, tmp_path: Path
) -> None:
    change_all_flags(gateway, dovecot, tmp_path / "data", MESSAGES)


@pytest.mark.soak
def test_two_hundred_thousand_flags_that_change_at_once_are_taken_in_in_little_memory(
    gateway: Postgate, dovecot: Dovecot, tmp_path: Path
) -> None:
    change_all_flags(gateway, dovecot, tmp_path / "data", SOAK_MESSAGES)


def change_all_flags(gateway: Postgate, dovecot: Dovecot, data: Path, count: int) -> None:
    user = dovecot.add_user()
    append_many(dovecot, user, "INBOX", count)
    with gateway.client() as client:
        path = add_account(client, dovecot, user)
        index = Indexed(data, path.rpartition("/")[2])
        until(lambda: index.count() == count, 1_800.0)
        until(lambda: client.get(path).json()["sync"]["status"] == "live")
    give_command(dovecot, user, b"UID STORE 1:1000 +FLAGS.SILENT (\\Answered)")
    until(lambda: index.count_with("\\Answered") == 1_000)

    began = time.monotonic()
    with Memory(gateway.pid) as memory:
        give_command(dovecot, user, b"UID STORE 1:* +FLAGS.SILENT (\\Flagged)")
        until(lambda: index.count_with("\\Flagged") == count, 1_800.0, pause_seconds=0.5)
    seconds = time.monotonic() - began

    log.info("%d flags in %.1f s; %.0f MB at most, grown by %.0f", count, seconds, memory.most_mb, memory.growth_mb)
    assert memory.growth_mb < FLAGS_GROWTH_MB


def take_in(gateway: Postgate, dovecot: Dovecot, data: Path, count: int) -> None:
    user = dovecot.add_user()
    append_many(dovecot, user, "INBOX", count)
    append_many(dovecot, user, "Archive", ELSEWHERE)
    with gateway.client() as client:
        path = add_account(client, dovecot, user)
    index = Indexed(data, path.rpartition("/")[2])

    until(lambda: index.count() > count * 0.3)
    before = index.ids()
    gateway.kill()
    gateway.start()
    began, already = time.monotonic(), index.count()
    with Memory(gateway.pid) as memory, gateway.client() as client:
        use = Use(client, path)
        use.until_live()
    seconds = time.monotonic() - began

    assert index.ids() >= before, "what was there before the kill was thrown away"
    assert index.count() == count + ELSEWHERE
    log.info(
        "%d messages, %d after a kill in %.1f s (%.0f/s); %.0f MB at most, grown by %.0f; slowest call %.3f s, %s",
        *(count, count - already, seconds, (count - already) / seconds, memory.most_mb, memory.growth_mb, *use.slowest),
    )
    assert memory.growth_mb < GROWTH_MB
    assert use.calls > 10


class Indexed:
    """The rows of an account, read beside the running gateway."""

    def __init__(self, data: Path, account_id: str) -> None:
        self._url = f"file:{data / 'postgate.sqlite3'}?mode=ro"
        self._account_id = account_id

    def count(self) -> int:
        return int(self._rows("count(*)")[0][0])

    def count_with(self, flag: str) -> int:
        return int(self._rows(f"sum(flags LIKE '%{flag}%')")[0][0])

    def ids(self) -> set[str]:
        return {row[0] for row in self._rows("id")}

    def _rows(self, what: str) -> list[Any]:
        with closing(sqlite3.connect(self._url, uri=True)) as database:
            return database.execute(
                f"SELECT {what} FROM message WHERE account_id = ?",
                (self._account_id,),
            ).fetchall()


class Memory:
    """Looks at a process's memory several times a second during a block; the database's file, mapped, is none of it."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.least_mb = self.most_mb = self._now()

    @property
    def growth_mb(self) -> float:
        return self.most_mb - self.least_mb

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(0.1):
            self.most_mb = max(self.most_mb, self._now())

    def _now(self) -> float:
        line = next(one for one in self._status.read_text().splitlines() if one.startswith("RssAnon"))
        return int(line.split()[1]) / 1024


class Use:
    """Lists, gets and flags, as an app does, until the account is live."""

    def __init__(self, client: httpx2.Client, path: str) -> None:
        self.calls = 0
        self.slowest = (0.0, "")
        self._client = client
        self._path = path

    def until_live(self, seconds: float = 1_800.0) -> None:
        deadline = time.monotonic() + seconds
        mailboxes = self._call("GET", f"{self._path}/mailboxes").json()["items"]
        while self._call("GET", self._path).json()["sync"]["status"] != "live":
            assert time.monotonic() < deadline
            for mailbox in [one for one in mailboxes if one["role"] in ("inbox", "archive")]:
                params = {"mailbox_id": mailbox["id"], "limit": 50}
                listed = self._call("GET", f"{self._path}/messages", params=params).json()["items"]
                for one in listed[:1]:
                    self._call("GET", f"{self._path}/messages/{one['id']}", params={"view": "full"})
                    order = {"keywords": {"add": ["$flagged"]}}
                    flagged = self._call("PATCH", f"{self._path}/messages/{one['id']}", json=order)
                    assert "$flagged" in flagged.json()["keywords"]
            time.sleep(0.05)

    def _call(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        began = time.monotonic()
        answer = self._client.request(method, path, **arguments)
        self.slowest = max(self.slowest, (time.monotonic() - began, f"{method} {path}"))
        self.calls += 1
        assert answer.status_code == 200, answer.text
        return answer


def until(is_so: Any, seconds: float = 600.0, pause_seconds: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(pause_seconds)


def add_account(client: httpx2.Client, dovecot: Dovecot, user: DovecotUser) -> str:
    login = {"username": user.name, "password": user.password}
    imap = {"host": "127.0.0.1", "port": dovecot.imap_port, "security": "none"} | login
    answer = client.post("/v1/accounts", json={"email": user.name, "kind": "imap", "imap": imap})
    assert answer.status_code == 201, answer.text
    return f"/v1/accounts/{answer.json()['id']}"


def append_many(dovecot: Dovecot, user: DovecotUser, mailbox: str, count: int) -> None:
    """Small messages by MULTIAPPEND (RFC 3502): some 12,000 a second."""
    with socket.create_connection((dovecot.host, dovecot.imap_port), timeout=60) as connection:
        lines = connection.makefile("rb")
        lines.readline()
        connection.sendall(f"a LOGIN {user.name} {user.password}\r\n".encode())
        _await(lines, b"a OK")
        for start in range(0, count, APPENDED_AT_ONCE):
            asked = [f"b APPEND {mailbox}".encode()]
            for number in range(start, min(start + APPENDED_AT_ONCE, count)):
                content = small(mailbox, number)
                asked.append(b' (\\Seen) "01-Jan-2024 09:00:00 +0000" {%d+}\r\n' % len(content) + content)
            connection.sendall(b"".join(asked) + b"\r\n")
            _await(lines, b"b OK")


def give_command(dovecot: Dovecot, user: DovecotUser, command: bytes) -> None:
    """As another client, in INBOX."""
    with socket.create_connection((dovecot.host, dovecot.imap_port), timeout=600) as connection:
        lines = connection.makefile("rb")
        lines.readline()
        login = f"LOGIN {user.name} {user.password}".encode()
        for number, line in enumerate((login, b"SELECT INBOX", command)):
            connection.sendall(b"%d %b\r\n" % (number, line))
            _await(lines, b"%d OK" % number)


def small(mailbox: str, number: int) -> bytes:
    return (
        f"From: Bob <bob@elsewhere.test>\r\nTo: ann@mail.test\r\nSubject: Number {number}\r\n"
        f"Message-ID: <{number}@{mailbox}.test>\r\nDate: Mon, 1 Jan 2024 09:00:00 +0000\r\n\r\nText {number}\r\n"
    ).encode()


def _await(lines: Any, wanted: bytes) -> None:
    while not (line := lines.readline()).startswith(wanted):
        assert line.startswith(b"*"), line
