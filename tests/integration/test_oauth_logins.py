"""Logins by access token at Dovecot, which asks an authorization server whose they are, and at an SMTP server."""

from __future__ import annotations

import asyncio

import pytest
from app.backends.imap.origin import Hosts, Origin
from app.backends.pop3.opening import Pop3Origin
from app.backends.sasl import OAuthBearer, XOAuth2
from app.backends.smtp_connection import cut, open_client
from app.errors import LoginRefused
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.servers.authorization_server import AuthorizationServer
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.smtp_sink import SmtpSink
from tests.servers.tls import TlsFiles

GUARD = NetGuard.of(["127.0.0.0/8"])
REFUSAL_SECONDS = 8.0
"""Dovecot answers at once; a mechanism that says nothing to an error would wait for good."""


class Tokens:
    """Access tokens straight from the server; the first one given is `first`, if there is one."""

    def __init__(self, authority: AuthorizationServer, user: str, first: str | None = None) -> None:
        self._authority = authority
        self._refresh_token = authority.consent(user)
        self._first = first
        self.given: list[str] = []

    async def token(self, *, refused: str | None = None) -> str:
        if self._first is not None and refused is None:
            return self._first
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._refresh_token,
            "client_id": "postgate-test",
            "client_secret": "canary-client-secret",
        }
        status, answer = await asyncio.to_thread(self._authority.token, form, None)
        if status != 200:
            raise LoginRefused
        self._refresh_token = answer["refresh_token"]
        self.given.append(answer["access_token"])
        return self.given[-1]

    def doubt(self, fresh: str) -> None:
        """Each of these tests logs in once."""


@pytest.fixture
def user(token_dovecot: Dovecot) -> DovecotUser:
    return token_dovecot.add_user()


@pytest.fixture(params=[OAuthBearer, XOAuth2], ids=["oauthbearer", "xoauth2"])
def only_mechanism(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.backends.sasl.TOKEN_MECHANISMS", (request.param,))


def origin(tls: TlsFiles, login: ServerLogin) -> Origin:
    return Origin(login, GUARD, tls.client_context(), Hosts())


def imap_login(dovecot: Dovecot, user: DovecotUser, tokens: Tokens) -> ServerLogin:
    return ServerLogin(dovecot.host, dovecot.imaps_port, TransportSecurity.TLS, user.name, tokens=tokens)


@pytest.mark.usefixtures("only_mechanism")
async def test_an_imap_server_lets_a_token_in(
    token_dovecot: Dovecot, user: DovecotUser, authority: AuthorizationServer, tls: TlsFiles
) -> None:
    session = await origin(tls, imap_login(token_dovecot, user, Tokens(authority, user.name))).open()

    assert session.capabilities
    session.close()
    await session.protocol.wait_closed()


@pytest.mark.usefixtures("only_mechanism")
async def test_a_refused_token_is_renewed_without_an_error_seen(
    token_dovecot: Dovecot, user: DovecotUser, authority: AuthorizationServer, tls: TlsFiles
) -> None:
    tokens = Tokens(authority, user.name, first="expired")
    async with asyncio.timeout(REFUSAL_SECONDS):
        session = await origin(tls, imap_login(token_dovecot, user, tokens)).open()

    assert len(tokens.given) == 1
    session.close()
    await session.protocol.wait_closed()


@pytest.mark.usefixtures("only_mechanism")
async def test_a_token_for_someone_else_is_refused_and_nothing_hangs(
    token_dovecot: Dovecot, user: DovecotUser, authority: AuthorizationServer, tls: TlsFiles
) -> None:
    tokens = Tokens(authority, "other@mail.test")

    async with asyncio.timeout(REFUSAL_SECONDS):
        with pytest.raises(LoginRefused):
            await origin(tls, imap_login(token_dovecot, user, tokens)).open()

    assert len(tokens.given) == 2


@pytest.mark.usefixtures("only_mechanism")
async def test_an_smtp_server_lets_a_token_in(
    token_sink: SmtpSink, authority: AuthorizationServer, tls: TlsFiles
) -> None:
    tokens = Tokens(authority, "ann@mail.test", first="expired")
    login = ServerLogin(token_sink.host, token_sink.tls_port, TransportSecurity.TLS, "ann@mail.test", tokens=tokens)

    async with asyncio.timeout(REFUSAL_SECONDS):
        client = await open_client(login, GUARD, tls.client_context(), "client.test")

    assert len(tokens.given) == 1
    cut(client)


@pytest.mark.usefixtures("only_mechanism")
async def test_an_smtp_server_that_refuses_hears_the_answer_to_its_challenge(
    token_sink: SmtpSink, authority: AuthorizationServer, tls: TlsFiles
) -> None:
    tokens = Tokens(authority, "other@mail.test")
    login = ServerLogin(token_sink.host, token_sink.tls_port, TransportSecurity.TLS, "ann@mail.test", tokens=tokens)

    async with asyncio.timeout(REFUSAL_SECONDS):
        with pytest.raises(LoginRefused) as refusal:
            await open_client(login, GUARD, tls.client_context(), "client.test")

    assert refusal.value.origin is not None
    assert refusal.value.origin.response.startswith("535")


def pop3_origin(dovecot: Dovecot, user: DovecotUser, tokens: Tokens, tls: TlsFiles) -> Pop3Origin:
    login = ServerLogin(dovecot.host, dovecot.pop3s_port, TransportSecurity.TLS, user.name, tokens=tokens)
    return Pop3Origin(login, GUARD, tls.client_context())


@pytest.mark.usefixtures("only_mechanism")
async def test_a_pop3_server_lets_a_token_in(
    token_dovecot: Dovecot, user: DovecotUser, authority: AuthorizationServer, tls: TlsFiles
) -> None:
    tokens = Tokens(authority, user.name, first="expired")

    async with asyncio.timeout(REFUSAL_SECONDS):
        session = await pop3_origin(token_dovecot, user, tokens, tls).open()

    assert await session.listing() == []
    assert len(tokens.given) == 1
    session.close()


@pytest.mark.usefixtures("only_mechanism")
async def test_a_pop3_server_that_refuses_does_not_hang(
    token_dovecot: Dovecot, user: DovecotUser, authority: AuthorizationServer, tls: TlsFiles
) -> None:
    tokens = Tokens(authority, "other@mail.test")

    async with asyncio.timeout(REFUSAL_SECONDS):
        with pytest.raises(LoginRefused):
            await pop3_origin(token_dovecot, user, tokens, tls).open()
