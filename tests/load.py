"""Clients that use a gateway in threads while it or its database fails, and an account of what was acknowledged."""

from __future__ import annotations

import imaplib
import itertools
import random
import re
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.mirror_subscriber import read_all
from tests.servers.postgate import REQUEST_SECONDS, Postgate
from tests.servers.smtp_sink import SmtpSink

LOST = (OSError, EOFError, imaplib.IMAP4.abort, smtplib.SMTPServerDisconnected, httpx2.HTTPError)
"""What a client sees when its connection ends."""
PAUSE_SECONDS = 0.05
REFUSED_PAUSE_SECONDS = 0.3
"""After a refusal: a client that repeats without a pause is sent away as a flood."""
SETTLED = ("sent", "failed", "uncertain")
RETRYABLE_CODES = {"database_unavailable", "storage_full", "storage_unavailable", "idempotency_key_running"}
_APPENDUID = re.compile(rb"APPENDUID (\d+) (\d+)")
_FETCHED = re.compile(rb"UID (\d+)")
_SUBJECT = re.compile(rb"^Subject: (\S+)", re.MULTILINE)

Place = tuple[str, bool] | None
"""Role of the mailbox and whether the message is flagged; None where it was deleted."""


@dataclass
class Books:
    """What clients asked for and what was answered. Each message has a subject that no other has."""

    name: str = "load"
    places: dict[str, set[Place]] = field(default_factory=dict)
    """Where a message may be, by its subject."""
    sends: dict[str, str] = field(default_factory=dict)
    """Id of the submission, by the subject of an acknowledged send."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """What came of a send, once nothing more happens to it."""
    refusals: Counter[str] = field(default_factory=Counter)
    """Answers that ask to come again."""
    wrong: list[str] = field(default_factory=list)
    """Answers that no failure of the database or disk permits."""
    lost: list[str] = field(default_factory=list)
    """Connections that the gateway ended."""
    uids: dict[tuple[str, int], str] = field(default_factory=dict)
    """Subjects by UIDVALIDITY and UID."""
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def new_subject(self, kind: str) -> str:
        return f"{self.name}-{kind}-{next(self._numbers)}"

    def try_place(self, subject: str, place: Place) -> None:
        """A change was asked for: it may come about from now on."""
        self.places.setdefault(subject, {None}).add(place)

    def acknowledge(self, subject: str, place: Place) -> None:
        """The change was acknowledged: nothing else is allowed any more."""
        self.places[subject] = {place}

    def see_uid(self, validity: str, uid: int, subject: str) -> None:
        """Note who has a UID; one that had another subject before is wrong."""
        known = self.uids.setdefault((validity, uid), subject)
        if known != subject:
            self.wrong.append(f"UID {uid} of {validity} was {known} and is {subject}")

    def answer(self, who: str, answer: httpx2.Response) -> bool:
        """Whether a REST request succeeded; a refusal has to be one that a failure permits, and say when to retry."""
        if answer.status_code < 300:
            return True
        code = answer.json().get("code", "") if answer.content else ""
        self.refusals[f"{who} {answer.status_code} {code}"] += 1
        is_permitted = answer.status_code in (409, 503, 507) and code in RETRYABLE_CODES
        if not is_permitted or (answer.status_code != 409 and "retry-after" not in answer.headers):
            self.wrong.append(f"{who}: {answer.status_code} {answer.text}")
        return False


class Client(threading.Thread):
    """Works in a thread until `finish`. A lost connection is noted, and made again for the next step."""

    def __init__(self, gateway: Postgate, books: Books, seed: int = 0) -> None:
        super().__init__(name=type(self).__name__, daemon=True)
        self.gateway = gateway
        self.books = books
        self.chance = random.Random(f"{self.name} {seed}")
        self.done = 0
        """Acknowledged steps."""
        self._is_ending = threading.Event()

    def run(self) -> None:
        while not self._is_ending.is_set():
            is_done = False
            try:
                is_done = self.step()
            except LOST as error:
                self.books.lost.append(f"{self.name}: {error!r}")
                self.disconnect()
                self._is_ending.wait(0.2)
            except Exception as error:
                self.books.wrong.append(f"{self.name} failed: {error!r}")
                raise
            self.done += is_done
            self._is_ending.wait(PAUSE_SECONDS if is_done else REFUSED_PAUSE_SECONDS)
        self.disconnect()

    def step(self) -> bool:
        """Ask for one thing; whether it was acknowledged."""
        raise NotImplementedError

    def disconnect(self) -> None:
        """Drop the connection without a word."""

    def finish(self, seconds: float = REQUEST_SECONDS + 15) -> None:
        self._is_ending.set()
        self.join(seconds)
        if self.is_alive():
            self.books.wrong.append(f"{self.name} hangs")


class SmtpClient(Client):
    """Delivers to alice over one connection."""

    protocol: type[smtplib.SMTP] = smtplib.SMTP
    port = "smtp"
    _connection: smtplib.SMTP | None = None

    def step(self) -> bool:
        if self._connection is None:
            self._connection = self.protocol("127.0.0.1", self.gateway.ports[self.port], timeout=REQUEST_SECONDS)
        subject = self.books.new_subject(self.port)
        self.books.try_place(subject, ("inbox", False))
        try:
            self._connection.sendmail("a@example.com", [self.gateway.user()["email"]], message(subject))
        except smtplib.SMTPRecipientsRefused as refused:
            return self._refused(next(iter(refused.recipients.values()))[0])
        except smtplib.SMTPResponseException as refused:
            return self._refused(refused.smtp_code)
        self.books.acknowledge(subject, ("inbox", False))
        return True

    def _refused(self, code: int) -> bool:
        self.books.refusals[f"{self.port} {code}"] += 1
        if code not in (451, 452):
            self.books.wrong.append(f"{self.port}: {code}")
        return False

    def disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class LmtpClient(SmtpClient):
    protocol = smtplib.LMTP
    port = "lmtp"


class ImapClient(Client):
    """Appends a message, and then flags it, moves it, deletes it or leaves it alone, in one session."""

    _session: imaplib.IMAP4 | None = None

    def step(self) -> bool:
        session = self._connected()
        if session is None:
            return False
        subject = self.books.new_subject("imap")
        self.books.try_place(subject, ("inbox", False))
        answer = self._ask(session.append("INBOX", "", imaplib.Time2Internaldate(time.time()), message(subject)))
        if answer is None:
            return False
        found = _APPENDUID.search(answer)
        assert found is not None, answer
        self.books.acknowledge(subject, ("inbox", False))
        self.books.see_uid(f"INBOX {found[1].decode()}", int(found[2]), subject)
        return self._change(session, subject, found[2].decode())

    def _change(self, session: imaplib.IMAP4, subject: str, uid: str) -> bool:
        kind = self.chance.choice(["flag", "move", "delete", "leave"])
        place: Place = {"flag": ("inbox", True), "move": ("archive", False), "leave": ("inbox", False)}.get(kind)
        self.books.try_place(subject, place)
        self.books.places[subject].discard(None) if place is not None else None
        match kind:
            case "flag":
                answer = self._ask(session.uid("STORE", uid, "+FLAGS", "(\\Flagged)"))
            case "move":
                answer = self._ask(session.uid("MOVE", uid, "Archive"))
            case "delete":
                answer = self._ask(session.uid("STORE", uid, "+FLAGS", "(\\Deleted)"))
                answer = answer and self._ask(session.uid("EXPUNGE", uid))
            case _:
                answer = self._ask(session.noop())
        if answer is not None:
            self.books.acknowledge(subject, place)
        return answer is not None

    def _connected(self) -> imaplib.IMAP4 | None:
        if self._session is None:
            alice = self.gateway.user()
            session = imaplib.IMAP4("127.0.0.1", self.gateway.ports["imap"], timeout=REQUEST_SECONDS)
            session.debug = 0
            try:
                session.login(alice["email"], alice["password"])
            except imaplib.IMAP4.abort:
                raise
            except imaplib.IMAP4.error as refused:
                self._ask(("NO", [str(refused).encode()]))
                session.shutdown()
                return None
            if self._ask(session.select("INBOX")) is None:
                session.shutdown()
                return None
            self._session = session
        return self._session

    def _ask(self, answer: tuple[str, Sequence[Any]]) -> bytes | None:
        """The text of an OK; None for a NO, which has to say that the database or the disk fails."""
        kind, data = answer
        text = next((one for one in data if isinstance(one, bytes)), b"")
        if kind == "OK":
            return text
        self.books.refusals[f"imap {kind} {text[:40].decode(errors='replace')}"] += 1
        if not any(code in text for code in (b"[UNAVAILABLE]", b"[OVERQUOTA]")):
            self.books.wrong.append(f"imap: {kind} {text.decode(errors='replace')}")
        return None

    def disconnect(self) -> None:
        if self._session is not None:
            self._session.shutdown()
        self._session = None


class SendingClient(Client):
    """Sends by REST to a server elsewhere; each send is asked for with one key until it is acknowledged."""

    _subject = ""

    def step(self) -> bool:
        self._subject = self._subject or self.books.new_subject("send")
        order = {"to": [{"address": "joe@elsewhere.example"}], "subject": self._subject, "text": "Once"}
        with self.gateway.client() as client:
            answer = client.post(
                f"{self.gateway.account_path()}/send", json=order, headers={"Idempotency-Key": self._subject}
            )
        if not self.books.answer("send", answer):
            return False
        self.books.sends[self._subject] = answer.json()["id"]
        self._subject = ""
        return True

    def finish(self, seconds: float = REQUEST_SECONDS + 15) -> None:
        super().finish(seconds)
        if self._subject:  # not acknowledged: it may have been taken or not
            self.books.refusals["send never acknowledged"] += 1


class ReadingClient(Client):
    """Reads by REST over one connection."""

    _client: httpx2.Client | None = None

    def step(self) -> bool:
        if self._client is None:
            self._client = self.gateway.client()
        path = self.chance.choice(["/messages?limit=3", "/mailboxes", ""])
        return self.books.answer("read", self._client.get(f"{self.gateway.account_path()}{path}"))

    def disconnect(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client = None


def message(subject: str) -> bytes:
    return f"From: a@example.com\r\nTo: alice@demo.test\r\nSubject: {subject}\r\n\r\nText\r\n".encode()


def faults(gateway: Postgate, books: Books, sink: SmtpSink) -> list[str]:
    """What is not as it was acknowledged. Nobody works at that time."""
    _see_uids(gateway, books)
    return [*books.wrong, *_misplaced(gateway, books), *_wrong_sends(gateway, books, sink)]


def _misplaced(gateway: Postgate, books: Books) -> list[str]:
    with gateway.client() as client:
        path = gateway.account_path()
        roles = {one["id"]: one["role"] for one in client.get(f"{path}/mailboxes").json()["items"]}
        held, _ = read_all(client, path)
    found: dict[str, list[Place]] = {}
    for mailbox, keywords, subject in held.messages.values():
        found.setdefault(subject, []).append((roles[mailbox], "$flagged" in keywords))
    return [
        f"{subject} is at {found.get(subject, [])}, allowed is one of {allowed}"
        for subject, allowed in books.places.items()
        if len(found.get(subject, [])) > 1 or (found.get(subject) or [None])[0] not in allowed
    ]


def _wrong_sends(gateway: Postgate, books: Books, sink: SmtpSink) -> list[str]:
    open_sends = books.sends.keys() - books.outcomes.keys()
    books.outcomes |= {subject: settled(gateway, books.sends[subject]) for subject in open_sends}
    received = Counter(_SUBJECT.search(one.content)[1].decode() for one in sink.messages)  # type: ignore[index]  # ours
    said = [f"{subject} left {count} times" for subject, count in received.items() if count > 1]
    for subject, status in books.outcomes.items():
        if status not in SETTLED or (status == "sent" and received[subject] != 1):
            said.append(f"{subject} is {status} and was received {received[subject]} times")
    return said


def settled(gateway: Postgate, submission_id: str, seconds: float = 60.0) -> str:
    """The status of a submission once no attempt is under way."""
    deadline = time.monotonic() + seconds
    with gateway.client() as client:
        while True:
            answer = client.get(f"{gateway.account_path()}/submissions/{submission_id}")
            status = str(answer.json().get("status", answer.status_code))
            if status in SETTLED or time.monotonic() > deadline:
                return status
            time.sleep(0.1)


def _see_uids(gateway: Postgate, books: Books) -> None:
    session = gateway.imap()
    try:
        for mailbox in ("INBOX", "Archive"):
            session.select(mailbox, readonly=True)
            validity = session.response("UIDVALIDITY")[1][0].decode()
            _, data = session.uid("FETCH", "1:*", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
            for item in data:
                if isinstance(item, tuple) and (subject := _SUBJECT.search(item[1])) is not None:
                    uid = int(_FETCHED.search(item[0])[1])  # type: ignore[index]  # asked for
                    books.see_uid(f"{mailbox} {validity}", uid, subject[1].decode())
    finally:
        session.shutdown()
