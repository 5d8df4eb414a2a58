"""A mail server that behaves as Gmail's IMAP does, on a real socket, over a store in memory.

What it offers and says is what imap.gmail.com does (2024): no QRESYNC, SORT, THREAD or NOTIFY; X-GM-EXT-1; labels as
mailboxes. `refusals` answer a command by name with a text of their own, as Gmail does to who asks for too much.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from app.mail.types import Role
from app.wire.imap.arguments import CommandSyntaxError
from app.wire.imap.command_framing import ReceivedCommand
from app.wire.imap.request import BareCommand
from app.wire.imap.request_parser import parse_command
from app.wire.imap.requests.append import Append
from app.wire.imap.requests.copy import Copy
from app.wire.imap.requests.enable import Enable
from app.wire.imap.requests.expunge import UidExpunge
from app.wire.imap.requests.fetch import Fetch
from app.wire.imap.requests.general import Identify
from app.wire.imap.requests.listing import ListMailboxes, MailboxStatusOf
from app.wire.imap.requests.login import Authenticate, Login
from app.wire.imap.requests.mailboxes import Create, Delete, Rename, Subscribe
from app.wire.imap.requests.search import Search
from app.wire.imap.requests.select import Select
from app.wire.imap.requests.store import Store

from tests.servers import gmail_mailboxes as mailboxes
from tests.servers import gmail_messages as messages
from tests.servers import gmail_search as searching
from tests.servers.gmail_session import No, Session
from tests.servers.gmail_store import (
    ALL,
    DRAFTS,
    IMPORTANT,
    INBOX,
    SENT,
    SPAM,
    STARRED,
    TRASH,
    GmailStore,
)

USER, PASSWORD = "me@gmail.test", "secret"
BEFORE_LOGIN = (
    "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 XYZZY SASL-IR AUTH=XOAUTH2 AUTH=PLAIN "
    "AUTH=PLAIN-CLIENTTOKEN AUTH=OAUTHBEARER"
)
AFTER_LOGIN = (
    "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 UIDPLUS COMPRESS=DEFLATE ENABLE MOVE "
    "CONDSTORE ESEARCH UTF8=ACCEPT LIST-EXTENDED LIST-STATUS LITERAL- SPECIAL-USE APPENDLIMIT=35651584"
)
TOO_MANY = "NO [ALERT] Too many simultaneous connections. (Failure)"
OVER_BANDWIDTH = "NO [OVERQUOTA] Account exceeded command or bandwidth limits. {0}"
THROTTLED = "NO [THROTTLED] Too many requests, slow down. (Failure)"
CONNECTIONS = 15
ROLES: dict[str, Role | None] = {
    INBOX: Role.INBOX, SENT: Role.SENT, DRAFTS: Role.DRAFTS, TRASH: Role.TRASH, SPAM: Role.JUNK, ALL: Role.ALL,
    STARRED: Role.FLAGGED, IMPORTANT: None, "[Gmail]": None, "Archive": Role.ARCHIVE,
}  # fmt: skip
"""What its mailboxes, with a label "Archive", are for."""
_GM_ITEMS = re.compile(rb" ?\b(X-GM-MSGID|X-GM-THRID|X-GM-LABELS)\b")
_GM_STORE = re.compile(rb"UID STORE (\S+) ([+-]?)X-GM-LABELS(?:\.SILENT)? \((.*)\)\Z")
_GM_SEARCH = re.compile(rb"UID SEARCH (?:RETURN \(\S*\) )?X-GM-(RAW|MSGID|THRID) \"?(.*?)\"?\Z")


@dataclass
class Gmail:
    """A running server. `fetched` counts for each message how often its ENVELOPE was asked for."""

    store: GmailStore = field(default_factory=GmailStore)
    port: int = 0
    limit: int = CONNECTIONS
    refusals: dict[str, str] = field(default_factory=dict)
    commands: Counter[str] = field(default_factory=Counter)
    fetched: Counter[int] = field(default_factory=Counter)
    sessions: set[Session] = field(default_factory=set)
    held: tuple[frozenset[str], str] = (frozenset(), "")
    may_go: asyncio.Event = field(default_factory=asyncio.Event)
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while no session runs."""
    is_throttling: bool = False
    """Says `[THROTTLED]` at the end of each OK, as Gmail does long before it refuses."""

    def hold(self, *commands: str, mailbox: str) -> None:
        """Answer these commands about a mailbox only after `release`."""
        self.held = (frozenset(commands), mailbox)
        self.may_go.clear()

    def release(self) -> None:
        self.may_go.set()

    def drop_all(self) -> None:
        for session in list(self.sessions):
            session.writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self, reader, writer)
        self.sessions.add(session)
        self.has_ended.clear()
        self.store.on_change.append(session.news.set)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await _run_session(session)
        finally:
            self.sessions.discard(session)
            self.store.on_change.remove(session.news.set)
            writer.close()
            if not self.sessions:
                self.has_ended.set()


@asynccontextmanager
async def running_gmail() -> AsyncIterator[Gmail]:
    gmail = Gmail()
    server = await asyncio.start_server(gmail.serve, "127.0.0.1", 0)
    gmail.has_ended.set()
    gmail.port = server.sockets[0].getsockname()[1]
    try:
        yield gmail
    finally:
        server.close()
        gmail.release()  # a test that failed may have left commands waiting
        gmail.drop_all()
        await gmail.has_ended.wait()


