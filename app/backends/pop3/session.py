"""A POP3 session: logged in, with the maildrop locked (RFC 1939 §3). As short as can be; deletions count at QUIT."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from app.backends.credentials import log_in
from app.backends.pop3.connection import Endpoint, Pop3Connection, connect
from app.backends.sasl import Credential, Mechanism, choose, decode_challenge
from app.backends.tracing import hide
from app.errors import (
    GatewayError,
    LoginRefused,
    OriginAnswer,
    RateLimited,
    ServerProtocolError,
    ServerRefused,
    Unreachable,
)
from app.mail.trace import Recorder
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard
from app.wire.pop3_client import (
    NO_CAPABILITIES,
    Capabilities,
    Status,
    command,
    parse_capabilities,
    parse_sizes,
    parse_uidls,
)

LOGIN_TIMEOUT_SECONDS = 30.0
HEADER_LIMIT_BYTES = 1024 * 1024
SESSIONS_AT_ONCE = 10
WINDOW = 16
"""Commands that are sent ahead of their replies where the server offers PIPELINING."""
WINDOW_BYTES = 1024 * 1024
IN_USE_SECONDS = 15.0
LOGIN_DELAY_SECONDS = 120.0
"""How long to wait where a server says that we came too soon and not by how much."""

_LOCKED = re.compile(r"lock|in use|busy", re.IGNORECASE)
"""qpopper and UW ipop3d say "maildrop already locked" without a code."""
_TEMPORARY = re.compile(r"temporar|try again|later|unavailable|internal error", re.IGNORECASE)


class MaildropInUse(RateLimited):
    """The login is right; another session has the lock (RFC 2449 §8.1.2)."""

    title = "Another mail program is reading this mailbox"


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in the maildrop as this session sees it. `number` means nothing beyond the session."""

    number: int
    size_bytes: int
    uidl: str | None


@dataclass(frozen=True, slots=True)
class Pop3Origin:
    """How an account's POP3 server is reached."""

    login: ServerLogin
    guard: NetGuard
    tls: ssl.SSLContext = field(repr=False)
    turns: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(SESSIONS_AT_ONCE), repr=False, compare=False
    )
    """Shared by the accounts of one server, so that hundreds of them do not come at once."""

    new_recorder: Callable[[], Recorder] | None = field(default=None, repr=False, compare=False)
    """What each new connection tells its lines to."""

    async def open(self) -> Pop3Session:
        """Connect, secure the connection and log in.

        AddressNotAllowed, Unreachable (CertificateRefused, TimedOut), LoginRefused, ServerRefused,
        ServerProtocolError; RateLimited where we came too soon, MaildropInUse.
        """

        async def attempt(credential: Credential) -> Pop3Session:
            addresses = tuple(await self.guard.addresses(self.login.host))
            recorder = self.new_recorder() if self.new_recorder is not None else None
            hide(recorder, credential)
            login = self.login
            endpoint = Endpoint(login.host, addresses, login.port, login.security, self.tls, recorder)
            return await _opened(endpoint, credential)

        return await log_in(self.login, attempt)


