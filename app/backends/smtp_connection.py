"""Opens SMTP connections with aiosmtplib: connect to a checked address, TLS, login. Maps errors to MailServerError."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, cast

import aiosmtplib
from aiosmtplib import SMTPResponse
from typing_extensions import override

from app.backends import tracing
from app.backends.credentials import log_in
from app.backends.sasl import Credential, Mechanism, candidates, decode_challenge
from app.errors import (
    CertificateRefused,
    LoginRefused,
    MailServerError,
    OriginAnswer,
    ServerProtocolError,
    ServerRefused,
    TimedOut,
    Unreachable,
)
from app.mail.masking import Masker
from app.mail.protocol_log import Recorder
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

CONNECT_TIMEOUT_SECONDS = 10.0
COMMAND_TIMEOUT_SECONDS = 60.0
RESPONSE_LIMIT_CHARS = 500

_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s+|$)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_CONTINUE = 334
_LOGGED_IN = 235
_NOT_SUPPORTED = frozenset({500, 501, 502, 504})
"""The command or mechanism is unknown or malformed (RFC 4954 §6): says nothing about the password."""


class TracedClient(aiosmtplib.SMTP):
    """A client that records its commands and replies."""

    recorder: Recorder | None = None
    masker: Masker = Masker()

    @override
    async def execute_command(self, *args: bytes, **options: Any) -> SMTPResponse:
        tracing.smtp_sent(self.recorder, args)
        answer = await super().execute_command(*args, **options)
        tracing.smtp_received(self.recorder, answer.code, answer.message)
        return answer if answer.code < 400 else SMTPResponse(answer.code, self.masker.mask(answer.message))


async def open_client(
    server: ServerLogin,
    guard: NetGuard,
    tls: ssl.SSLContext,
    client_name: str,
    recorder: Recorder | None = None,
) -> aiosmtplib.SMTP:
    """Connect, secure the connection, and log in if there is a user name.

    Raises AddressNotAllowed, Unreachable (CertificateRefused, TimedOut), LoginRefused, ServerRefused,
    ServerProtocolError.
    """

    async def attempt(credential: Credential | None) -> aiosmtplib.SMTP:
        addresses = await guard.addresses(server.host)
        masker = Masker() if credential is None else tracing.hide(recorder, credential)
        client = await _secured(server, addresses, tls, client_name, recorder)
        client.masker = masker
        try:
            if credential is not None:
                await _authenticate(client, credential)
        except BaseException:
            cut(client)
            raise
        return client

    return await (log_in(server, attempt) if server.username else attempt(None))


async def _secured(
    server: ServerLogin, addresses: Sequence[str], tls: ssl.SSLContext, client_name: str, recorder: Recorder | None
) -> TracedClient:
    """A connection after the greeting, and after TLS if it is configured."""
    connection = await _connected(addresses, server.port)
    client = TracedClient(
        sock=connection,
        hostname=server.host,
        local_hostname=client_name,
        timeout=COMMAND_TIMEOUT_SECONDS,
        use_tls=server.security is TransportSecurity.TLS,
        start_tls=False,
        tls_context=tls,
    )
    client.recorder = recorder
    try:
        with our_errors():
            async with asyncio.timeout(2 * CONNECT_TIMEOUT_SECONDS):
                await client.connect()
                await client.ehlo()
                if server.security is TransportSecurity.STARTTLS:
                    await _start_tls(client)
    except BaseException:
        cut(client)
        connection.close()
        raise
    return client


def cut(client: aiosmtplib.SMTP) -> None:
    """Close at once, without waiting for the server's TLS close_notify."""
    transport = cast("asyncio.WriteTransport | None", client.transport)  # uvloop's transport does not subclass it
    client.close()
    if transport is not None:
        transport.abort()


async def _connected(addresses: Sequence[str], port: int) -> socket.socket:
    """A socket that is connected to the first address that responds."""
    loop = asyncio.get_running_loop()
    failure: MailServerError = Unreachable("The mail server has no address")
    for address in addresses:
        connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await loop.sock_connect(connection, (address, port))
        except TimeoutError:
            connection.close()
            failure = TimedOut("The mail server did not answer in time")
        except OSError:
            connection.close()
            failure = Unreachable("The mail server refused the connection")
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
    raise failure


