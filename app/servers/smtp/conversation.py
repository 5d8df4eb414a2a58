"""The SMTP and LMTP conversation (RFC 5321, RFC 2033): runs commands in order, without a socket."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable, Set

from app.errors import MalformedRequest, TooLarge, Unavailable
from app.servers.conversation import Client, Close, Farewell, Reply, ReplyWriter, StartTls, Step, Work
from app.servers.smtp.content import ChunkedContent, DotContent
from app.servers.smtp.login import LoginDialogue, LoginOutcome
from app.servers.smtp.parameters import MAIL_PARAMETERS, RCPT_PARAMETERS, check_parameters, path_of
from app.servers.smtp.replies import (
    BAD_SEQUENCE,
    LOGIN_FIRST,
    NEEDS_SMTPUTF8,
    NO_LOGIN_NOW,
    NO_RECIPIENTS,
    NO_USER,
    NOT_YOURS,
    OK,
    SYNTAX,
    TOO_LARGE,
    TOO_MANY,
    TOO_MANY_UNKNOWN,
    UNKNOWN,
    reply_to,
)
from app.servers.smtp.site import RECIPIENTS_LIMIT, ListenerRole, SmtpSite
from app.servers.smtp.transaction import SmtpTransaction, trace_field
from app.servers.smtp.unconfirmed import Fingerprint
from app.wire.lines import LineBuffer
from app.wire.sasl import MECHANISMS
from app.wire.smtp import (
    LINE_LIMIT_BYTES,
    Refused,
    is_helo_name,
    parse_command,
    reply,
    reply_lines,
)

ERRORS_LIMIT = 20
"""Refused commands, including unknown recipients, after which the connection is closed."""
UNKNOWN_LIMIT = 10
"""Unknown recipients of one session after which the connection is closed."""
IDLE_COMMANDS_LIMIT = 500
"""Commands without a message after which the connection is closed."""
TIMEOUT_SECONDS = 300.0
STRANGER_TIMEOUT_SECONDS = 60.0
"""The timeout before EHLO."""

_CHUNK = re.compile(r"([0-9]{1,12})(?: +(LAST))?", re.IGNORECASE)


class SmtpConversation:
    """One client's session."""

    def __init__(self, peer: Client, site: SmtpSite) -> None:
        self._peer = peer
        self._site = site
        self._lines = LineBuffer(LINE_LIMIT_BYTES)
        self._ready: deque[Step] = deque()
        self._helo = ""
        self._is_extended = False
        self._login = LoginDialogue(peer, site.logins)
        self._transaction: SmtpTransaction | None = None
        self._unconfirmed: Fingerprint | None = None
        self._content: DotContent | ChunkedContent | None = None
        self._reading: DotContent | ChunkedContent | None = None
        self._when_read: Callable[[], Step] = self._finish
        self._errors = self._unknown = 0
        self._commands = 0
        self._verbs: dict[str, Callable[[str], Step | None]] = {
            "HELO": self._hello,
            "EHLO": self._extended_hello,
            "LHLO": self._extended_hello,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "BDAT": self._bdat,
            "RSET": self._rset,
            "NOOP": lambda _: Reply(OK),
            "HELP": lambda _: Reply(reply(214, "2.0.0", "See RFC 5321")),
            "VRFY": lambda _: Reply(reply(252, "2.5.2", "Cannot verify the user; send the message to try delivery")),
            "QUIT": lambda _: Close(reply(221, "2.0.0", "Bye")),
        }
        hello = "LHLO" if site.role is ListenerRole.LMTP else "EHLO"
        for other in {"HELO", "EHLO", "LHLO"} - ({hello} if hello == "LHLO" else {"HELO", "EHLO"}):
            del self._verbs[other]

    # ---- called by the pump

    @property
    def timeout_seconds(self) -> float:
        return TIMEOUT_SECONDS if self._helo else STRANGER_TIMEOUT_SECONDS

    def greet(self) -> bytes:
        protocol = "LMTP" if self._site.role is ListenerRole.LMTP else "ESMTP"
        return reply_lines(220, [f"{self._site.hostname} {protocol} Postgate"])

    def receive(self, data: bytes) -> None:
        if self._unconfirmed is not None:
            self._site.unconfirmed.confirm(self._unconfirmed)
            self._unconfirmed = None
        self._lines.feed(data)

    def next_step(self) -> Step | None:
        if self._ready:
            return self._ready.popleft()
        if self._reading is not None:
            return self._read_on()
        try:
            line = self._lines.line()
        except TooLarge:
            return Close(reply(500, "5.5.2", "The line is too long"))
        if line is None:
            return None
        try:
            return self._answer(line)
        except Refused as refused:
            return self._refuse(refused.reply)

    def woken(self, topics: Set[str]) -> None:
        """Do nothing: SMTP has no unsolicited replies."""

    def farewell(self, reason: Farewell) -> bytes:
        texts = {
            Farewell.TIMEOUT: reply(421, "4.4.2", "Timed out"),
            Farewell.SHUTDOWN: reply(421, "4.3.2", "Shutting down"),
            Farewell.OVERLOAD: reply(421, "4.7.0", "Too many connections"),
            Farewell.REVOKED: reply(421, "4.7.0", "Password or account changed"),
            Farewell.FAULT: reply(421, "4.3.0", "Internal error"),
        }
        return texts[reason]

    def close(self) -> None:
        self._end_transaction()

    # ---- commands

    def _answer(self, line: bytes) -> Step | None:
        if self._login.is_open:
            return self._log_in_by(self._login.respond(line.rstrip(b"\r\n")))
        self._commands += 1
        if self._commands > IDLE_COMMANDS_LIMIT:
            return Close(TOO_MANY)
        try:
            command = parse_command(line)
        except MalformedRequest as error:
            raise Refused(reply(500, "5.5.2", error.detail)) from None
        verb = self._verbs.get(command.verb)
        if verb is None:
            raise Refused(UNKNOWN)
        return verb(command.argument)

    def _refuse(self, answer: bytes) -> Step:
        self._errors += 1
        return Close(answer + TOO_MANY) if self._errors >= ERRORS_LIMIT else Reply(answer)

    def _hello(self, argument: str) -> Step:
        if not is_helo_name(argument):
            raise Refused(SYNTAX)
        self._end_transaction()
        self._helo, self._is_extended = argument, False
        return Reply(reply_lines(250, [self._site.hostname]))

    def _extended_hello(self, argument: str) -> Step:
        self._hello(argument)
        self._is_extended = True
        offers = ["PIPELINING", f"SIZE {self._site.max_message_bytes}", "8BITMIME", "SMTPUTF8"]
        offers += ["ENHANCEDSTATUSCODES", "CHUNKING", f"LIMITS RCPTMAX={RECIPIENTS_LIMIT}"]
        if self._can_start_tls:
            offers.append("STARTTLS")
        if self._site.role is ListenerRole.SUBMISSION and self._peer.may_log_in:
            offers.append("AUTH " + " ".join(MECHANISMS))
        return Reply(reply_lines(250, [self._site.hostname, *offers]))

    @property
    def _can_start_tls(self) -> bool:
        return self._peer.can_start_tls and not self._peer.is_encrypted

    def _starttls(self, argument: str) -> Step:
        if not self._can_start_tls:
            raise Refused(BAD_SEQUENCE if self._peer.is_encrypted else UNKNOWN)
        if argument:
            raise Refused(SYNTAX)
        self._end_transaction()
        self._lines.clear()  # input sent in plaintext must not be read as a command under TLS
        self._helo = ""
        self._login = LoginDialogue(self._peer, self._site.logins)
        return StartTls(reply(220, "2.0.0", "Go ahead"))

    def _rset(self, _: str) -> Step:
        self._end_transaction()
        return Reply(OK)

    # ---- login

    def _auth(self, argument: str) -> Step:
        if self._site.role is not ListenerRole.SUBMISSION:
            raise Refused(UNKNOWN)
        if not self._helo or self._transaction is not None:
            raise Refused(BAD_SEQUENCE)
        return self._log_in_by(self._login.begin(argument))

    def _log_in_by(self, outcome: LoginOutcome) -> Step:
        if isinstance(outcome, bytes):
            return Reply(outcome)

        async def run(_: ReplyWriter) -> None:
            try:
                self._ready.append(await self._login.verify(outcome))
            except Refused as refused:
                self._ready.append(self._refuse(refused.reply))
            except Unavailable:
                self._ready.append(Reply(NO_LOGIN_NOW))

        return Work(run)

    # ---- a transaction

    def _mail(self, argument: str) -> Step:
        if not self._helo or self._transaction is not None:
            raise Refused(BAD_SEQUENCE)
        if self._site.role is ListenerRole.SUBMISSION and self._login.account_id is None:
            raise Refused(LOGIN_FIRST)
        path = path_of(argument, "FROM", reply(501, "5.1.7", "Invalid sender address"))
        parameters = dict(path.parameters)
        needs_smtputf8 = "SMTPUTF8" in parameters and parameters.pop("SMTPUTF8") is None
        check_parameters(parameters, MAIL_PARAMETERS)
        if int(parameters.get("SIZE") or 0) > self._site.max_message_bytes:
            raise Refused(TOO_LARGE)
        if not path.address.isascii() and not needs_smtputf8:
            raise Refused(NEEDS_SMTPUTF8)
        return self._waiting(lambda: self._begin_transaction(path.address, needs_smtputf8))

    async def _begin_transaction(self, sender: str, needs_smtputf8: bool) -> None:
        account_id = self._login.account_id
        may_send = account_id is None or not sender or await self._site.deliveries.may_send_as(account_id, sender)
        if not may_send:
            self._ready.append(self._refuse(NOT_YOURS))
            return
        self._transaction = SmtpTransaction(self._site, sender, needs_smtputf8=needs_smtputf8, account_id=account_id)
        self._ready.append(Reply(reply(250, "2.1.0", "Ok")))

    def _rcpt(self, argument: str) -> Step:
        transaction = self._transaction
        if transaction is None or transaction.has_content:
            raise Refused(BAD_SEQUENCE)
        path = path_of(argument, "TO", reply(501, "5.1.3", "Invalid recipient address"))
        check_parameters(path.parameters, RCPT_PARAMETERS)
        if not path.address.isascii() and not transaction.needs_smtputf8:
            raise Refused(NEEDS_SMTPUTF8)
        address = path.address if "@" in path.address else f"{path.address}@{self._site.hostname}"
        return self._waiting(lambda: self._add_recipient(transaction, address))

    def _waiting(self, work: Callable[[], Awaitable[None]]) -> Work:
        """Return a step that queries the database. If it is unavailable, the reply is temporary."""

        async def run(_: ReplyWriter) -> None:
            try:
                await work()
            except Unavailable as error:
                self._ready.append(Reply(reply_to(error)))

        return Work(run)

    async def _add_recipient(self, transaction: SmtpTransaction, address: str) -> None:
        guesses = self._site.guesses
        if not await guesses.wait(self._peer.address):
            self._ready.append(self._refuse(TOO_MANY_UNKNOWN))
            return
        try:
            await transaction.add_recipient(address)
        except Refused as refused:
            if refused.reply == NO_USER:
                self._ready.append(self._refuse_unknown(refused.reply))
            else:
                self._ready.append(self._refuse(refused.reply))
        else:
            self._ready.append(Reply(reply(250, "2.1.5", "Ok")))

    def _refuse_unknown(self, answer: bytes) -> Step:
        """Refuse an unknown recipient. Clients that try many names are delayed, and finally disconnected."""
        if self._site.role is ListenerRole.LMTP:  # the client is a mail server that relays for others
            return self._refuse(answer)
        self._unknown += 1
        self._site.guesses.add(self._peer.address)
        if self._unknown >= UNKNOWN_LIMIT:
            return Close(answer + reply(421, "4.7.0", "Too many unknown recipients"))
        return self._refuse(answer)

    def _data(self, argument: str) -> Step:
        transaction = self._transaction
        if transaction is None or transaction.has_content:
            raise Refused(BAD_SEQUENCE)
        if argument:
            raise Refused(SYNTAX)
        if not transaction.recipient_count:
            raise Refused(NO_RECIPIENTS)
        self._content = self._reading = DotContent(transaction.begin(self._trace()))
        self._when_read = self._finish
        return Reply(reply_lines(354, ["End data with <CRLF>.<CRLF>"]))

    def _bdat(self, argument: str) -> Step | None:
        """Read a chunk, even if it is refused: the client sends it with the command."""
        match = _CHUNK.fullmatch(argument)
        if match is None or int(match[1]) > self._site.max_message_bytes:
            return Close(TOO_LARGE if match else SYNTAX)  # the start of the next command is unknown
        content = self._chunks()
        content.expect(int(match[1]))
        self._reading = content
        if content.is_wanted:
            self._when_read = self._finish if match[2] else self._next_chunk
        else:
            refusal = BAD_SEQUENCE if self._transaction is None or self._content else NO_RECIPIENTS
            self._when_read = lambda: self._refuse(refusal)
        return self._read_on()

    def _chunks(self) -> ChunkedContent:
        """Return the content that the next chunk belongs to: the current message, a new message, or none."""
        if isinstance(self._content, ChunkedContent):
            return self._content
        if self._content is not None or self._transaction is None or not self._transaction.recipient_count:
            return ChunkedContent(None)
        self._content = ChunkedContent(self._transaction.begin(self._trace()))
        return self._content

    def _next_chunk(self) -> Step:
        refusal = self._transaction.refusal if self._transaction is not None else BAD_SEQUENCE
        if refusal is None:
            return Reply(OK)
        self._end_transaction()
        return self._refuse(refusal)

    def _read_on(self) -> Step | None:
        assert self._reading is not None
        if not self._reading.take(self._lines):
            return None
        self._reading = None
        return self._when_read()

    def _finish(self) -> Step:
        return Work(self._accept)

    async def _accept(self, outlet: ReplyWriter) -> None:
        """Store the message that was read, and reply."""
        assert self._transaction is not None
        assert self._content is not None
        self._content.end()
        for answer in await self._transaction.finish(has_bare_line_end=self._content.has_bare_line_end):
            await outlet.send(answer)
        self._unconfirmed = self._transaction.unconfirmed
        self._peer.messages += 1
        self._end_transaction()
        self._commands = 0

    def _end_transaction(self) -> None:
        if self._transaction is not None:
            self._transaction.close()
        self._transaction = self._content = None

    def _trace(self) -> Callable[[str, str | None], bytes]:
        return trace_field(self._site, self._helo, self._peer.address, self._protocol)

    @property
    def _protocol(self) -> str:
        """Return the protocol's name in Received (RFC 3848, RFC 6531 §4.3)."""
        family = "LMTP" if self._site.role is ListenerRole.LMTP else "SMTP"
        suffix = "S" * self._peer.is_encrypted + "A" * (self._login.account_id is not None)
        if self._transaction is not None and self._transaction.needs_smtputf8:
            return f"UTF8{family}{suffix}"
        if family == "LMTP":
            return f"LMTP{suffix}"
        return f"ESMTP{suffix}" if self._is_extended else "SMTP"