async def _run_session(session: Session) -> None:
    session.send("* OK Gimap ready for requests from 127.0.0.1 x1mb1")
    while (received := await session.next_command()) is not None:
        if not await _answer(session, received):
            return
        await session.writer.drain()


async def _answer(session: Session, received: ReceivedCommand) -> bool:
    tag, _, rest = received.text.partition(b" ")
    name = " ".join(rest.decode("latin-1").upper().split(" ")[: 2 if rest[:4].upper() == b"UID " else 1])
    session.gmail.commands[name] += 1
    try:
        if name in session.gmail.held[0] and session.gmail.held[1].encode() in received.text:
            await session.gmail.may_go.wait()
        if name in session.gmail.refusals:
            raise No(session.gmail.refusals[name])
        status = await _run(session, name, received)
    except No as error:
        status = str(error)
    except (CommandSyntaxError, KeyError) as error:
        status = f"BAD Could not parse command: {error}"
    end = " [THROTTLED]" if session.gmail.is_throttling and status.startswith("OK") else ""
    session.send(f"{tag.decode()} {status}{end}")
    return name != "LOGOUT"


async def _run(session: Session, name: str, received: ReceivedCommand) -> str:
    labels = _GM_STORE.search(received.text)
    if labels:
        return messages.store_labels(session, *labels.groups())
    sought = _GM_SEARCH.search(received.text)
    if sought:
        return searching.search_gmail(session, sought[1].decode(), sought[2].decode())
    parts, extra = received.parts, []
    if name == "UID FETCH":
        text = received.text
        extra = [item.decode() for item in _GM_ITEMS.findall(text)]
        parts = (_GM_ITEMS.sub(b"", text).replace(b"( ", b"("), *parts[1:])
    command = parse_command(parts, is_utf8=session.is_utf8).command
    if not (session.is_user or isinstance(command, Login | Authenticate | BareCommand | Identify)):
        raise No("BAD Not allowed before login")
    if isinstance(command, BareCommand):
        return await _simple(session, name)
    if isinstance(command, Fetch):
        return messages.fetch(session, command, extra)
    return await _HANDLERS[type(command)](session, command)


async def _simple(session: Session, name: str) -> str:
    match name:
        case "CAPABILITY":
            session.send(f"* CAPABILITY {AFTER_LOGIN if session.is_user else BEFORE_LOGIN}")
            return "OK Thats all she wrote!"
        case "NAMESPACE":
            session.send('* NAMESPACE (("" "/")) NIL NIL')
        case "IDLE":
            await session.idle()
            return "OK IDLE terminated (Success)"
        case "UNSELECT" | "CLOSE":
            session.box = None
        case "LOGOUT":
            session.send("* BYE LOGOUT Requested")
            return "OK 73 good day (Success)"
        case "EXPUNGE":
            messages.expunge(session, session.selected().uids)
        case "NOOP" | "CHECK":
            pass
        case _:
            raise No("BAD Unknown command")
    session.tell_news()
    return "OK Success"


async def log_in(session: Session, command: Login) -> str:
    return _check(session, command.username, command.password)


async def authenticate(session: Session, command: Authenticate) -> str:
    if command.initial_response is None:
        session.send("+ ")
        line = await session.next_command()
        assert line is not None
        _, user, password = base64.b64decode(line.text).split(b"\0")
    else:
        _, user, password = base64.b64decode(command.initial_response).split(b"\0")
    return _check(session, user.decode(), password.decode())


def _check(session: Session, user: str, password: str) -> str:
    if "LOGIN" in session.gmail.refusals:
        raise No(session.gmail.refusals["LOGIN"])
    if (user, password) != (USER, PASSWORD):
        raise No("NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)")
    if sum(one.is_user for one in session.gmail.sessions) >= session.gmail.limit:
        raise No(TOO_MANY)
    session.is_user = True
    session.send(f"* CAPABILITY {AFTER_LOGIN}")
    return f"OK {user} authenticated (Success)"


async def identify(session: Session, _: Identify) -> str:
    session.send('* ID ("name" "GImap" "vendor" "Google, Inc.")')
    return "OK Success"


async def enable(session: Session, command: Enable) -> str:
    """Only what it offers is confirmed."""
    known = [one for one in command.capabilities if one in ("CONDSTORE", "UTF8=ACCEPT")]
    session.is_utf8 = session.is_utf8 or "UTF8=ACCEPT" in known
    session.send(f"* ENABLED {' '.join(known)}")
    return "OK Success"


_HANDLERS: dict[type, Callable[[Session, Any], Awaitable[str]]] = {
    Login: log_in,
    Authenticate: authenticate,
    Identify: identify,
    Enable: enable,
    ListMailboxes: mailboxes.list_mailboxes,
    MailboxStatusOf: mailboxes.status,
    Select: mailboxes.select,
    Create: mailboxes.create,
    Delete: mailboxes.delete,
    Rename: mailboxes.rename,
    Subscribe: mailboxes.subscribe,
    Store: messages.store_flags,
    Search: searching.search,
    Copy: messages.copy,
    UidExpunge: messages.uid_expunge,
    Append: messages.append,
}
