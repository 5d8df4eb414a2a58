"""The conversation with one IMAP client (see `servers/conversation.py`): runs its commands in order."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence, Set
from contextlib import suppress
from functools import partial
from typing import Any

from app.errors import DatabaseUnavailable, GatewayError, MailboxNotFound, StorageUnavailable, Unavailable
from app.servers.conversation import Answer, Client, Close, Farewell, Reply, ReplyWriter, StartTls, Step, Work
from app.servers.imap.answers import Completion, refusal
from app.servers.imap.capabilities import capability_code
from app.servers.imap.commands.notify import send_new_messages, send_other_mailboxes
from app.servers.imap.handlers import Handler
from app.servers.imap.news import MailboxLost, catch_up, catch_up_some, send_news
from app.servers.imap.registry import CAPABILITIES, HANDLERS
from app.servers.imap.session import ImapServices, ServerSession
from app.wire.imap.arguments import CommandSyntaxError, UnsupportedCharset
from app.wire.imap.command_framing import (
    ClientEvent,
    CommandFramer,
    CommandLimits,
    CommandTooLarge,
    LiteralRequested,
    ReceivedCommand,
)
from app.wire.imap.framing import KIB, LiteralChunk, LiteralEnd, LiteralStart, Part
from app.wire.imap.request import Command, Request
from app.wire.imap.request_parser import append_target, parse_command
from app.wire.imap.requests.expunge import UidExpunge
from app.wire.imap.requests.general import Logout, StartTlsCommand

GUEST_SECONDS = 60.0
REQUEST_SECONDS = 300.0
IDLE_SECONDS = 1800.0
"""Autologout: at least 30 minutes (RFC 9051 §5.4)."""
GUEST_LIMITS = CommandLimits(line_bytes=40 * KIB, command_bytes=40 * KIB, stream_from_bytes=16 * KIB, literals=8)
"""Enough for the longest ID: thirty fields of a kilobyte each (RFC 2971 §3.3)."""
GUEST_COMMANDS = 50
"""The number of commands that a client may send before it logs in."""
ERRORS_LIMIT = 20
"""The number of consecutive malformed commands after which the conversation ends."""

_GO_AHEAD = b"+ Go ahead\r\n"
_FAREWELLS = {
    Farewell.TIMEOUT: b"* BYE Autologout\r\n",
    Farewell.SHUTDOWN: b"* BYE Server shutting down\r\n",
    Farewell.OVERLOAD: b"* BYE [UNAVAILABLE] Too many connections\r\n",
    Farewell.REVOKED: b"* BYE Password or account changed\r\n",
    Farewell.FAULT: b"* BYE [SERVERBUG] Internal error\r\n",
}


def imap_answer(services: ImapServices) -> Answer:
    """Return the function that the listener calls for each client."""
    return partial(ImapConversation, services)


class ImapConversation:
    """Parses and runs commands, and sends pending changes before the completion of each."""

    def __init__(self, services: ImapServices, peer: Client) -> None:
        self._session = ServerSession(services, peer, CAPABILITIES)
        self._framer = CommandFramer(GUEST_LIMITS)
        self._guest_commands = 0
        self._errors = 0
        self._is_roused = False
        self._farewell = b""

    # ---- Conversation

    @property
    def timeout_seconds(self) -> float:
        if self._session.account_id is None:
            return GUEST_SECONDS
        is_in_request = self._framer.unread_bytes or self._session.spools
        return REQUEST_SECONDS if is_in_request else IDLE_SECONDS

    def greet(self) -> bytes:
        return Completion("Postgate is ready", capability_code(self._session)).line("*")

    def receive(self, data: bytes) -> None:
        self._framer.feed(data)

    def next_step(self) -> Step | None:
        session = self._session
        if session.is_over:
            return Close(self._farewell)
        if self._is_roused:
            self._is_roused = False
            if session.wants_news:
                return Work(self._push_news)
        while (event := self._framer.next_event()) is not None:
            step = self._step_of(event)
            if step is not None:
                return step
        return None

    def woken(self, topics: Set[str]) -> None:
        self._is_roused = bool(topics)

    def farewell(self, reason: Farewell) -> bytes:
        return _FAREWELLS[reason]

    def close(self) -> None:
        session = self._session
        session.discard_spools()
        if session.account_id is not None:
            session.services.bus.leave(session.peer.waiter, session.account_id)

    # ---- from events to steps

    def _step_of(self, event: ClientEvent) -> Step | None:
        match event:
            case ReceivedCommand():
                return self._take_command(event)
            case LiteralRequested():
                return self._consider_literal(event)
            case LiteralStart() | LiteralChunk():
                return self._spool(event)
            case LiteralEnd():
                pass
            case CommandTooLarge(tag, reason):
                return self._reject(Completion(reason, "TOOBIG", "BAD" if tag == "*" else "NO"), tag)
        return None

    def _consider_literal(self, requested: LiteralRequested) -> Step:
        """Accept or refuse a literal: none in a dialogue, and none to append to a mailbox that does not exist."""
        session = self._session
        if session.read_line is not None:
            self._framer.refuse()
            return self._reject(Completion("A literal is not allowed here", status="BAD"), session.tag)
        try:
            target = append_target(requested.parts)
        except CommandSyntaxError:
            return Reply(_GO_AHEAD)
        if session.account_id is None:
            return Reply(_GO_AHEAD)
        session.tag = _tag_of(requested.parts)
        return Work(partial(self._consider_append, target))

    async def _consider_append(self, target: str, out: ReplyWriter) -> None:
        try:
            await self._session.mailbox(target, try_create=True)
        except GatewayError as error:
            self._framer.refuse()
            self._session.discard_spools()
            await out.send(refusal(error).line(self._session.tag))
        else:
            await out.send(_GO_AHEAD)

    def _spool(self, event: LiteralStart | LiteralChunk) -> Step | None:
        """Write a streamed literal to disk; if that fails, refuse the command."""
        spools, number = self._session.spools, event.literal.number
        try:
            if isinstance(event, LiteralStart):
                self._session.tag = _tag_of(event.parts)
                spools[number] = self._session.services.store.blobs.writer()
            else:
                spools[number].write(event.data)
        except StorageUnavailable as error:
            self._framer.refuse()
            return self._reject(refusal(error), self._session.tag)
        return None

    def _take_command(self, received: ReceivedCommand) -> Step:
        if self._session.read_line is not None:
            return Work(partial(self._answer_line, received.text))
        try:
            request = parse_command(received.parts)
        except CommandSyntaxError as error:
            return self._reject(refusal(error), error.tag)
        except UnsupportedCharset as error:
            return self._reject(Completion(error.detail, "BADCHARSET (UTF-8 US-ASCII)", "NO"), error.tag)
        self._session.tag = request.tag
        return self._begin(request)

    def _begin(self, request: Request) -> Step:
        session = self._session
        if session.account_id is None:
            self._guest_commands += 1
            if self._guest_commands > GUEST_COMMANDS:
                return self._end(b"* BYE Too many commands before login\r\n")
        match request.command:
            case Logout():
                logged_out = Completion("Logged out").line(request.tag)
                return self._end(b"* BYE Goodbye\r\n" + logged_out)
            case StartTlsCommand():
                return self._start_tls()
        handler = HANDLERS[type(request.command)]
        reason = handler.why_not(session)
        if reason:
            return self._reject(Completion(reason, status="BAD"), request.tag)
        return Work(partial(self._run, request, handler))

    def _start_tls(self) -> Step:
        session = self._session
        if session.account_id is not None or session.peer.is_encrypted or not session.peer.can_start_tls:
            return self._reject(Completion("STARTTLS not available", status="BAD"), self._session.tag)
        self._framer = CommandFramer(GUEST_LIMITS)  # discards input after the command (CVE-2021-33515)
        return StartTls(Completion("Begin TLS now").line(self._session.tag))

    def _reject(self, completion: Completion, tag: str) -> Step:
        """Refuse a command that cannot run; too many of them end the conversation."""
        session = self._session
        session.discard_spools()
        session.read_line = None
        session.is_idling = False
        self._errors += 1
        if self._errors > ERRORS_LIMIT:
            return self._end(completion.line(tag) + b"* BYE Too many errors\r\n")
        return Reply(completion.line(tag))

    def _end(self, farewell: bytes) -> Step:
        self._session.is_over = True
        return Close(farewell)

    # ---- running commands

    async def _run(self, request: Request, handler: Handler[Any], out: ReplyWriter) -> None:
        self._errors = 0
        try:
            work = self._do(request, handler, out)
            await self._attempt(work, out, is_expunge_allowed=handler.may_expunge(request.command))
        finally:
            self._session.discard_spools()

    async def _do(self, request: Request, handler: Handler[Any], out: ReplyWriter) -> Completion | None:
        """Run a command. If it selects messages by UID, send overdue changes first: a UID without EXISTS is ignored."""
        session = self._session
        if session.is_behind and session.view is not None and _names_uids(request.command):
            if not await self._send_changes(out, may_expunge=True):
                return None
            if session.is_behind:
                raise DatabaseUnavailable
        return await handler.run(session, request.command, out)

    async def _answer_line(self, line: bytes, out: ReplyWriter) -> None:
        read_line = self._session.read_line
        assert read_line is not None
        await self._attempt(read_line(self._session, line, out), out, is_expunge_allowed=True)

    async def _attempt(self, work: Awaitable[Completion | None], out: ReplyWriter, *, is_expunge_allowed: bool) -> None:
        """Run a command or the next line of a dialogue, and complete it unless the dialogue continues."""
        session = self._session
        is_guest = session.account_id is None
        is_unavailable = False
        try:
            completion = await work
        except GatewayError as error:
            completion = refusal(error)
            is_unavailable = isinstance(error, Unavailable)
        if completion is None:
            if session.is_idling:
                await self._send_changes(out, may_expunge=True)
            return
        session.read_line = None
        session.is_idling = False
        if is_guest and session.account_id is not None:
            self._welcome()
        # while the database is unavailable, reading changes would only make the client wait a second time
        if is_unavailable or await self._send_changes(out, may_expunge=is_expunge_allowed):
            await out.send(completion.line(self._session.tag))

    def _welcome(self) -> None:
        """Set larger limits after the login, and listen for changes of the account."""
        session = self._session
        unread = self._framer.take_unread()
        self._framer = CommandFramer()
        self._framer.message_limit_bytes = session.services.max_message_bytes
        self._framer.feed(unread)
        session.services.bus.listen(session.peer.waiter, session.account)

    async def _push_news(self, out: ReplyWriter) -> None:
        session, watch = self._session, self._session.watch
        if session.is_idling or watch is None:
            await self._send_changes(out, may_expunge=True)
        elif watch.pushes_selected:
            await self._send_changes(out, may_expunge=watch.may_expunge)
        else:
            with suppress(Unavailable):  # pending responses stay pending
                await catch_up(session)
                await send_other_mailboxes(session, out)

    async def _send_changes(self, out: ReplyWriter, *, may_expunge: bool) -> bool:
        """Send pending changes; return False if that ended the session."""
        try:
            await self._send_all_changes(out, may_expunge=may_expunge)
        except (MailboxLost, MailboxNotFound):
            self._session.is_over = True
            self._farewell = b"* BYE The selected mailbox was deleted\r\n"
            return False
        except Unavailable:
            pass  # pending responses stay pending for the next command or poke
        return True

    async def _send_all_changes(self, out: ReplyWriter, *, may_expunge: bool) -> None:
        """Send the changes of the log, one part after another. Raises Unavailable; the next call sends the rest."""
        session = self._session
        is_whole = False
        session.is_behind = True
        while not is_whole:
            is_whole = await catch_up_some(session)
            await send_news(session, out, may_expunge=may_expunge)
            await send_new_messages(session, out)
        await send_other_mailboxes(session, out)
        session.is_behind = False


def _names_uids(command: Command) -> bool:
    """Whether a command selects messages by UID. A client also gets UIDs from APPENDUID and COPYUID."""
    return isinstance(command, UidExpunge) or getattr(command, "is_uid", False)


def _tag_of(parts: Sequence[Part]) -> str:
    """Return the tag of an incomplete command."""
    assert isinstance(parts[0], bytes)
    return parts[0].decode("ascii", "replace").partition(" ")[0]
