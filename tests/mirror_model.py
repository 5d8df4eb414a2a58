"""Random changes to the mail of one account, by other clients and by the API, and what is compared afterwards."""

from __future__ import annotations

import imaplib
import random
import re
import smtplib
import socket
import sqlite3
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.servers.cyrus import Cyrus, CyrusUser
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.postgate import Postgate

INBOX = "INBOX"
_LISTED = re.compile(rb'\(([^)]*)\) (?:"."|NIL) "?([^"]*)"?$')
_NUMBERS = re.compile(rb"UID (\d+)")
_HEADER = re.compile(rb"message-id:\s*(<[^>]*>)", re.IGNORECASE)
_ITEMS = "(UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])"

MessageFacts = tuple[tuple[str, ...], int, str]
"""Flags, size in bytes and Message-ID."""


@dataclass(frozen=True, slots=True)
class MailboxFacts:
    """What must be the same on both sides. `messages` by UID."""

    uid_validity: int
    total: int
    unread: int
    messages: Mapping[int, MessageFacts]


class Changer:
    """Makes one random change after another. What fails because something was cut off is left undone."""

    def __init__(
        self, dovecot: Dovecot, user: DovecotUser, gateway: Postgate, account_id: str, seed: int, *, log_size: int = 60
    ) -> None:
        self.done: deque[str] = deque(maxlen=log_size)
        self.made = 0
        self._dovecot, self._user, self._gateway, self._account_id = dovecot, user, gateway, account_id
        self._chance = random.Random(seed)
        self._imap: imaplib.IMAP4 | None = None
        self._http: httpx2.Client | None = None
        self._number = 0
        self._validity = int(time.time()) + 1_000_000
        self._makers: dict[Callable[[], str], int] = {
            self._deliver: 20,
            self._append: 10,
            self._flag: 22,
            self._move: 14,
            self._copy: 6,
            self._expunge: 8,
            self._create: 4,
            self._rename: 3,
            self._delete: 2,
            self._recreate: 2,
            self._new_validity: 1,
            self._flag_by_api: 8,
            self._move_by_api: 6,
            self._copy_by_api: 2,
            self._delete_by_api: 3,
            self._mailbox_by_api: 2,
        }

    def change(self) -> None:
        """Make one change. Raises what only a fault of the test can raise."""
        (maker,) = self._chance.choices(list(self._makers), list(self._makers.values()))
        self.made += 1
        try:
            said = maker()
        except (imaplib.IMAP4.error, OSError, smtplib.SMTPException, subprocess.CalledProcessError) as error:
            said = f"{maker.__name__} failed: {error!r}"[:120]
            self._forget_imap()
        except httpx2.HTTPError as error:
            said = f"{maker.__name__} failed: {error!r}"[:120]
            self.forget_gateway()
        self.done.append(f"{self.made}: {said}")

    def close(self) -> None:
        self._forget_imap()
        self.forget_gateway()

    def forget_gateway(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            http.close()

    def _forget_imap(self) -> None:
        imap, self._imap = self._imap, None
        if imap is not None:
            with suppress(imaplib.IMAP4.error, OSError):
                imap.shutdown()

    # ---- by other clients

    @property
    def imap(self) -> imaplib.IMAP4:
        if self._imap is None:
            self._imap = log_in(self._dovecot, self._user)
        return self._imap

    def _content(self) -> bytes:
        """A new message; one in ten is an exact copy of one before, one in twenty has no Message-ID."""
        self._number += 1
        number = self._number if self._chance.random() > 0.1 else self._chance.randint(1, self._number)
        lines = ["From: Bob <bob@elsewhere.test>", f"To: {self._user.name}", f"Subject: Number {number}"]
        lines += ["Date: Mon, 1 Jan 2024 09:00:00 +0000"]
        lines += [f"Message-ID: <{number}@elsewhere.test>"] if number % 20 else []
        return "\r\n".join([*lines, "", f"Text {number}", ""]).encode()

    def _mailbox(self) -> str:
        names = mailbox_names(self.imap)
        return INBOX if self._chance.random() < 0.3 else self._chance.choice(names)

    def _own_mailbox(self) -> str | None:
        names = [name for name in mailbox_names(self.imap) if name.startswith("box")]
        return self._chance.choice(names) if names else None

    def _some(self, mailbox: str, at_most: int = 3) -> str | None:
        """Select a mailbox and choose messages of it: a set of UIDs."""
        _check(self.imap.select(_quoted(mailbox)))
        found = _check(self.imap.uid("SEARCH", "ALL"))[0].split()
        chosen = self._chance.sample(found, min(len(found), self._chance.randint(1, at_most)))
        return b",".join(chosen).decode() or None

    def _deliver(self) -> str:
        self._dovecot.deliver(self._content(), self._user.name)
        return "deliver"

    def _append(self) -> str:
        mailbox = self._mailbox()
        when = '"01-Jan-2024 09:00:00 +0000"' if self._chance.random() < 0.5 else ""
        flags = self._chance.choice(["", "(\\Seen)", "(\\Flagged $Work)"])
        _check(self.imap.append(_quoted(mailbox), flags, when, self._content()))
        return f"append to {mailbox}"

    def _flag(self) -> str:
        mailbox = self._mailbox()
        uids = self._some(mailbox, 10)
        mode = self._chance.choice(["+FLAGS", "-FLAGS", "FLAGS"])
        flags = self._chance.choice(["(\\Seen)", "(\\Flagged)", "($Label1 \\Answered)"])
        if uids:
            _check(self.imap.uid("STORE", uids, mode, flags))
        return f"flag {uids} of {mailbox} {mode} {flags}"

    def _move(self) -> str:
        source, target = self._mailbox(), self._mailbox()
        uids = self._some(source)
        if uids:
            _check(self.imap.uid("MOVE", uids, _quoted(target)))
        return f"move {uids} of {source} to {target}"

    def _copy(self) -> str:
        source, target = self._mailbox(), self._mailbox()
        uids = self._some(source)
        if uids:
            _check(self.imap.uid("COPY", uids, _quoted(target)))
        return f"copy {uids} of {source} to {target}"

    def _expunge(self) -> str:
        mailbox = self._mailbox()
        uids = self._some(mailbox)
        if uids:
            _check(self.imap.uid("STORE", uids, "+FLAGS", "(\\Deleted)"))
            _check(self.imap.uid("EXPUNGE", uids))
        return f"expunge {uids} of {mailbox}"

    def _create(self) -> str:
        self._number += 1
        name = f"box{self._number}"
        _check(self.imap.create(name))
        return f"create {name}"

    def _rename(self) -> str:
        before = self._own_mailbox()
        self._number += 1
        after = f"box{self._number}"
        if before:
            _check(self.imap.rename(before, after))
        return f"rename {before} to {after}"

    def _delete(self) -> str:
        name = self._own_mailbox()
        if name:
            self._leave()
            _check(self.imap.delete(name))
        return f"delete {name}"

    def _recreate(self) -> str:
        name = self._own_mailbox()
        if name:
            self._leave()
            _check(self.imap.delete(name))
            _check(self.imap.create(name))
            _check(self.imap.append(name, "", "", self._content()))
        return f"delete and create {name}"

    def _new_validity(self) -> str:
        name = self._own_mailbox()
        self._validity += 1
        if name:
            self._leave()
            value = str(self._validity)
            self._dovecot.doveadm("mailbox", "update", "--uid-validity", value, "-u", self._user.name, name)
        return f"new UIDVALIDITY {self._validity} of {name}"

    def _leave(self) -> None:
        if self.imap.state == "SELECTED":
            _check(self.imap.unselect())

    # ---- by the API

    @property
    def http(self) -> httpx2.Client:
        if self._http is None:
            self._http = self._gateway.client()
        return self._http

    def _call(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        answer = self.http.request(method, f"/v1/accounts/{self._account_id}{path}", **arguments)
        assert answer.status_code != 500, (method, path, answer.text)
        return answer

    def _listed(self) -> list[dict[str, Any]]:
        mailbox = self._api_mailbox()
        found = self._call("GET", "/messages", params={"mailbox_id": mailbox, "limit": 100})
        items: list[dict[str, Any]] = found.json().get("items", [])
        return self._chance.sample(items, min(len(items), self._chance.randint(1, 3)))

    def _api_mailboxes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._call("GET", "/mailboxes").json().get("items", [])
        return found

    def _api_mailbox(self) -> str:
        found = self._api_mailboxes()
        return str(self._chance.choice(found)["id"]) if found else "mbx_none"

    def _flag_by_api(self) -> str:
        chosen = [one["id"] for one in self._listed()]
        keywords = {"add": [self._chance.choice(["$seen", "$flagged", "api"])], "remove": ["$answered"]}
        answer = self._call("POST", "/messages/batch", json={"message_ids": chosen, "keywords": keywords})
        return f"API flags {chosen} {keywords}: {answer.status_code}"

    def _move_by_api(self) -> str:
        chosen, target = [one["id"] for one in self._listed()], self._api_mailbox()
        answer = self._call("POST", "/messages/move", json={"message_ids": chosen, "mailbox_id": target})
        return f"API moves {chosen} to {target}: {answer.status_code}"

    def _copy_by_api(self) -> str:
        chosen, target = [one["id"] for one in self._listed()], self._api_mailbox()
        answer = self._call("POST", "/messages/copy", json={"message_ids": chosen, "mailbox_id": target})
        return f"API copies {chosen} to {target}: {answer.status_code}"

    def _delete_by_api(self) -> str:
        said = []
        for one in self._listed()[:1]:
            how = {"permanent": True} if self._chance.random() < 0.5 else {}
            said.append((one["id"], self._call("DELETE", f"/messages/{one['id']}", params=how).status_code))
        return f"API deletes {said}"

    def _mailbox_by_api(self) -> str:
        own = [one for one in self._api_mailboxes() if one["path"].startswith("box")]
        self._number += 1
        body = {"name": f"box{self._number}"}
        chosen = self._chance.choice(own) if own else None
        match self._chance.choice(["POST", "PATCH", "DELETE"]) if chosen else "POST":
            case "POST":
                answer = self._call("POST", "/mailboxes", json=body)
            case "PATCH":
                answer = self._call("PATCH", f"/mailboxes/{chosen['id']}", json=body)  # type: ignore[index]
            case _:
                answer = self._call("DELETE", f"/mailboxes/{chosen['id']}")  # type: ignore[index]
        return f"API {answer.request.method} mailbox {chosen and chosen['path']} {body}: {answer.status_code}"


def log_in(server: Dovecot | Cyrus, user: DovecotUser | CyrusUser) -> imaplib.IMAP4:
    connection = imaplib.IMAP4(server.host, server.imap_port, timeout=20)
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # APPEND would wait 40 ms for its last line
    connection.login(user.name, user.password)
    return connection


def mailbox_names(imap: imaplib.IMAP4) -> list[str]:
    listed = [_LISTED.match(line) for line in _check(imap.list()) if isinstance(line, bytes)]
    return sorted(one[2].decode() for one in listed if one and b"noselect" not in one[1].lower())


def of_origin(server: Dovecot | Cyrus, user: DovecotUser | CyrusUser) -> dict[str, MailboxFacts]:
    """What the mail server has, by mailbox name."""
    found = {}
    with LoggedIn(server, user) as imap:
        for name in mailbox_names(imap):
            _check(imap.select(_quoted(name), readonly=True))
            messages = _messages(_check(imap.uid("FETCH", "1:*", _ITEMS)))
            validity = int(imap.response("UIDVALIDITY")[1][0] or 0)
            unread = sum("\\Seen" not in flags for flags, _, _ in messages.values())
            found[name] = MailboxFacts(validity, len(messages), unread, messages)
    return found


class LoggedIn:
    """A login for the time of a block."""

    def __init__(self, server: Dovecot | Cyrus, user: DovecotUser | CyrusUser) -> None:
        self._imap = log_in(server, user)

    def __enter__(self) -> imaplib.IMAP4:
        return self._imap

    def __exit__(self, *_: object) -> None:
        self._imap.shutdown()


def _messages(lines: list[Any]) -> dict[int, MessageFacts]:
    found: dict[int, MessageFacts] = {}
    for line in lines:
        if not isinstance(line, tuple):
            continue
        facts, header = line
        flags = imaplib.ParseFlags(facts)
        size = re.search(rb"RFC822.SIZE (\d+)", facts)
        uid = _NUMBERS.search(facts)
        assert size is not None
        assert uid is not None
        message_id = _HEADER.search(header)
        shown = tuple(sorted(flag.decode() for flag in flags if flag != b"\\Recent"))
        found[int(uid[1])] = (shown, int(size[1]), message_id[1].decode() if message_id else "")
    return found


def of_index(data: Path, account_id: str) -> dict[str, MailboxFacts]:
    """What Postgate's database has, by origin name."""
    with closing(sqlite3.connect(f"file:{data / 'postgate.sqlite3'}?mode=ro", uri=True)) as database:
        mailboxes = database.execute(
            "SELECT id, origin_name, uid_validity, total, unread FROM mailbox WHERE account_id = ? AND is_selectable",
            (account_id,),
        ).fetchall()
        rows = database.execute(
            "SELECT mailbox_id, uid, flags, size_bytes, message_id_header FROM message WHERE account_id = ?",
            (account_id,),
        ).fetchall()
    messages: dict[str, dict[int, MessageFacts]] = {}
    for mailbox_id, uid, flags, size, header in rows:
        messages.setdefault(mailbox_id, {})[uid] = (tuple(sorted(flags.split())), size, header or "")
    return {
        name: MailboxFacts(validity, total, unread, messages.get(id_, {}))
        for id_, name, validity, total, unread in mailboxes
    }


def differences(index: Mapping[str, MailboxFacts], origin: Mapping[str, MailboxFacts]) -> list[str]:
    """In words; nothing where both are the same."""
    said = [f"only in the index: {name}" for name in sorted(index.keys() - origin.keys())]
    said += [f"only at the origin: {name}" for name in sorted(origin.keys() - index.keys())]
    for name in sorted(index.keys() & origin.keys()):
        ours, theirs = index[name], origin[name]
        numbers = [(one.uid_validity, one.total, one.unread) for one in (ours, theirs)]
        if numbers[0] != numbers[1]:
            said.append(f"{name}: (UIDVALIDITY, total, unread) is {numbers[0]}, origin has {numbers[1]}")
        for uid in sorted(ours.messages.keys() | theirs.messages.keys()):
            pair = ours.messages.get(uid), theirs.messages.get(uid)
            if pair[0] != pair[1]:
                said.append(f"{name} UID {uid}: index {pair[0]}, origin {pair[1]}")
    return said


def _quoted(name: str) -> str:
    return f'"{name}"'


def _check(answer: tuple[str, list[Any]]) -> list[Any]:
    status, data = answer
    if status != "OK":
        raise imaplib.IMAP4.error(str(data))
    return data