async def _start_tls(client: aiosmtplib.SMTP) -> None:
    """Start TLS, and discard what the server offered or sent before it (RFC 3207 §4.2). Never continues without TLS."""
    if not client.supports_extension("starttls"):
        raise Unreachable("The mail server does not offer STARTTLS")
    await client.starttls()
    await client.ehlo()


async def _authenticate(client: TracedClient, credential: Credential) -> None:
    """Log in with the best mechanism, or the next one if the server offers a mechanism but does not support it."""
    mechanisms = candidates(credential, {name.upper() for name in client.server_auth_methods})
    if not mechanisms:
        raise LoginRefused("The mail server offers no login method that Postgate supports")
    for mechanism in mechanisms:
        with our_errors():
            answer = await _exchanged(client, mechanism)
        if answer.code not in _NOT_SUPPORTED:
            break
    if answer.code == _LOGGED_IN:
        mechanism.finish()
    elif 500 <= answer.code < 600:
        raise LoginRefused("The mail server refused the login", origin_of(answer))
    else:
        raise ServerRefused("The mail server could not check the login", origin_of(answer))


async def _exchanged(client: TracedClient, mechanism: Mechanism) -> SMTPResponse:
    """The server's final reply to a login (RFC 4954 §4)."""
    initial = mechanism.initial()
    client.masker.add_response(initial or b"")
    command = [b"AUTH", mechanism.name.encode()]
    if initial is not None:
        command.append(base64.b64encode(initial) or b"=")
    answer = await client.execute_command(*command)
    while answer.code == _CONTINUE:
        challenge = decode_challenge(answer.message.encode("utf-8", "surrogateescape"))
        if mechanism.is_slow:
            response = await asyncio.to_thread(mechanism.respond, challenge)
        else:
            response = mechanism.respond(challenge)
        client.masker.add_response(response)
        answer = await client.execute_command(base64.b64encode(response))
    return answer


@contextlib.contextmanager
def our_errors() -> Iterator[None]:
    """Convert aiosmtplib's errors to MailServerError: Unreachable when the connection failed."""
    try:
        yield
    except aiosmtplib.SMTPConnectResponseError as error:
        raise Unreachable("The mail server does not accept connections at the moment") from error
    except aiosmtplib.SMTPResponseException as error:
        if error.code < 200 or error.code > 599:
            raise ServerProtocolError("The mail server's reply cannot be parsed") from error
        origin = origin_of(SMTPResponse(error.code, error.message))
        raise ServerRefused("The mail server refused the command", origin) from error
    except (aiosmtplib.SMTPException, OSError) as error:  # TimeoutError is an OSError
        raise _connection_error(error) from error


def _connection_error(error: BaseException) -> Unreachable:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CertificateRefused(f"The mail server's certificate is not valid: {cause.verify_message}")
        if isinstance(cause, ssl.SSLError):
            return Unreachable("The mail server does not speak TLS on this port")
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, TimeoutError):
        return TimedOut("The mail server did not answer in time")
    return Unreachable("The connection to the mail server was lost")


def explained(answer: SMTPResponse) -> tuple[str | None, str]:
    """The enhanced code of a reply, if any, and its text in one line."""
    text = _CONTROLS.sub(" ", answer.message.encode("utf-8", "replace").decode())
    match = _ENHANCED.match(text)
    if match is None:
        return None, f"{answer.code} {text}"[:RESPONSE_LIMIT_CHARS]
    return match[1], text[match.end() :].replace(f" {match[1]} ", " ")[:RESPONSE_LIMIT_CHARS]


def origin_of(answer: SMTPResponse) -> OriginAnswer:
    enhanced_code, text = explained(answer)
    return OriginAnswer("smtp", text if enhanced_code is None else f"{answer.code} {text}", enhanced_code)
