"""A mail server that behaves as Gmail's IMAP does, on a real socket, over a store in memory.

What it offers and says is what imap.gmail.com does (2024): no QRESYNC, SORT, THREAD or NOTIFY; X-GM-EXT-1; labels as
mailboxes. `refusals` answer a command by name with a text of their own, as Gmail does to who asks for too much.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from app.mail.types import Role
from app.servers.imap.sections import chosen_fields, cut, locate
from app.wire.imap import render
from app.wire.imap import requests as r
from app.wire.imap import search as s
from app.wire.imap.arguments import CommandSyntaxError
from app.wire.imap.command_framing import CommandFramer, CommandLimits, LiteralRequested, ReceivedCommand
from app.wire.imap.dates import render_date_time
from app.wire.imap.names import encode_utf7
from app.wire.imap.request_parser import parse_command
from app.wire.imap.sets import SequenceSet

from tests.servers.gmail_store import (
    ALL,
    DRAFTS,
    IMPORTANT,
    INBOX,
    LABELS,
    SENT,
    SPAM,
    STARRED,
    TRASH,
    USES,
    Box,
    GmailStore,
    Mail,
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
_LIMITS = CommandLimits(command_bytes=64 << 20, stream_from_bytes=64 << 20)
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
    sessions: set[_Session] = field(default_factory=set)
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
        session = _Session(self, reader, writer)
        self.sessions.add(session)
        self.has_ended.clear()
        self.store.on_change.append(session.news.set)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await session.run()
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
        gmail.drop_all()
        await gmail.has_ended.wait()


class _No(Exception):
    """Ends a command by this status and text."""


class _Session:
    def __init__(self, gmail: Gmail, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.gmail, self.store = gmail, gmail.store
        self.reader, self.writer = reader, writer
        self.news = asyncio.Event()
        self.framer = CommandFramer(_LIMITS)
        self.framer.message_limit_bytes = 64 << 20
        self.is_user = self.is_utf8 = False
        self.box: Box | None = None
        self.seen: dict[int, list[str]] = {}
        """UID → flags of the selected mailbox, as this session has been told."""

    # ---- bytes

    def send(self, line: str | bytes) -> None:
        self.writer.write((line.encode() if isinstance(line, str) else line) + b"\r\n")

    async def run(self) -> None:
        self.send("* OK Gimap ready for requests from 127.0.0.1 x1mb1")
        while (received := await self._next()) is not None:
            if not await self._answer(received):
                return
            await self.writer.drain()

    async def _next(self) -> ReceivedCommand | None:
        while True:
            event = self.framer.next_event()
            if isinstance(event, ReceivedCommand):
                return event
            if isinstance(event, LiteralRequested):
                self.send("+ go ahead")
            elif event is None:
                data = await self.reader.read(65536)
                if not data:
                    return None
                self.framer._buffer.append(data)

    async def _answer(self, received: ReceivedCommand) -> bool:
        tag, _, rest = received.text.partition(b" ")
        name = " ".join(rest.decode("latin-1").upper().split(" ")[: 2 if rest[:4].upper() == b"UID " else 1])
        self.gmail.commands[name] += 1
        try:
            if name in self.gmail.held[0] and self.gmail.held[1].encode() in received.text:
                await self.gmail.may_go.wait()
            if name in self.gmail.refusals:
                raise _No(self.gmail.refusals[name])
            status = await self._run(name, received)
        except _No as error:
            status = str(error)
        except (CommandSyntaxError, KeyError) as error:
            status = f"BAD Could not parse command: {error}"
        end = " [THROTTLED]" if self.gmail.is_throttling and status.startswith("OK") else ""
        self.send(f"{tag.decode()} {status}{end}")
        return name != "LOGOUT"

    async def _run(self, name: str, received: ReceivedCommand) -> str:
        labels = _GM_STORE.search(received.text)
        if labels:
            return self._store_labels(*labels.groups())
        sought = _GM_SEARCH.search(received.text)
        if sought:
            return self._search_gmail(sought[1].decode(), sought[2].decode())
        parts, extra = received.parts, []
        if name == "UID FETCH":
            text = received.text
            extra = [item.decode() for item in _GM_ITEMS.findall(text)]
            parts = (_GM_ITEMS.sub(b"", text).replace(b"( ", b"("), *parts[1:])
        command = parse_command(parts, is_utf8=self.is_utf8).command
        if not (self.is_user or isinstance(command, r.Login | r.Authenticate | r.Simple | r.Identify)):
            raise _No("BAD Not allowed before login")
        if isinstance(command, r.Simple):
            return await self._simple(command.name)
        if isinstance(command, r.Fetch):
            return self._fetch(command, extra)
        return await _HANDLERS[type(command)](self, command)

    # ---- any time

    async def _simple(self, name: str) -> str:
        match name:
            case "CAPABILITY":
                self.send(f"* CAPABILITY {AFTER_LOGIN if self.is_user else BEFORE_LOGIN}")
                return "OK Thats all she wrote!"
            case "NAMESPACE":
                self.send('* NAMESPACE (("" "/")) NIL NIL')
            case "IDLE":
                await self._idle()
                return "OK IDLE terminated (Success)"
            case "UNSELECT" | "CLOSE":
                self.box = None
            case "LOGOUT":
                self.send("* BYE LOGOUT Requested")
                return "OK 73 good day (Success)"
            case "EXPUNGE":
                self._expunge(self._selected().uids)
            case "NOOP" | "CHECK":
                pass
            case _:
                raise _No("BAD Unknown command")
        self.tell_news()
        return "OK Success"

    async def log_in(self, command: r.Login) -> str:
        return self._check(command.username, command.password)

    async def authenticate(self, command: r.Authenticate) -> str:
        if command.initial_response is None:
            self.send("+ ")
            line = await self._next()
            assert line is not None
            _, user, password = base64.b64decode(line.text).split(b"\0")
        else:
            _, user, password = base64.b64decode(command.initial_response).split(b"\0")
        return self._check(user.decode(), password.decode())

    def _check(self, user: str, password: str) -> str:
        if "LOGIN" in self.gmail.refusals:
            raise _No(self.gmail.refusals["LOGIN"])
        if (user, password) != (USER, PASSWORD):
            raise _No("NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)")
        if sum(one.is_user for one in self.gmail.sessions) >= self.gmail.limit:
            raise _No(TOO_MANY)
        self.is_user = True
        self.send(f"* CAPABILITY {AFTER_LOGIN}")
        return f"OK {user} authenticated (Success)"

    async def identify(self, _: r.Identify) -> str:
        self.send('* ID ("name" "GImap" "vendor" "Google, Inc.")')
        return "OK Success"

    async def enable(self, command: r.Enable) -> str:
        """Only what it offers is confirmed."""
        known = [one for one in command.capabilities if one in ("CONDSTORE", "UTF8=ACCEPT")]
        self.is_utf8 = self.is_utf8 or "UTF8=ACCEPT" in known
        self.send(f"* ENABLED {' '.join(known)}")
        return "OK Success"

    async def _idle(self) -> None:
        self.send("+ idling")
        self.tell_news()
        while True:
            line, news = asyncio.ensure_future(self._next()), asyncio.ensure_future(self.news.wait())
            try:
                await asyncio.wait({line, news}, return_when=asyncio.FIRST_COMPLETED)
                if line.done():
                    if line.result() is None:
                        raise ConnectionResetError
                    return
            finally:
                news.cancel()
                line.cancel()
                with suppress(asyncio.CancelledError):
                    await line
            self.tell_news()
            await self.writer.drain()

    def tell_news(self) -> None:
        """What changed in the selected mailbox since it was last told."""
        self.news.clear()
        if self.box is None:
            return
        numbers = list(self.seen)
        for uid in [uid for uid in numbers if uid not in self.box.uids]:
            self.send(f"* {numbers.index(uid) + 1} EXPUNGE")
            numbers.remove(uid)
        new = [uid for uid in self.box.uids if uid not in self.seen]
        if new:
            self.send(f"* {len(numbers) + len(new)} EXISTS")
        for number, uid in enumerate(numbers, 1):
            flags = self.box.flags(uid)
            if flags != self.seen[uid]:
                self.send(f"* {number} FETCH (UID {uid} MODSEQ ({self.box.modseqs[uid]}) FLAGS ({' '.join(flags)}))")
        self.seen = {uid: self.box.flags(uid) for uid in self.box.uids}

    # ---- mailboxes

    def _name(self, name: str) -> str:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted if self.is_utf8 else encode_utf7(quoted)}"'

    def _box(self, name: str) -> Box:
        if name not in self.store.boxes:
            raise _No("NO [NONEXISTENT] Unknown Mailbox: (Failure)")
        return self.store.boxes[name]

    async def list_mailboxes(self, command: r.ListMailboxes) -> str:
        word = "LSUB" if command.is_lsub else "LIST"
        pattern = re.escape(command.patterns[0]).replace("\\*", ".*").replace("%", "[^/]*")
        names = [*self.store.boxes, "[Gmail]"]
        for name in sorted(names):
            if not re.fullmatch(pattern, name):
                continue
            box = self.store.boxes.get(name)
            words = [USES[name]] if name in USES else []
            words += ["\\HasChildren" if any(one.startswith(f"{name}/") for one in names) else "\\HasNoChildren"]
            words += ["\\Noselect"] if box is None else []
            if box and box.is_subscribed and "SUBSCRIBED" in command.returning:
                words.append("\\Subscribed")
            self.send(f'* {word} ({" ".join(words)}) "/" {self._name(name)}')
            if box and command.status:
                self._tell_status(box, command.status)
        return "OK Success"

    async def status(self, command: r.MailboxStatusOf) -> str:
        self._tell_status(self._box(command.mailbox), command.items)
        return "OK Success"

    def _tell_status(self, box: Box, items: Iterable[str]) -> None:
        known = {
            "MESSAGES": len(box.uids),
            "UIDNEXT": box.uid_next,
            "UIDVALIDITY": box.uid_validity,
            "UNSEEN": sum("\\Seen" not in mail.flags for mail in box.uids.values()),
            "HIGHESTMODSEQ": box.modseq,
            "RECENT": 0,
        }
        self.send(f"* STATUS {self._name(box.name)} ({' '.join(f'{one} {known[one]}' for one in items)})")

    async def select(self, command: r.Select) -> str:
        self.box = None
        box = self._box(command.mailbox)
        self.send("* FLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen $NotPhishing $Phishing)")
        self.send(
            "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Draft \\Deleted \\Seen $NotPhishing $Phishing \\*)] ok."
        )
        self.send(f"* OK [UIDVALIDITY {box.uid_validity}] UIDs valid.")
        self.send(f"* {len(box.uids)} EXISTS")
        self.send("* 0 RECENT")
        self.send(f"* OK [UIDNEXT {box.uid_next}] Predicted next UID.")
        self.send(f"* OK [HIGHESTMODSEQ {box.modseq}]")
        self.box, self.seen = box, {uid: box.flags(uid) for uid in box.uids}
        return f"OK [READ-WRITE] {box.name} selected. (Success)"

    async def create(self, command: r.Create) -> str:
        if command.mailbox in self.store.boxes:
            raise _No("NO [ALREADYEXISTS] Duplicate folder name (Failure)")
        self.store.make(command.mailbox)
        return "OK Success"

    async def delete(self, command: r.Delete) -> str:
        if self._box(command.mailbox).name in (*USES, "INBOX"):
            raise _No("NO [CANNOT] Cannot delete reserved folder (Failure)")
        self.store.remove(command.mailbox)
        return "OK Success"

    async def rename(self, command: r.Rename) -> str:
        self._box(command.mailbox)
        for name in [one for one in self.store.boxes if f"{one}/".startswith(f"{command.mailbox}/")]:
            self.store.rename(name, command.new_name + name[len(command.mailbox) :])
        return "OK Success"

    async def subscribe(self, command: r.Subscribe) -> str:
        self._box(command.mailbox).is_subscribed = command.is_subscribed
        return "OK Success"

    # ---- messages

    def _selected(self) -> Box:
        if self.box is None:
            raise _No("BAD No mailbox selected")
        return self.box

    def _among(self, numbers: r.MessageSet) -> list[int]:
        box = self._selected()
        assert isinstance(numbers, SequenceSet)
        wanted = numbers.resolved(max(box.uids, default=0))
        return [uid for uid in box.uids if uid in wanted]

    def _fetch(self, command: r.Fetch, extra: list[str]) -> str:
        box = self._selected()
        self.tell_news()
        numbers = {uid: number for number, uid in enumerate(box.uids, 1)}
        for uid in self._among(command.messages):
            if command.changed_since is not None and box.modseqs[uid] <= command.changed_since:
                continue
            items = [self._item(box, uid, item) for item in (*command.items, *extra)]
            self.send(b"* %d FETCH (%b)" % (numbers[uid], b" ".join(items)))
        return "OK Success"

    def _item(self, box: Box, uid: int, item: r.FetchItem) -> bytes:
        mail = box.uids[uid]
        if isinstance(item, r.SectionRequest):
            return self._section(mail, item)
        if item == "ENVELOPE":
            self.gmail.fetched[mail.id] += 1
        found: dict[str, Callable[[], bytes]] = {
            "UID": lambda: b"%d" % uid,
            "FLAGS": lambda: b"(%b)" % " ".join(box.flags(uid)).encode(),
            "MODSEQ": lambda: b"(%d)" % box.modseqs[uid],
            "INTERNALDATE": lambda: b'"%b"' % render_date_time(mail.received_at_ms).encode(),
            "RFC822.SIZE": lambda: b"%d" % len(mail.content),
            "ENVELOPE": lambda: render.envelope(mail.parsed.envelope),
            "BODYSTRUCTURE": lambda: render.structure(mail.parsed.structure),
            "X-GM-MSGID": lambda: b"%d" % mail.id,
            "X-GM-THRID": lambda: b"%d" % mail.thread_id,
            "X-GM-LABELS": lambda: self._labels(box, mail),
        }
        return item.encode() + b" " + found[item]()

    def _labels(self, box: Box, mail: Mail) -> bytes:
        """All but the one of the mailbox that it is read in."""
        names = [LABELS.get(one, one) for one in sorted(mail.homes() - {box.name, ALL})]
        return b"(%b)" % b" ".join(render.string(name if self.is_utf8 else encode_utf7(name)) for name in names)

    @staticmethod
    def _section(mail: Mail, item: r.SectionRequest) -> bytes:
        place = locate(item, len(mail.parsed.header_block), len(mail.content), lambda: mail.parsed.structure)
        if place is None:
            return item.label + b" NIL"
        if item.fields:
            return item.label + b" " + render.literal(chosen_fields(mail.parsed.header_block, item))
        span = cut(place, item.partial)
        return item.label + b" " + render.literal(mail.content[span.start : span.stop])

    async def store_flags(self, command: r.Store) -> str:
        box = self._selected()
        failed = []
        for uid in self._among(command.messages):
            if command.unchanged_since is not None and box.modseqs[uid] > command.unchanged_since:
                failed.append(uid)
                continue
            before, given = set(box.flags(uid)), set(command.flags)
            after = before | given if command.mode == "+" else before - given if command.mode == "-" else given
            box.deleted = box.deleted | {uid} if "\\Deleted" in after else box.deleted - {uid}
            mail, number = box.uids[uid], list(box.uids).index(uid) + 1
            if after - {"\\Deleted"} != mail.flags:
                self.store.flag(mail, after - {"\\Deleted"})
            if uid in box.uids and not command.is_silent:
                flags = " ".join(box.flags(uid))
                self.send(f"* {number} FETCH (UID {uid} MODSEQ ({box.modseqs[uid]}) FLAGS ({flags}))")
                self.seen[uid] = box.flags(uid)
        return f"OK [MODIFIED {SequenceSet.of(failed)}] Conditional STORE failed." if failed else "OK Success"

    def _store_labels(self, numbers: bytes, mode: bytes, text: bytes) -> str:
        given = {one.decode().strip('"').replace("\\\\", "\\") for one in re.findall(rb'"[^"]*"|\S+', text)}
        names = {name for name in self.store.boxes if LABELS.get(name, name) in given}
        for uid in self._among(SequenceSet.parse(numbers.decode())):
            mail = self._selected().uids[uid]
            for name in names:
                (self.store.take if mode == b"-" else self.store.place)(mail, name)
        return "OK Success"

    def _search_gmail(self, what: str, value: str) -> str:
        box = self._selected()
        found = [
            uid
            for uid, mail in box.uids.items()
            if (what == "RAW" and value.lower() in mail.content.decode("utf-8", "replace").lower())
            or value == str(mail.id if what == "MSGID" else mail.thread_id)
        ]
        self.send(f"* SEARCH {' '.join(map(str, found))}".rstrip())
        return "OK SEARCH completed (Success)"

    async def search(self, command: r.Search) -> str:
        box = self._selected()
        self.tell_news()
        last = max(box.uids, default=0)
        found = [uid for uid in box.uids if _matches(command.key, box, uid, last)]
        if command.returning is None:
            self.send(f"* SEARCH {' '.join(map(str, found))}".rstrip())
        else:
            found_set = f" ALL {SequenceSet.of(found)}" if found else ""
            self.send(f'* ESEARCH (TAG "x") UID{found_set}')
        return "OK SEARCH completed (Success)"

    async def copy(self, command: r.Copy) -> str:
        source, target = self._selected(), self._target(command.mailbox)
        mails = {uid: source.uids[uid] for uid in self._among(command.messages)}
        for mail in mails.values():
            self.store.place(mail, target.name)
            if command.is_move and target is not source and mail in source.uids.values():
                self.store.take(mail, source.name)
        pairs = {uid: target.uid_of(mail) for uid, mail in mails.items() if mail in target.uids.values()}
        code = ""
        if pairs:
            numbers = ",".join(map(str, pairs)), ",".join(map(str, pairs.values()))
            code = f"[COPYUID {target.uid_validity} {numbers[0]} {numbers[1]}] "
        if command.is_move:
            if code:
                self.send(f"* OK {code}")
            self.tell_news()
            return "OK (Success)"
        return f"OK {code}(Success)"

    def _target(self, name: str) -> Box:
        if name not in self.store.boxes:
            raise _No(f"NO [TRYCREATE] No folder {name} (Failure)")
        return self.store.boxes[name]

    async def uid_expunge(self, command: r.UidExpunge) -> str:
        self._expunge(self._among(command.uids))
        self.tell_news()
        return "OK Success"

    def _expunge(self, uids: Iterable[int]) -> None:
        box = self._selected()
        for uid in [uid for uid in uids if uid in box.deleted]:
            box.deleted.discard(uid)
            self.store.take(box.uids[uid], box.name)

    async def append(self, command: r.Append) -> str:
        box = self._target(command.mailbox)
        (one,) = command.messages
        assert isinstance(one.message, bytes)
        uid = self.store.append(box.name, one.message, one.flags, one.received_at_ms)
        self.tell_news()
        return f"OK [APPENDUID {box.uid_validity} {uid}] (Success)"


def _matches(key: s.SearchKey, box: Box, uid: int, last: int) -> bool:
    match key:
        case s.And(keys):
            return all(_matches(one, box, uid, last) for one in keys)
        case s.Or(left, right):
            return _matches(left, box, uid, last) or _matches(right, box, uid, last)
        case s.Not(inner):
            return not _matches(inner, box, uid, last)
        case s.Numbers(numbers):
            return uid in numbers.resolved(last)
        case s.HasFlag(flag):
            return flag in box.flags(uid)
        case _:
            return _matches_text(key, box.uids[uid])


def _matches_text(key: s.SearchKey, mail: Mail) -> bool:
    match key:
        case s.All():
            return True
        case s.HeaderMatch(name, text):
            header = _text(mail.parsed.header_block)
            fields = re.findall(rf"^{re.escape(name)}:(.*(?:\r\n[ \t].*)*)", header, re.IGNORECASE | re.MULTILINE)
            return any(text.lower() in value.lower() for value in fields)
        case s.TextMatch(kind, text):
            content = mail.content[len(mail.parsed.header_block) :] if kind is s.TextField.BODY else mail.content
            return text.lower() in _text(content).lower()
        case _:
            raise _No("BAD Could not parse search key")


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")


_HANDLERS: dict[type, Callable[[_Session, Any], Awaitable[str]]] = {
    r.Login: _Session.log_in,
    r.Authenticate: _Session.authenticate,
    r.Identify: _Session.identify,
    r.Enable: _Session.enable,
    r.ListMailboxes: _Session.list_mailboxes,
    r.MailboxStatusOf: _Session.status,
    r.Select: _Session.select,
    r.Create: _Session.create,
    r.Delete: _Session.delete,
    r.Rename: _Session.rename,
    r.Subscribe: _Session.subscribe,
    r.Store: _Session.store_flags,
    r.Search: _Session.search,
    r.Copy: _Session.copy,
    r.UidExpunge: _Session.uid_expunge,
    r.Append: _Session.append,
}
