"""How a POP3 session begins: connect, TLS, login."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from app.backends.credentials import log_in
from app.backends.endpoint import Endpoint
from app.backends.pop3.connection import Pop3Connection, connect
from app.backends.pop3.refusals import error_of, origin_of
from app.backends.pop3.session import Pop3Session
from app.backends.sasl import Credential, Mechanism, candidates, decode_challenge
from app.backends.tracing import hide
from app.errors import GatewayError, LoginRefused, ServerRefused, Unreachable
from app.mail.protocol_log import Recorder
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard
from app.wire.pop3_client import NO_CAPABILITIES, Capabilities, Status, command, parse_capabilities

LOGIN_TIMEOUT_SECONDS = 30.0
SESSIONS_AT_ONCE = 10


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
            masker = hide(recorder, credential)
            login = self.login
            endpoint = Endpoint(login.host, addresses, login.port, login.security, self.tls, recorder, masker)
            return await _opened(endpoint, credential)

        return await log_in(self.login, attempt)


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
    status = await _by_mechanism(connection, credential, offered)
    if status is None and credential.is_token:
        raise LoginRefused("The mail server offers no way to log in with this credential")
    status = status or await _by_password(connection, credential)
    if not status.is_ok:
        raise _login_error(status, offered)
    return await _capabilities(connection) if offered.arguments else offered


async def _by_mechanism(connection: Pop3Connection, credential: Credential, offered: Capabilities) -> Status | None:
    """The answer to the first mechanism that the server supports; None where it supports none that it offers.

    Refused before the credential was sent, a mechanism is not supported, unless the server names another cause.
    """
    for mechanism in candidates(credential, offered.mechanisms):
        status = await connection.ask(command("AUTH", mechanism.name))
        if status.is_challenge:
            return await _authenticated(connection, mechanism, status)
        if status.is_ok or status.code == "AUTH" or type(error_of(status)) is not ServerRefused:
            return status
    return None


async def _authenticated(connection: Pop3Connection, mechanism: Mechanism, status: Status) -> Status:
    """RFC 5034 §4. The initial response waits for its challenge: not every server takes it with the command."""
    pending = mechanism.initial()
    while status.is_challenge:
        challenge = decode_challenge(status.text.encode())
        if pending is not None:
            answer, pending = pending, None
        elif mechanism.is_slow:
            answer = await asyncio.to_thread(mechanism.respond, challenge)
        else:
            answer = mechanism.respond(challenge)
        connection.masker.add_response(answer)
        status = await connection.ask(base64.b64encode(answer) + b"\r\n")
    if status.is_ok:
        mechanism.finish()
    return status


async def _by_password(connection: Pop3Connection, credential: Credential) -> Status:
    status = await connection.ask(command("USER", credential.username))
    return await connection.ask(command("PASS", credential.secret)) if status.is_ok else status


def _login_error(status: Status, offered: Capabilities) -> GatewayError:
    """What a refused login means. Only `[AUTH]`, or a refusal without any sign of another cause, is about the login."""
    if status.code == "AUTH":
        return LoginRefused(origin=origin_of(status))
    is_unsaid = status.code is None and "AUTH-RESP-CODE" not in offered
    error = error_of(status)
    if isinstance(error, ServerRefused) and is_unsaid:
        return LoginRefused(origin=origin_of(status))
    return error
