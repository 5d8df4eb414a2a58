"""Our commands on a real Dovecot: it takes each, and what it answers is read."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from app.wire.imap import commands, search
from app.wire.imap.commands import BodySection, KnownState
from app.wire.imap.encode import LITERAL_MINUS, LITERAL_PLUS, NO_PLUS, Command
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.framing import ClientFramer, LiteralChunk, Response, ServerEvent, StreamedLiteral
from app.wire.imap.notify import EventGroup, notify
from app.wire.imap.response_parser import parse_response
from app.wire.imap.responses import (
    Continuation,
    ESearchResult,
    ListedMailbox,
    MailboxStatus,
    ServerResponse,
    Status,
    StatusKind,
    Unknown,
    Vanished,
)
from app.wire.imap.sets import SequenceSet

from tests.servers.dovecot import Dovecot

HOSTILE_NAMES = ['a "b" \\ {5}', "Entwürfe & mehr", "R&D", "{5+}", "日本語 📮", "a'%b"]
MESSAGE = b"From: ann@example.com\r\nSubject: =?utf-8?q?caf=C3=A9?= {5}\r\n\r\nHello {5}\r\n* 1 EXISTS\r\n"
ALL = SequenceSet.parse("1:*")
PERSONAL = EventGroup("personal", ("MessageNew", "MessageExpunge", "FlagChange", "MailboxName"))
SELECTED = EventGroup("selected", ("MessageNew", "MessageExpunge", "FlagChange"), ("UID", "FLAGS"))


class Client:
    """The smallest client: one command at a time, each within ten seconds."""

    def __init__(self, host: str, port: int, non_sync_limit: int) -> None:
        self._socket = socket.create_connection((host, port), timeout=10)
        self._framer = ClientFramer()
        self._limit = non_sync_limit
        self._count = 0
        self.streamed = b""
        assert isinstance(self._next(), Status)

    def close(self) -> None:
        self._socket.close()

    def run(self, command: Command, upload: bytes = b"") -> list[ServerResponse]:
        """The untagged responses and the tagged OK of a command."""
        self._count += 1
        tag = f"t{self._count}"
        found: list[ServerResponse] = []
        for index, segment in enumerate(command.segments(tag.encode(), self._limit)):
            if index:
                assert isinstance(self._next(), Continuation)
            self._socket.sendall(b"".join(piece if isinstance(piece, bytes) else upload for piece in segment))
        while True:
            response = self._next()
            assert not isinstance(response, Unknown)
            found.append(response)
            if isinstance(response, Status) and response.tag == tag:
                assert response.kind is StatusKind.OK, f"{command}: {response}"
                return found

    def _next(self) -> ServerResponse:
        while True:
            event: ServerEvent | None = self._framer.next_event()
            if event is None:
                self._framer.feed(self._socket.recv(65_536))
            elif isinstance(event, LiteralChunk):
                self.streamed += event.data
            elif isinstance(event, Response):
                return parse_response(event)


@pytest.fixture(params=[NO_PLUS, LITERAL_MINUS, LITERAL_PLUS], ids=["waiting", "literal-minus", "literal-plus"])
def client(dovecot: Dovecot, request: pytest.FixtureRequest) -> Iterator[Client]:
    user = dovecot.add_user(password='p "w" \\ {5} é')
    client = Client(dovecot.host, dovecot.imap_port, request.param)
    try:
        client.run(commands.login(user.name, user.password))
        yield client
    finally:
        client.close()


def fetched(found: list[ServerResponse]) -> list[FetchedMessage]:
    return [response for response in found if isinstance(response, FetchedMessage)]


def test_mailboxes_of_any_name_are_made_listed_renamed_and_removed(client: Client) -> None:
    for name in HOSTILE_NAMES:
        client.run(commands.create(name))
        client.run(commands.subscribe(name))
    listed = client.run(
        commands.list_mailboxes(returning=["SPECIAL-USE", "SUBSCRIBED"], status=["MESSAGES", "UIDNEXT"])
    )

    assert {one.name for one in listed if isinstance(one, ListedMailbox)} >= {*HOSTILE_NAMES, "INBOX"}
    assert {one.name for one in listed if isinstance(one, MailboxStatus)} >= {*HOSTILE_NAMES, "INBOX"}
    for name in HOSTILE_NAMES:
        client.run(commands.rename(name, f"{name} 2"))
        (status, _) = client.run(commands.status(f"{name} 2"))
        assert isinstance(status, MailboxStatus)
        assert (status.name, status.items["MESSAGES"]) == (f"{name} 2", 0)
        client.run(commands.unsubscribe(name))
        client.run(commands.delete(f"{name} 2"))


def test_a_message_is_appended_read_found_flagged_copied_moved_and_removed(client: Client) -> None:
    client.run(commands.enable(["QRESYNC"]))
    *_, appended = client.run(commands.append("INBOX", len(MESSAGE), flags=["\\Draft"], received_at_ms=0), MESSAGE)
    assert isinstance(appended, Status)
    assert appended.code is not None
    (uid,) = appended.code.appended.uids
    one = SequenceSet.of([uid])
    client.run(commands.select("INBOX", condstore=True))

    items: list[str | BodySection] = [
        "UID",
        "FLAGS",
        "INTERNALDATE",
        "RFC822.SIZE",
        "MODSEQ",
        "ENVELOPE",
        "BODYSTRUCTURE",
    ]
    items += [BodySection(), BodySection("HEADER", ("SUBJECT",), (0, 7))]
    (message,) = fetched(client.run(commands.fetch(ALL, items)))
    assert (message.uid, message.internal_date_ms, message.size_bytes) == (uid, 0, len(MESSAGE))
    assert message.flags == frozenset({"\\Draft"})
    assert message.sections == {"": MESSAGE, "HEADER.FIELDS (SUBJECT)<0>": b"Subject"}
    assert message.modseq is not None

    client.run(commands.store(one, ["\\Seen", "$Work"], unchanged_since=message.modseq))
    café = search.And((search.TextMatch(search.TextField.SUBJECT, "café {5}"), search.HasFlag("$Work")))
    (result, _) = client.run(commands.search(café, returning=["COUNT", "ALL"]))
    assert isinstance(result, ESearchResult)
    assert (result.count, result.all) == (1, one)

    *_, copied = client.run(commands.copy(one, "Archive"))
    assert isinstance(copied, Status)
    assert copied.code is not None
    assert copied.code.copied.pairs == ((uid, 1),)
    client.run(commands.store(one, ["\\Deleted"], silent=True))
    assert Vanished(one, is_earlier=False) in client.run(commands.expunge(one))
    since = client.run(commands.fetch(ALL, ["UID", "FLAGS"], changed_since=1, vanished=True))
    assert Vanished(one, is_earlier=True) in since

    client.run(commands.select("Archive"))
    assert Vanished(SequenceSet.of([1]), is_earlier=False) in client.run(commands.move(SequenceSet.of([1]), "Trash"))


def test_a_large_body_is_streamed(client: Client) -> None:
    body = MESSAGE + b"0123456789\r\n" * 20_000
    client.run(commands.append("INBOX", len(body)), body)
    client.run(commands.select("INBOX", is_read_only=True))

    (message,) = fetched(client.run(commands.fetch(ALL, ["UID", BodySection()])))

    assert message.sections == {"": StreamedLiteral(1, len(body))}
    assert client.streamed == body


def test_a_mailbox_is_resumed_and_watched(client: Client) -> None:
    client.run(commands.enable(["QRESYNC"]))
    (status, _) = client.run(commands.status("INBOX"))
    assert isinstance(status, MailboxStatus)

    client.run(commands.select("INBOX", known=KnownState(status.items["UIDVALIDITY"], 1, SequenceSet.parse("1:5"))))
    told = client.run(notify([SELECTED, PERSONAL], with_status=True))
    client.run(notify([]))
    client.run(commands.unselect())

    assert {one.name for one in told if isinstance(one, MailboxStatus)} >= {"Sent", "Drafts"}
    for command in (commands.namespace(), commands.identify({"name": "x"}), commands.capability(), commands.noop()):
        client.run(command)
    client.run(commands.list_subscribed())
    client.run(commands.logout())