class Pop3Session:
    """See above. `close` ends it without QUIT: nothing is deleted then."""

    def __init__(self, connection: Pop3Connection, capabilities: Capabilities) -> None:
        self._connection = connection
        self.capabilities = capabilities

    async def listing(self) -> list[Entry]:
        """All messages, in the order of their numbers. `uidl` is None throughout where the server has no UIDL."""
        sizes = parse_sizes(await self._lines(command("LIST")))
        uidls = await self._uidls()
        if uidls is not None and uidls.keys() != sizes.keys():
            raise ServerProtocolError("The mail server's two lists do not agree")
        return [Entry(number, sizes[number], uidls[number] if uidls else None) for number in sorted(sizes)]

    async def _uidls(self) -> dict[int, str] | None:
        status = await self._connection.ask(command("UIDL"))
        return parse_uidls(await self._connection.lines()) if status.is_ok else None

    async def headers(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, bytes]]:
        """The header block of each message, up to and with its empty line; by TOP, else by RETR (RFC 1939 §7)."""
        left = {entry.number: entry for entry in entries}
        has_top = "TOP" in self.capabilities or not self.capabilities.arguments
        for line in ("TOP {} 0", "RETR {}")[0 if has_top else 1 :]:
            async for entry in self._asked(line, list(left.values())):
                head = _Head()
                limit = max(HEADER_LIMIT_BYTES, 2 * entry.size_bytes)
                await self._connection.copy_message(head.take, entry.size_bytes, limit)
                del left[entry.number]
                yield entry, head.content

    async def asked_for(self, entries: Sequence[Entry], may_go_on: Callable[[], bool]) -> AsyncIterator[Entry]:
        """Ask for whole messages, as long as it `may_go_on`. Of each that comes, `receive` must be called before the
        next; those that the server declines are passed over.
        """
        async for entry in self._asked("RETR {}", entries, may_go_on):
            yield entry

    async def receive(self, entry: Entry, write: Callable[[bytes], None], limit_bytes: int) -> None:
        """Take the bytes of the message that `asked_for` said comes. TooLarge: this session can do no more then."""
        await self._connection.copy_message(write, entry.size_bytes, limit_bytes)

    async def _asked(
        self, line: str, entries: Sequence[Entry], may_go_on: Callable[[], bool] = lambda: True
    ) -> AsyncIterator[Entry]:
        """Send a command for each message, and say of which the reply comes next."""
        for window in self._windows(entries):
            if not may_go_on():
                return
            self._connection.send(b"".join(command(line.format(one.number)) for one in window))
            for entry in window:
                if (await self._connection.status()).is_ok:
                    yield entry

    def _windows(self, entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
        """Messages that are asked for at once: some small ones, or one that is not."""
        most = WINDOW if "PIPELINING" in self.capabilities else 1
        start, size = 0, 0
        for number, one in enumerate(entries):
            if number > start and (number - start == most or size + one.size_bytes > WINDOW_BYTES):
                yield entries[start:number]
                start, size = number, 0
            size += one.size_bytes
        if start < len(entries):
            yield entries[start:]

    async def delete(self, entries: Sequence[Entry]) -> list[Entry]:
        """Mark messages as deleted; those that the server agreed to. They go when `quit` returns."""
        return [entry async for entry in self._asked("DELE {}", entries)]

    async def quit(self) -> None:
        """End the session, and let deletions count. ServerRefused where some could not be made."""
        try:
            status = await self._connection.ask(command("QUIT"))
        finally:
            self.close()
        if not status.is_ok:
            raise ServerRefused("The mail server did not delete all messages", origin_of(status))

    def close(self) -> None:
        self._connection.drop()

    async def _lines(self, line: bytes) -> list[bytes]:
        status = await self._connection.ask(line)
        if not status.is_ok:
            raise error_of(status)
        return await self._connection.lines()


class _Head:
    """Keeps a message's bytes up to its first empty line."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._is_done = False

    def take(self, piece: bytes) -> None:
        if self._is_done:
            return
        searched = max(0, len(self._kept) - 3)
        self._kept += piece
        end = self._kept.find(b"\r\n\r\n", searched)
        if self._kept.startswith(b"\r\n"):
            end = -2
        if end != -1 or len(self._kept) > HEADER_LIMIT_BYTES:
            self._is_done = True
            del self._kept[end + 4 if end != -1 else HEADER_LIMIT_BYTES :]

    @property
    def content(self) -> bytes:
        return bytes(self._kept)


# ---- how a session begins


async def _opened(endpoint: Endpoint, credential: Credential) -> Pop3Session:
    connection = await connect(endpoint)
    try:
        async with asyncio.timeout(LOGIN_TIMEOUT_SECONDS):
            greeting = await connection.status()
            if not greeting.is_ok:
                raise error_of(greeting)
            if endpoint.security is TransportSecurity.STARTTLS:
                await _start_tls(connection, endpoint)
            return Pop3Session(connection, await _log_in(connection, credential))
    except TimeoutError:
        connection.drop()
        raise Unreachable("The mail server did not finish the login in time") from None
    except BaseException:
        connection.drop()
        raise


async def _start_tls(connection: Pop3Connection, endpoint: Endpoint) -> None:
    """Never goes on in clear; what the server offered before is forgotten (RFC 2595 §4)."""
    status = await connection.ask(command("STLS"))
    if not status.is_ok:
        raise Unreachable("The mail server does not offer STARTTLS", origin_of(status))
    await connection.start_tls(endpoint.tls, endpoint.host)


async def _capabilities(connection: Pop3Connection) -> Capabilities:
    status = await connection.ask(command("CAPA"))
    return parse_capabilities(await connection.lines()) if status.is_ok else NO_CAPABILITIES


async def _log_in(connection: Pop3Connection, credential: Credential) -> Capabilities:
    """What the server offers, once it knows who we are."""
    offered = await _capabilities(connection)
    if "UTF8" in offered:  # before the login (RFC 6856 §2): mail comes as it is then, not downgraded
        await connection.ask(command("UTF8"))
    mechanism = choose(credential, offered.mechanisms)
    if mechanism is not None:
        status = await _authenticated(connection, mechanism)
    elif credential.is_token:
        raise LoginRefused("The mail server offers no way to log in with this credential")
    else:
        status = await _by_password(connection, credential)
    if not status.is_ok:
        raise _login_error(_without(status, credential.secret), offered)
    return await _capabilities(connection) if offered.arguments else offered


async def _authenticated(connection: Pop3Connection, mechanism: Mechanism) -> Status:
    """RFC 5034 §4. The initial response waits for its challenge: not every server takes it with the command."""
    pending = mechanism.initial()
    status = await connection.ask(command("AUTH", mechanism.name))
    while status.is_challenge:
        challenge = decode_challenge(status.text.encode())
        if pending is not None:
            answer, pending = pending, None
        elif mechanism.is_slow:
            answer = await asyncio.to_thread(mechanism.respond, challenge)
        else:
            answer = mechanism.respond(challenge)
        status = await connection.ask(base64.b64encode(answer) + b"\r\n")
    if status.is_ok:
        mechanism.finish()
    return status


async def _by_password(connection: Pop3Connection, credential: Credential) -> Status:
    status = await connection.ask(command("USER", credential.username))
    return await connection.ask(command("PASS", credential.secret)) if status.is_ok else status


def _without(status: Status, secret: str) -> Status:
    """Some servers repeat what they refuse."""
    return replace(status, text=status.text.replace(secret, "…")) if secret else status


def _login_error(status: Status, offered: Capabilities) -> GatewayError:
    """What a refused login means. Only `[AUTH]`, or a refusal without any sign of another cause, is about the login."""
    if status.code == "AUTH":
        return LoginRefused(origin=origin_of(status))
    is_unsaid = status.code is None and "AUTH-RESP-CODE" not in offered
    error = error_of(status)
    if isinstance(error, ServerRefused) and is_unsaid:
        return LoginRefused(origin=origin_of(status))
    return error


def error_of(status: Status) -> GatewayError:
    """What a -ERR means, by its response code (RFC 2449 §8.1, RFC 3206 §4), else by what servers say without one."""
    code = status.code
    if code == "LOGIN-DELAY":
        return RateLimited("The mail server allows no login yet", LOGIN_DELAY_SECONDS)
    if code == "IN-USE" or (code is None and _LOCKED.search(status.text)):
        return MaildropInUse(retry_after_seconds=IN_USE_SECONDS)
    if code == "SYS/TEMP" or (code is None and _TEMPORARY.search(status.text)):
        return Unreachable("The mail server cannot serve this mailbox now", origin_of(status))
    return ServerRefused(origin=origin_of(status))


def origin_of(status: Status) -> OriginAnswer:
    return OriginAnswer("pop3", f"{'+OK' if status.is_ok else '-ERR'} {status.text}".strip())
