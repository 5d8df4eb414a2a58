"""Connecting and logging in by IMAP: a real Dovecot, and servers that mean no good."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path

import pytest
from app.backends.imap.connection import Endpoint, open_connection
from app.backends.imap.connection import opening as opening_module
from app.backends.sasl import Credential
from app.errors import (
    CertificateRefused,
    LoginRefused,
    MailServerError,
    ServerProtocolError,
    ServerRefused,
    TimedOut,
    Unreachable,
)
from app.mail.types import TransportSecurity

from tests.integration.raw_server import raw_server
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.dovecot import Dovecot
from tests.servers.process import free_port
from tests.servers.tls import TlsFiles, self_signed

Server = Dovecot | Cyrus | Courier

USER = Credential("user", "secret")
TOKEN = Credential("user", "canary-token", is_token=True)


def endpoint(
    port: int,
    security: TransportSecurity = TransportSecurity.NONE,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    address: str | None = None,
) -> Endpoint:
    return Endpoint(host, (address or host,), port, security, tls or ssl.create_default_context())


@pytest.fixture(params=["dovecot", "cyrus", "courier"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the real servers, with the same certificates."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize("security", list(TransportSecurity))
async def test_a_login_works_with_each_kind_of_protection(
    server: Server, tls: TlsFiles, security: TransportSecurity
) -> None:
    user = server.add_user()
    port = server.imaps_port if security is TransportSecurity.TLS else server.imap_port

    protocol = await open_connection(
        endpoint(port, security, tls.client_context()), Credential(user.name, user.password)
    )

    assert "IDLE" in protocol.offered
    assert "STARTTLS" not in protocol.offered
    protocol.leave()
    await protocol.wait_closed()


@pytest.mark.parametrize("security", [TransportSecurity.TLS, TransportSecurity.STARTTLS])
@pytest.mark.parametrize("host", ["wrong_host", "expired_host"])
async def test_a_certificate_that_is_not_valid_is_refused(
    server: Server, tls: TlsFiles, security: TransportSecurity, host: str
) -> None:
    port = server.imaps_port if security is TransportSecurity.TLS else server.imap_port
    bad = endpoint(port, security, tls.client_context(), host=getattr(server, host))

    with pytest.raises(CertificateRefused):
        await open_connection(bad, USER)


@pytest.mark.parametrize("security", [TransportSecurity.TLS, TransportSecurity.STARTTLS])
async def test_a_certificate_of_an_unknown_authority_is_refused(server: Server, security: TransportSecurity) -> None:
    port = server.imaps_port if security is TransportSecurity.TLS else server.imap_port
    with pytest.raises(CertificateRefused):
        await open_connection(endpoint(port, security), USER)


async def test_a_self_signed_certificate_is_refused(tls: TlsFiles, tmp_path: Path) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        await writer.drain()

    context = self_signed(tmp_path).server_context()
    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(CertificateRefused):
            await open_connection(endpoint(port, TransportSecurity.TLS, tls.client_context()), USER)
    finally:
        server.close()
        await server.wait_closed()


async def test_a_wrong_password_is_a_refused_login(server: Server, tls: TlsFiles) -> None:
    user = server.add_user()

    with pytest.raises(LoginRefused) as refusal:
        await open_connection(endpoint(server.imap_port), Credential(user.name, "wrong"))

    assert refusal.value.origin is not None
    assert "NO" in refusal.value.origin.response


async def test_a_wrong_port_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        await open_connection(endpoint(free_port()), USER)


async def test_tls_on_a_plaintext_port_says_so(dovecot: Dovecot, tls: TlsFiles) -> None:
    with pytest.raises(Unreachable, match="TLS"):
        await open_connection(endpoint(dovecot.imap_port, TransportSecurity.TLS, tls.client_context()), USER)


async def test_the_next_address_is_tried_where_one_refuses(dovecot: Dovecot) -> None:
    user = dovecot.add_user()
    several = Endpoint(
        "mail.test",
        ("127.9.9.9", dovecot.host),
        dovecot.imap_port,
        TransportSecurity.NONE,
        ssl.create_default_context(),
    )

    protocol = await open_connection(several, Credential(user.name, user.password))

    protocol.leave()
    await protocol.wait_closed()


async def test_a_server_that_says_nothing_meets_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    monkeypatch.setattr(opening_module, "CONNECT_TIMEOUT_SECONDS", 0.1)
    async with raw_server(silent) as port:
        with pytest.raises(TimedOut):
            await open_connection(endpoint(port), USER)


async def test_a_login_that_never_ends_meets_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK ready\r\n")
        while True:
            writer.write(b"* OK x\r\n")
            await asyncio.sleep(0.01)

    monkeypatch.setattr(opening_module, "LOGIN_TIMEOUT_SECONDS", 0.2)
    async with raw_server(dripping) as port:
        with pytest.raises(TimedOut):
            await open_connection(endpoint(port), USER)


# ---- STARTTLS


async def test_plaintext_after_the_ok_to_starttls_is_fatal(tls: TlsFiles) -> None:
    told: list[bytes] = []

    async def injecting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n")
        tag = (await reader.readline()).split()[0]
        writer.write(tag + b" OK begin\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n")
        told.append(await reader.read())

    async with raw_server(injecting) as port:
        with pytest.raises(ServerProtocolError):
            await open_connection(endpoint(port, TransportSecurity.STARTTLS, tls.client_context()), USER)
        await asyncio.sleep(0.05)

    assert told == [b""]


async def test_a_greeting_as_logged_in_is_fatal_where_starttls_is_required(tls: TlsFiles) -> None:
    told: list[bytes] = []

    async def preauth(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* PREAUTH [CAPABILITY IMAP4rev1] welcome\r\n")
        told.append(await reader.read())

    async with raw_server(preauth) as port:
        with pytest.raises(ServerProtocolError):
            await open_connection(endpoint(port, TransportSecurity.STARTTLS, tls.client_context()), USER)
        await asyncio.sleep(0.05)

    assert told == [b""]


async def test_a_refused_starttls_never_falls_back_to_plaintext(tls: TlsFiles) -> None:
    told: list[bytes] = []

    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n")
        tag = (await reader.readline()).split()[0]
        writer.write(tag + b" NO not today\r\n")
        told.append(await reader.read())

    async with raw_server(refusing) as port:
        with pytest.raises(ServerRefused):
            await open_connection(endpoint(port, TransportSecurity.STARTTLS, tls.client_context()), USER)
        await asyncio.sleep(0.05)

    assert told == [b""]


async def test_capabilities_told_before_tls_are_forgotten(tls: TlsFiles) -> None:
    asked: list[bytes] = []

    async def lying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=XEVIL LITERAL+] ready\r\n")
        tag = (await reader.readline()).split()[0]
        writer.write(tag + b" OK begin\r\n")
        await writer.drain()
        await writer.start_tls(tls.good.server_context())
        line = await reader.readline()
        asked.append(line.split()[1])
        writer.write(b"* CAPABILITY IMAP4rev1\r\n" + line.split()[0] + b" OK\r\n")
        line = await reader.readline()
        writer.write(line.split()[0] + b" OK [CAPABILITY IMAP4rev1 IDLE] in\r\n")
        await reader.read()

    async with raw_server(lying) as port:
        protocol = await open_connection(endpoint(port, TransportSecurity.STARTTLS, tls.client_context()), USER)
        assert protocol.offered == {"IMAP4REV1", "IDLE"}
        protocol.leave()
        await protocol.wait_closed()

    assert asked == [b"CAPABILITY"]


# ---- SASL


async def logs_in(capabilities: bytes, credential: Credential, *steps: bytes) -> list[bytes]:
    """What a server is told that answers each line by the next of `steps`, `$` for the tag."""
    told: list[bytes] = []

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK [CAPABILITY IMAP4rev1 " + capabilities + b"] ready\r\n")
        tag = b""
        for step in steps:
            line = (await reader.readline()).rstrip()
            tag = tag or line.split()[0]
            told.append(line.removeprefix(tag + b" "))
            writer.write(step.replace(b"$", tag) + b"\r\n")
        await reader.read()

    async with raw_server(conversation) as port:
        async with asyncio.timeout(5):
            try:
                protocol = await open_connection(endpoint(port), credential)
                protocol.leave()
                await protocol.wait_closed()
            except MailServerError as error:
                told.append(type(error).__name__.encode())
    return told


OK = b"$ OK [CAPABILITY IMAP4rev1] in"


async def test_plain_goes_with_the_command_where_the_server_takes_it() -> None:
    secret = base64.b64encode(b"\0user\0secret")

    assert await logs_in(b"SASL-IR AUTH=PLAIN", USER, OK) == [b"AUTHENTICATE PLAIN " + secret]
    assert await logs_in(b"AUTH=PLAIN", USER, b"+ ", OK) == [b"AUTHENTICATE PLAIN", secret]


async def test_login_by_mechanism_and_by_command() -> None:
    names = [b"AUTHENTICATE LOGIN", base64.b64encode(b"user"), base64.b64encode(b"secret")]

    assert await logs_in(b"AUTH=LOGIN", USER, b"+ VXNlcm5hbWU6", b"+ UGFzc3dvcmQ6", OK) == names
    assert await logs_in(b"", USER, OK) == [b'LOGIN "user" "secret"']


async def test_a_mechanism_that_the_server_offers_and_cannot_do_is_replaced_by_login() -> None:
    told = await logs_in(b"SASL-IR AUTH=PLAIN", USER, b"$ BAD command unknown", b"A2 OK [CAPABILITY IMAP4rev1] in")

    assert told[1].endswith(b'LOGIN "user" "secret"')


async def test_a_password_that_the_server_refuses_is_tried_once() -> None:
    assert await logs_in(b"SASL-IR AUTH=PLAIN", USER, b"$ NO wrong") == [
        b"AUTHENTICATE PLAIN " + base64.b64encode(b"\0user\0secret"),
        b"LoginRefused",
    ]


async def test_no_password_is_sent_where_login_is_disabled() -> None:
    assert await logs_in(b"LOGINDISABLED", USER) == [b"LoginRefused"]


@pytest.mark.parametrize(("mechanism", "answer"), [(b"XOAUTH2", b""), (b"OAUTHBEARER", b"\1")])
async def test_a_refused_token_does_not_hang(mechanism: bytes, answer: bytes) -> None:
    challenge = b"+ " + base64.b64encode(b'{"status":"401"}')

    told = await logs_in(b"SASL-IR AUTH=" + mechanism, TOKEN, challenge, b"$ NO [AUTHENTICATIONFAILED] no")

    assert told[0].startswith(b"AUTHENTICATE " + mechanism)
    assert told[1:] == [base64.b64encode(answer), b"LoginRefused"]


@pytest.mark.parametrize(
    ("challenge", "error"),
    [
        (b"+ " + base64.b64encode(b"r=x,s=AA==,i=2147483648"), b"ServerProtocolError"),
        (b"+ not base64!", b"ServerProtocolError"),
        (b"$ NO [AUTHENTICATIONFAILED] no", b"LoginRefused"),
        (b"$ NO [UNAVAILABLE] backend down", b"Unreachable"),
        (b"$ OK in without proof", b"ServerProtocolError"),
    ],
)
async def test_a_scram_exchange_that_goes_wrong_ends_at_once(challenge: bytes, error: bytes) -> None:
    assert (await logs_in(b"SASL-IR AUTH=SCRAM-SHA-256", USER, challenge))[-1] == error


async def test_a_server_that_asks_without_end_meets_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening_module, "LOGIN_TIMEOUT_SECONDS", 0.3)
    steps = [b"+ AAAA"] * 100_000

    assert (await logs_in(b"SASL-IR AUTH=PLAIN", USER, *steps))[-1] in (b"TimedOut", b"ServerProtocolError")
