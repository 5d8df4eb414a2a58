"""Messages moved by another client keep their ids, and no id ever comes to stand for another message."""

from __future__ import annotations

import imaplib
import logging
import random
import re
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.mirror_model import LoggedIn, differences, of_index, of_origin
from tests.servers.cyrus import Cyrus, CyrusUser
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.postgate import PROGRAM, Postgate
from tests.servers.process import ServerFailed

log = logging.getLogger(__name__)

MAILBOXES = ("INBOX", "Archive", "Trash", "Work", "Play")
MESSAGES = 400
MOVES = 1_000
MOVES_ON_CYRUS = 400
KEPT_SHARE = 0.99
SETTLE_SECONDS = 60.0
RESTART_EVERY = 250
WHEN = '"01-Jan-2024 09:00:00 +0000"'

Place = tuple[str, int]
Server = Dovecot | Cyrus
User = DovecotUser | CyrusUser


def content(number: int, body: str) -> bytes:
    """One in twenty has no Message-ID."""
    lines = ["From: Bob <bob@elsewhere.test>", "To: ann@mail.test", f"Subject: Number {number}"]
    lines += ["Date: Mon, 1 Jan 2024 09:00:00 +0000"]
    lines += [f"Message-ID: <{number}@elsewhere.test>"] if number % 20 else []
    return "\r\n".join([*lines, "", body, ""]).encode()


class Mover:
    """Another client that moves, copies and removes at random, and knows what should be where with which id."""

    def __init__(self, seed: int) -> None:
        self.expected: dict[Place, str] = {}
        self.moved: set[Place] = set()
        self.moves = 0
        self._chance = random.Random(seed)

    def fill(self, imap: imaplib.IMAP4) -> None:
        """A tenth are equal to another in every byte, a tenth in all but the body; all have one INTERNALDATE."""
        for name in ("Work", "Play"):
            imap.create(name)
        for number in range(MESSAGES):
            before = self._chance.randrange(max(1, number))
            made = content(number, f"Text {number:05}")
            match self._chance.randrange(10):
                case 0:
                    made = content(before, f"Text {before:05}")
                case 1:
                    made = content(before, f"Twin {number:05}")
            assert imap.append(self._chance.choice(MAILBOXES), "", WHEN, made)[0] == "OK"

    def move(self, imap: imaplib.IMAP4) -> None:
        """Move one to three messages by MOVE, or by COPY and the removal of the originals."""
        source, target = self._chance.sample(MAILBOXES, 2)
        uids = self._some(imap, source)
        first = _uid_next(imap, target)
        if not uids:
            return
        chosen = ",".join(map(str, uids))
        if self._chance.random() < 0.7:
            _ok(imap.uid("MOVE", chosen, target))
        else:
            _ok(imap.uid("COPY", chosen, target))
            time.sleep(self._chance.choice([0, 0, 0, 0.02, 0.05, 0.2]))
            self._remove(imap, chosen)
        for offset, uid in enumerate(uids):
            self.moved.discard((source, uid))
            self.expected[target, first + offset] = self.expected.pop((source, uid), "")
            self.moved.add((target, first + offset))
        self.moves += len(uids)

    def deceive(self, imap: imaplib.IMAP4) -> None:
        """Remove a message, and have one that only seems to be it appear elsewhere: its twin's copy, or a new twin."""
        source, target = self._chance.sample(MAILBOXES, 2)
        uids = self._some(imap, source)[:1]
        if not uids:
            return
        _, fetched = imap.uid("FETCH", str(uids[0]), "(BODY.PEEK[])")
        made = next(one[1] for one in fetched if isinstance(one, tuple))
        fake = re.sub(rb"(Text|Twin) (\d{5})", lambda _: b"Fake %05d" % self._chance.randrange(100_000), made)
        self._remove(imap, str(uids[0]))
        assert imap.append(target, "", WHEN, fake)[0] == "OK"
        self.expected.pop((source, uids[0]), None)
        self.moved.discard((source, uids[0]))

    def _some(self, imap: imaplib.IMAP4, mailbox: str) -> list[int]:
        _ok(imap.select(mailbox))
        found = sorted(map(int, _ok(imap.uid("SEARCH", "ALL"))[0].split()))
        return sorted(self._chance.sample(found, min(len(found), self._chance.randint(1, 3))))

    @staticmethod
    def _remove(imap: imaplib.IMAP4, uids: str) -> None:
        _ok(imap.uid("STORE", uids, "+FLAGS", "(\\Deleted)"))
        _ok(imap.uid("EXPUNGE", uids))


def test_of_a_thousand_moves_by_another_client_nearly_all_keep_the_id_and_none_gets_a_wrong_one(
    gateway: Postgate, dovecot: Dovecot, tmp_path: Path
) -> None:
    moves, lost, wrong = ids_after_moves(gateway, dovecot, tmp_path / "data", MOVES)
    assert not wrong
    assert lost <= (1 - KEPT_SHARE) * moves


def test_where_the_server_gives_messages_ids_every_move_keeps_ours_though_the_gateway_is_killed(
    gateway: Postgate, cyrus: Cyrus, tmp_path: Path
) -> None:
    gateway.program = PROGRAM  # a restart takes as long as that of the installed program
    _, lost, wrong = ids_after_moves(gateway, cyrus, tmp_path / "data", MOVES_ON_CYRUS)
    assert (lost, wrong) == (0, 0)


