"""Opens POP3 sessions: connect, TLS, login."""

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
from app.wire.pop3_client import NO_CAPABILITIES, Pop3Capabilities, Pop3Status, command, parse_capabilities

LOGIN_TIMEOUT_SECONDS = 30.0
SESSIONS_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Pop3Origin:
    """Opens sessions with an account's POP3 server."""

    login: ServerLogin
    guard: NetGuard
    tls: ssl.SSLContext = field(repr=False)
    turns: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(SESSIONS_AT_ONCE), repr=False, compare=False
    )
    """Shared by the accounts of one server, to limit their concurrent sessions."""

    new_recorder: Callable[[], Recorder] | None = field(default=None, repr=False, compare=False)
    """Makes the recorder of a new connection's protocol lines."""

    async def open(self) -> Pop3Session:
        """Connect, secure the connection and log in.

        Raises AddressNotAllowed, Unreachable (CertificateRefused, TimedOut), LoginRefused, ServerRefused,
        ServerProtocolError, RateLimited before the login delay has passed, MaildropInUse.
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
    """Start TLS. Never continues in plaintext; capabilities from before TLS are discarded (RFC 2595 §4)."""
    status = await connection.ask(command("STLS"))
    if not status.is_ok:
        raise Unreachable("The mail server does not offer STARTTLS", origin_of(status))
    await connection.start_tls(endpoint.tls, endpoint.host)


async def _capabilities(connection: Pop3Connection) -> Pop3Capabilities:
    status = await connection.ask(command("CAPA"))
    return parse_capabilities(await connection.lines()) if status.is_ok else NO_CAPABILITIES


async def _log_in(connection: Pop3Connection, credential: Credential) -> Pop3Capabilities:
    """Log in and return the capabilities after the login."""
    offered = await _capabilities(connection)
    if "UTF8" in offered:  # before the login (RFC 6856 §2), so that messages are not downgraded
        await connection.ask(command("UTF8"))
    status = await _by_mechanism(connection, credential, offered)
    if status is None and credential.is_token:
        raise LoginRefused("The mail server offers no way to log in with this credential")
    status = status or await _by_password(connection, credential)
    if not status.is_ok:
        raise _login_error(status, offered)
    return await _capabilities(connection) if offered.arguments else offered


async def _by_mechanism(
    connection: Pop3Connection, credential: Credential, offered: Pop3Capabilities
) -> Pop3Status | None:
    """The status of the first mechanism that the server supports, or None if it supports none.

    A mechanism refused before the credential was sent is unsupported, unless the server states another cause.
    """
    for mechanism in candidates(credential, offered.mechanisms):
        status = await connection.ask(command("AUTH", mechanism.name))
        if status.is_challenge:
            return await _authenticated(connection, mechanism, status)
        if status.is_ok or status.code == "AUTH" or type(error_of(status)) is not ServerRefused:
            return status
    return None


async def _authenticated(connection: Pop3Connection, mechanism: Mechanism, status: Pop3Status) -> Pop3Status:
    """Run a SASL exchange (RFC 5034 §4).

    The initial response waits for a challenge, because not every server accepts it with AUTH.
    """
    pending = mechanism.initial()
    while status.is_challenge:
        challenge = decode_challenge(status.text.encode())
        if pending is not None:
            response, pending = pending, None
        elif mechanism.is_slow:
            response = await asyncio.to_thread(mechanism.respond, challenge)
        else:
            response = mechanism.respond(challenge)
        connection.masker.add_response(response)
        status = await connection.ask(base64.b64encode(response) + b"\r\n")
    if status.is_ok:
        mechanism.finish()
    return status


async def _by_password(connection: Pop3Connection, credential: Credential) -> Pop3Status:
    status = await connection.ask(command("USER", credential.username))
    return await connection.ask(command("PASS", credential.secret)) if status.is_ok else status


def _login_error(status: Pop3Status, offered: Pop3Capabilities) -> GatewayError:
    """The error of a refused login. Only `[AUTH]`, or a refusal without another cause, concerns the credential."""
    if status.code == "AUTH":
        return LoginRefused(origin=origin_of(status))
    has_no_cause = status.code is None and "AUTH-RESP-CODE" not in offered
    error = error_of(status)
    if isinstance(error, ServerRefused) and has_no_cause:
        return LoginRefused(origin=origin_of(status))
    return error
