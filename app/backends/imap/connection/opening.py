"""Opens IMAP connections: connect, TLS, greeting, login."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable
from dataclasses import replace

from aioimaplib import aioimaplib as stock
from typing_extensions import override

from app.backends.endpoint import CONNECT_TIMEOUT_SECONDS, Endpoint, connect_error
from app.backends.imap.connection.answers import CommandCompletion
from app.backends.imap.connection.exchange import Exchange
from app.backends.imap.connection.protocol import AUTH, ImapProtocol
from app.backends.sasl import Credential, Mechanism, choose, decode_challenge
from app.backends.tracing import hide
from app.errors import (
    CertificateRefused,
    LoginRefused,
    MailServerError,
    ServerProtocolError,
    TimedOut,
    Unreachable,
)
from app.mail.types import TransportSecurity
from app.wire.imap import commands

LOGIN_TIMEOUT_SECONDS = 20.0


class ImapClient(stock.IMAP4):
    """Connects to a checked address with our protocol, and verifies the certificate for the host name."""

    def __init__(self, endpoint: Endpoint, address: str, timeout_seconds: float) -> None:
        self._endpoint = endpoint
        super().__init__(address, endpoint.port, timeout=timeout_seconds)

    @override
    def create_client(
        self,
        host: str,
        port: int,
        loop: asyncio.AbstractEventLoop | None,
        conn_lost_cb: Callable[[Exception | None], None] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        running = loop or asyncio.get_running_loop()
        is_tls = self._endpoint.security is TransportSecurity.TLS
        self.imap = ImapProtocol(running)
        self.imap.recorder = self._endpoint.recorder
        self.imap.masker = self._endpoint.masker
        self._client_task = running.create_task(
            running.create_connection(
                lambda: self.imap,
                host,
                port,
                ssl=self._endpoint.tls if is_tls else None,
                server_hostname=self._endpoint.host if is_tls else None,
            )
        )

    @override
    async def wait_hello_from_server(self) -> None:
        """Raises TimeoutError. aioimaplib uses `wait_for`, which in Python 3.11 may swallow a cancellation."""
        async with asyncio.timeout(self.timeout):
            await self._wait_connection_and_hello()

    @override
    async def _wait_connection_and_hello(self) -> None:
        await self._client_task
        await self.imap.greeting


async def open_connection(endpoint: Endpoint, credential: Credential) -> ImapProtocol:
    """Connect, secure the connection, and log in.

    Raises CertificateRefused, Unreachable, TimedOut, LoginRefused, ServerProtocolError.
    """
    endpoint = replace(endpoint, masker=hide(endpoint.recorder, credential))
    protocol = await _connect(endpoint)
    try:
        async with asyncio.timeout(LOGIN_TIMEOUT_SECONDS):
            if endpoint.security is TransportSecurity.STARTTLS:
                await _start_tls(protocol, endpoint)
            await _log_in(protocol, credential)
    except TimeoutError:
        protocol.drop(TimedOut())
        raise TimedOut("The mail server did not finish the login in time") from None
    except BaseException:
        protocol.drop(Unreachable())
        raise
    return protocol


async def _connect(endpoint: Endpoint) -> ImapProtocol:
    """Connect to the first address that responds. An invalid certificate fails at once: no other address is tried."""
    error: MailServerError = Unreachable()
    for address in endpoint.addresses:
        client = ImapClient(endpoint, address, CONNECT_TIMEOUT_SECONDS)
        try:
            await client.wait_hello_from_server()
        except (MailServerError, OSError, TimeoutError) as failure:
            client.imap.drop(Unreachable())
            error = connect_error(failure)
            if isinstance(error, CertificateRefused):
                break
        except BaseException:
            client.imap.drop(Unreachable())
            raise
        else:
            return client.imap
    raise error


async def _start_tls(protocol: ImapProtocol, endpoint: Endpoint) -> None:
    """Start TLS. Never falls back to plaintext, and refuses PREAUTH before TLS (RFC 8314 §5)."""
    if protocol.state == AUTH:
        raise ServerProtocolError("The server sent PREAUTH before STARTTLS")
    exchange = Exchange(commands.starttls(), protocol.new_tag())
    await protocol.submit(exchange)
    (await protocol.settle(exchange)).check()
    try:
        await protocol.start_tls(endpoint.tls, endpoint.host, CONNECT_TIMEOUT_SECONDS)
    except OSError as failure:
        raise connect_error(failure) from None


async def _log_in(protocol: ImapProtocol, credential: Credential) -> None:
    if not protocol.offered:
        await _ask_capabilities(protocol)
    if protocol.state != AUTH:
        before = protocol.offered
        protocol.offered = frozenset()
        completion = await _authenticate(protocol, credential, before)
        if completion.status != "OK":
            raise _login_error(completion)
        protocol.state = AUTH
    if not protocol.offered:
        await _ask_capabilities(protocol)


async def _ask_capabilities(protocol: ImapProtocol) -> None:
    exchange = Exchange(commands.capability(), protocol.new_tag())
    await protocol.submit(exchange)
    (await protocol.settle(exchange)).check()


def _login_error(completion: CommandCompletion) -> MailServerError:
    """The error for a failed login. UNAVAILABLE (RFC 5530 §3) and throttling do not mean that the password is wrong."""
    if completion.is_throttling:
        return completion.throttled()
    if completion.code is not None and completion.code.name == "UNAVAILABLE":
        return Unreachable("The mail server cannot check logins at the moment", completion.origin)
    return LoginRefused(origin=completion.origin)


async def _authenticate(
    protocol: ImapProtocol, credential: Credential, capabilities: frozenset[str]
) -> CommandCompletion:
    """Log in with the best offered mechanism, else LOGIN; also LOGIN after BAD, if the mechanism does not work."""
    offered = {name[5:] for name in capabilities if name.startswith("AUTH=")}
    can_log_in = not (credential.is_token or "LOGINDISABLED" in capabilities)
    mechanism = choose(credential, offered)
    if mechanism is not None:
        completion = await _run_mechanism(protocol, mechanism, can_send_initial="SASL-IR" in capabilities)
        if completion.status != "BAD" or completion.is_throttling or not can_log_in:
            return completion
    if not can_log_in:
        raise LoginRefused("The mail server offers no login method for this credential on this connection")
    exchange = Exchange(commands.login(credential.username, credential.secret), protocol.new_tag())
    await protocol.submit(exchange)
    return await protocol.settle(exchange)


async def _run_mechanism(protocol: ImapProtocol, mechanism: Mechanism, *, can_send_initial: bool) -> CommandCompletion:
    initial = mechanism.initial()
    protocol.masker.add_response(initial or b"")
    encoded = base64.b64encode(initial) if initial is not None and can_send_initial else None
    exchange = Exchange(commands.authenticate(mechanism.name, encoded), protocol.new_tag())
    await protocol.submit(exchange)
    pending = initial if encoded is None else None
    while (challenge := await protocol.go_ahead(exchange)) is not None:
        response = pending if pending is not None else await _respond(mechanism, decode_challenge(challenge))
        protocol.masker.add_response(response)
        pending = None
        protocol.send(base64.b64encode(response))
    completion = await protocol.settle(exchange)
    if completion.status == "OK":
        mechanism.finish()
    return completion


async def _respond(mechanism: Mechanism, challenge: bytes) -> bytes:
    if mechanism.is_slow:
        return await asyncio.to_thread(mechanism.respond, challenge)
    return mechanism.respond(challenge)