@pytest.mark.parametrize(("count", "deaths"), [(40, (3,)), (600, (3, 9))])
def test_messages_moved_into_a_mailbox_that_was_made_while_the_gateway_was_off_keep_their_ids(
    gateway: Postgate, dovecot: Dovecot, tmp_path: Path, count: int, deaths: tuple[int, ...]
) -> None:
    """It is killed again as often as there are `deaths`, after so many changes of its index."""
    user, data = dovecot.add_user(), tmp_path / "data"
    with LoggedIn(dovecot, user) as imap:
        for number in range(count):
            assert imap.append("INBOX", "", WHEN, content(number, f"Text {number:05}"))[0] == "OK"
        account_id = add_account(gateway, dovecot, user)
        settle(dovecot, user, data, account_id)
        ids = [id_ for _, id_ in sorted(ids_by_place(data, account_id).items())]
        gateway.kill()
        _ok(imap.create("New"))
        _ok(imap.select("INBOX"))
        _ok(imap.uid("MOVE", "1:*", "New"))
    for death in deaths:
        with suppress(ServerFailed):  # it may be dead before it is ready
            gateway.start(f"index.committed:{death}")
        gateway.wait_until_dead()
    gateway.start_again()
    settle(dovecot, user, data, account_id)

    assert ids_by_place(data, account_id) == {("New", uid): id_ for uid, id_ in enumerate(ids, 1)}


def ids_after_moves(gateway: Postgate, server: Server, data: Path, moves: int) -> tuple[int, int, int]:
    """Move and deceive while the gateway is killed now and then: moves made, ids lost, ids of another message."""
    user = server.add_user()
    mover = Mover(seed=5)
    chance = random.Random(6)
    with LoggedIn(server, user) as imap:
        mover.fill(imap)
        account_id = add_account(gateway, server, user)
        settle(server, user, data, account_id)
        until(lambda: unread_of(data, account_id) == 0)
        ids = ids_by_place(data, account_id)
        mover.expected = dict(ids)
        before = {id_: content_at(imap, place) for place, id_ in ids.items()}
        starting = Thread()
        starting.start()
        while mover.moves < moves:
            mover.move(imap)
            if chance.random() < 0.05:
                mover.deceive(imap)
            if chance.random() < 2 / RESTART_EVERY:
                starting.join()
                gateway.kill()
                for _ in range(chance.randrange(10)):
                    mover.move(imap)
                starting = Thread(target=gateway.start_again)
                starting.start()
            time.sleep(chance.choice([0, 0, 0.02]))
        starting.join()
        settle(server, user, data, account_id)
        ids = ids_by_place(data, account_id)
        after = {id_: content_at(imap, place) for place, id_ in ids.items() if id_ in before}

    wrong = [id_ for id_ in after if before[id_] != after[id_]]
    # two messages that are the same in every byte may have changed places: nobody can tell
    moved = [place for place in mover.moved if mover.expected[place]]
    lost = [place for place in moved if before.get(ids[place]) != before[mover.expected[place]]]
    counts = (mover.moves, len(moved), len(lost), len(wrong))
    log.info("%d moves of %d messages: %d lost their ids, %d ids stand for another message", *counts)
    return mover.moves, len(lost), len(wrong)


def add_account(gateway: Postgate, server: Server, user: User) -> str:
    login = {"username": user.name, "password": user.password}
    imap = {"host": "127.0.0.1", "port": server.imap_port, "security": "none"} | login
    with gateway.client() as client:
        answer = client.post("/v1/accounts", json={"email": user.name, "kind": "imap", "imap": imap})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def settle(server: Server, user: User, data: Path, account_id: str) -> None:
    """Wait until the index has what the origin has."""
    origin = of_origin(server, user)
    until(lambda: not differences(of_index(data, account_id), origin))


def until(is_so: Any) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def unread_of(data: Path, account_id: str) -> int:
    """How many messages' bytes were not read yet."""
    asked = "SELECT count(*) FROM detail WHERE account_id = ? AND digest IS NULL"
    return int(_rows(data, asked, account_id)[0][0])


def ids_by_place(data: Path, account_id: str) -> dict[Place, str]:
    asked = (
        "SELECT mailbox.origin_name, message.uid, message.id FROM message JOIN mailbox"
        " ON mailbox.account_id = message.account_id AND mailbox.id = message.mailbox_id WHERE message.account_id = ?"
    )
    return {(name, uid): id_ for name, uid, id_ in _rows(data, asked, account_id)}


def content_at(imap: imaplib.IMAP4, place: Place) -> bytes:
    name, uid = place
    _ok(imap.select(name, readonly=True))
    fetched = _ok(imap.uid("FETCH", str(uid), "(BODY.PEEK[])"))
    return next(bytes(one[1]) for one in fetched if isinstance(one, tuple))


def _rows(data: Path, asked: str, account_id: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{data / 'postgate.sqlite3'}?mode=ro", uri=True)) as database:
        return database.execute(asked, (account_id,)).fetchall()


def _uid_next(imap: imaplib.IMAP4, mailbox: str) -> int:
    found = re.search(rb"UIDNEXT (\d+)", _ok(imap.status(mailbox, "(UIDNEXT)"))[0])
    assert found is not None
    return int(found[1])


def _ok(answer: tuple[str, list[Any]]) -> list[Any]:
    assert answer[0] == "OK", answer
    return answer[1]
