"""The POP3 conversation (RFC 1939, 2449, 2595, 5034): serves INBOX only, and removes nothing before QUIT."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Sequence, Set
from contextlib import aclosing
from dataclasses import dataclass

from app.errors import MalformedRequest, NotAuthenticated, RateLimited, TooLarge, Unavailable
from app.mail.types import AccountId
from app.mailstore.blobs import BlobMissing
from app.mailstore.maildrop import DropMessage
from app.servers.conversation import Client, Close, Farewell, Reply, ReplyWriter, StartTls, Step, Work
from app.services.access.logins import Logins
from app.services.accounts.maildrops import Maildrop, MaildropInUse, Maildrops
from app.wire.lines import LineBuffer
from app.wire.pop3 import END, LINE_LIMIT_BYTES, DotWriter, Pop3Command, Top, error, ok, parse_command
from app.wire.sasl import MECHANISMS, SaslClaim, SaslExchange

TIMEOUT_SECONDS = 600.0
"""RFC 1939 §3 requires at least 10 minutes."""
STRANGER_TIMEOUT_SECONDS = 60.0
ERRORS_LIMIT = 20
LOGIN_FAILURES_LIMIT = 3

_WRONG = error("Invalid e-mail address or password", "AUTH")
_TLS_FIRST = error("Encryption required: use STLS first")
_NO_SUCH = error("No such message")


@dataclass(frozen=True, slots=True)
class Pop3Site:
    """The services and settings that all POP3 conversations share."""

    hostname: str
    logins: Logins
    maildrops: Maildrops


class Pop3Conversation:
    """One client's session: first the login, then the maildrop."""

    def __init__(self, peer: Client, site: Pop3Site) -> None:
        self._peer = peer
        self._site = site
        self._lines = LineBuffer(LINE_LIMIT_BYTES)
        self._ready: deque[Step] = deque()
        self._user: str | None = None
        self._exchange: SaslExchange | None = None
        self._account_id: AccountId | None = None
        self._maildrop: Maildrop | None = None
        self._deleted: set[DropMessage] = set()
        self._errors = 0
        self._login_failures = 0
        self._verbs: dict[str, Callable[[Pop3Command], Step]] = {
            "USER": self._take_user,
            "PASS": self._take_password,
            "AUTH": self._auth,
            "STLS": self._stls,
            "UTF8": lambda _: Reply(ok("UTF-8 is supported")),
            "CAPA": self._capa,
            "NOOP": lambda _: Reply(ok()),
            "QUIT": lambda _: Close(ok("Bye")),
        }

    # ---- called by the pump

    @property
    def timeout_seconds(self) -> float:
        return TIMEOUT_SECONDS if self._maildrop is not None else STRANGER_TIMEOUT_SECONDS

    def greet(self) -> bytes:
        return ok(f"{self._site.hostname} Postgate")

    def receive(self, data: bytes) -> None:
        self._lines.feed(data)

    def next_step(self) -> Step | None:
        if self._ready:
            return self._ready.popleft()
        try:
            line = self._lines.line()
        except TooLarge:
            return Close(error("Line too long"))
        if line is None:
            return None
        try:
            return self._answer(line)
        except MalformedRequest as refused:
            return self._refuse(error(refused.detail))

    def woken(self, topics: Set[str]) -> None:
        """Do nothing: POP3 has no unsolicited responses."""

    def farewell(self, reason: Farewell) -> bytes:
        texts = {
            Farewell.TIMEOUT: "Timed out; no messages were deleted",
            Farewell.SHUTDOWN: "Shutting down; no messages were deleted",
            Farewell.OVERLOAD: "Too many connections",
            Farewell.FAULT: "Internal error; no messages were deleted",
            Farewell.REVOKED: "Password or account changed; no messages were deleted",
        }
        return error(texts[reason], "SYS/TEMP")

    def close(self) -> None:
        self._release()

    def _release(self) -> None:
        """Release the maildrop's lock, once."""
        if self._maildrop is not None and self._account_id is not None:
            self._maildrop = None
            self._site.maildrops.release(self._account_id)

    # ---- commands

    def _answer(self, line: bytes) -> Step:
        if self._exchange is not None:
            return self._advance(self._exchange, line.rstrip(b"\r\n"), is_first=False)
        command = parse_command(line)
        verb = self._verbs.get(command.verb)
        return self._refuse(error("Command not recognized")) if verb is None else verb(command)

    def _refuse(self, answer: bytes) -> Step:
        self._errors += 1
        return Close(answer) if self._errors >= ERRORS_LIMIT else Reply(answer)

    def _capa(self, _: Pop3Command) -> Step:
        offers = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8", "EXPIRE NEVER"]
        if self._can_start_tls:
            offers.append("STLS")
        if self._peer.may_log_in:
            offers += ["USER", "SASL " + " ".join(MECHANISMS)]
        return Reply(_listing("Capabilities follow", [*offers, "IMPLEMENTATION Postgate"]))

    @property
    def _can_start_tls(self) -> bool:
        return self._peer.can_start_tls and not self._peer.is_encrypted and self._maildrop is None

    def _stls(self, _: Pop3Command) -> Step:
        if not self._can_start_tls:
            return self._refuse(error("STLS not available"))
        self._lines.clear()  # input sent in plaintext must not be read as a command under TLS
        self._user = None
        return StartTls(ok("Go ahead"))

    # ---- login

    def _take_user(self, command: Pop3Command) -> Step:
        if not self._peer.may_log_in:
            return self._refuse(_TLS_FIRST)
        self._user = command.argument
        return Reply(ok("Send PASS"))

    def _take_password(self, command: Pop3Command) -> Step:
        user, self._user = self._user, None
        if user is None:
            return self._refuse(error("Send USER first"))
        return self._log_in(SaslClaim(user, command.argument))

    def _auth(self, command: Pop3Command) -> Step:
        if not self._peer.may_log_in:
            return self._refuse(_TLS_FIRST)
        mechanism, _, initial = command.argument.partition(" ")
        if not mechanism:
            return Reply(_listing("Mechanisms follow", MECHANISMS))
        if mechanism.upper() not in MECHANISMS:
            return self._refuse(error("Unsupported authentication mechanism"))
        self._exchange = SaslExchange(mechanism.upper())
        return self._advance(self._exchange, initial.strip().encode() or None, is_first=True)

    def _advance(self, exchange: SaslExchange, response: bytes | None, *, is_first: bool) -> Step:
        self._exchange = None
        outcome = exchange.start(response) if is_first else exchange.respond(response or b"")
        if isinstance(outcome, SaslClaim):
            return self._log_in(outcome)
        self._exchange = exchange
        return Reply(b"+ " + base64.b64encode(outcome) + b"\r\n")

    def _log_in(self, claim: SaslClaim) -> Step:
        async def run(_: ReplyWriter) -> None:
            self._ready.append(await self._verify(claim))

        return Work(run)

    async def _verify(self, claim: SaslClaim) -> Step:
        try:
            login = await self._site.logins.verify(claim.user, claim.password, address=self._peer.address)
            self._peer.claim(login)
            self._maildrop = await self._site.maildrops.open(login.account_id)
        except NotAuthenticated:
            return self._fail(_WRONG)
        except RateLimited as limited:
            return self._fail(error(limited.detail, "SYS/TEMP"))
        except MaildropInUse as in_use:
            return self._refuse(error(in_use.detail, "IN-USE"))
        except Unavailable as away:
            return Reply(error(away.problem.title, "SYS/TEMP"))
        self._account_id = login.account_id
        self._verbs = {
            "CAPA": self._capa,
            "STAT": self._stat,
            "LIST": self._list,
            "UIDL": self._uidl,
            "RETR": self._retr,
            "TOP": self._top,
            "DELE": self._dele,
            "RSET": self._rset,
            "NOOP": lambda _: Reply(ok()),
            "QUIT": lambda _: Work(self._update),
        }
        return Reply(ok(f"{len(self._maildrop.messages)} messages"))

    def _fail(self, answer: bytes) -> Step:
        self._login_failures += 1
        return Close(answer) if self._login_failures >= LOGIN_FAILURES_LIMIT else self._refuse(answer)

    # ---- maildrop

    def _messages(self) -> Sequence[DropMessage]:
        assert self._maildrop is not None
        return self._maildrop.messages

    def _message(self, number: int) -> DropMessage | None:
        """Return a message by number; None if it does not exist or is marked for deletion."""
        messages = self._messages()
        message = messages[number - 1] if 1 <= number <= len(messages) else None
        return None if message is None or message in self._deleted else message

    def _stat(self, _: Pop3Command) -> Step:
        remaining = [message for message in self._messages() if message not in self._deleted]
        return Reply(ok(f"{len(remaining)} {sum(message.size_bytes for message in remaining)}"))

    def _list(self, command: Pop3Command) -> Step:
        return self._fact_of(command, lambda message: str(message.size_bytes))

    def _uidl(self, command: Pop3Command) -> Step:
        return self._fact_of(command, lambda message: message.uidl)

    def _fact_of(self, command: Pop3Command, fact: Callable[[DropMessage], str]) -> Step:
        """Return one fact of one message or of all messages."""
        numbers = command.numbers(1)
        if numbers:
            message = self._message(numbers[0])
            return self._refuse(_NO_SUCH) if message is None else Reply(ok(f"{numbers[0]} {fact(message)}"))
        lines = [
            f"{number} {fact(message)}"
            for number, message in enumerate(self._messages(), 1)
            if message not in self._deleted
        ]
        return Reply(_listing(f"{len(lines)} messages", lines))

    def _retr(self, command: Pop3Command) -> Step:
        return self._sent(command.numbers(1), None)

    def _top(self, command: Pop3Command) -> Step:
        numbers = command.numbers(2)
        if len(numbers) != 2:
            raise MalformedRequest("A message and a number of lines are expected")
        return self._sent(numbers[:1], Top(numbers[1]))

    def _sent(self, numbers: Sequence[int], top: Top | None) -> Step:
        message = self._message(numbers[0]) if numbers else None
        maildrop = self._maildrop
        if message is None or maildrop is None:
            return self._refuse(_NO_SUCH)
        return Work(lambda outlet: self._send(outlet, maildrop, message, top))

    async def _send(self, outlet: ReplyWriter, maildrop: Maildrop, message: DropMessage, top: Top | None) -> None:
        dots = DotWriter()
        is_begun = False
        try:
            async with aclosing(maildrop.read(message)) as pieces:
                async for piece in pieces:
                    if not is_begun:
                        await outlet.send(ok(f"{message.size_bytes} octets"))
                        is_begun = True
                    await outlet.send(dots.feed(top.feed(piece) if top is not None else piece))
                    if top is not None and top.is_full:
                        break
        except (BlobMissing, Unavailable) as failure:
            if is_begun:
                raise
            is_lasting = isinstance(failure, BlobMissing)
            self._ready.append(Reply(error("The message cannot be read", "SYS/PERM" if is_lasting else "SYS/TEMP")))
            return
        await outlet.send(dots.finish() if is_begun else ok("0 octets") + END)

    def _dele(self, command: Pop3Command) -> Step:
        numbers = command.numbers(1)
        message = self._message(numbers[0]) if numbers else None
        if message is None:
            return self._refuse(_NO_SUCH)
        self._deleted.add(message)
        return Reply(ok(f"Message {numbers[0]} marked for deletion"))

    def _rset(self, _: Pop3Command) -> Step:
        self._deleted.clear()
        return Reply(ok())

    async def _update(self, _: ReplyWriter) -> None:
        """Delete marked messages, release the maildrop, then reply."""
        assert self._maildrop is not None
        try:
            await self._maildrop.remove(self._deleted)
            answer = ok("Bye")
        except Unavailable:  # RFC 1939 §6: if messages were not removed, QUIT fails but still ends the session
            answer = error("Some messages were not deleted", "SYS/TEMP")
        self._release()
        self._ready.append(Close(answer))


def _listing(text: str, lines: Sequence[str]) -> bytes:
    return ok(text) + "".join(f"{line}\r\n" for line in lines).encode("ascii") + END
