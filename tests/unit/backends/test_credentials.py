from __future__ import annotations

import pytest
from app.backends.credentials import log_in
from app.backends.sasl import Credential
from app.errors import LoginRefused, Unreachable
from app.mail.types import ServerLogin, TransportSecurity


class Tokens:
    """Gives `old`, then `new` once `old` was refused."""

    def __init__(self) -> None:
        self.refused: list[str | None] = []
        self.doubted: list[str] = []

    async def token(self, *, refused: str | None = None) -> str:
        self.refused.append(refused)
        return "new" if refused else "old"

    def doubt(self, fresh: str) -> None:
        self.doubted.append(fresh)


class Server:
    """Lets in whoever holds the secret."""

    def __init__(self, secret: str, error: Exception | None = None) -> None:
        self._secret = secret
        self._error = error or LoginRefused()
        self.tried: list[str] = []

    async def __call__(self, credential: Credential) -> str:
        self.tried.append(credential.secret)
        if credential.secret != self._secret:
            raise self._error
        return "in"


def login(tokens: Tokens | None) -> ServerLogin:
    return ServerLogin("mail.test", 993, TransportSecurity.TLS, "me", "old", tokens)


async def test_a_password_that_is_refused_is_not_tried_again() -> None:
    server = Server("other")

    with pytest.raises(LoginRefused):
        await log_in(login(None), server)

    assert server.tried == ["old"]


async def test_a_token_that_is_refused_is_renewed_once() -> None:
    server, tokens = Server("new"), Tokens()

    assert await log_in(login(tokens), server) == "in"
    assert server.tried == ["old", "new"]
    assert (tokens.refused, tokens.doubted) == ([None, "old"], [])


async def test_a_fresh_token_that_is_refused_too_ends_the_login_and_is_in_doubt() -> None:
    server, tokens = Server("other"), Tokens()

    with pytest.raises(LoginRefused):
        await log_in(login(tokens), server)

    assert server.tried == ["old", "new"]
    assert tokens.doubted == ["new"]


async def test_a_lost_connection_renews_no_token() -> None:
    tokens = Tokens()

    with pytest.raises(Unreachable):
        await log_in(login(tokens), Server("other", Unreachable()))

    assert tokens.refused == [None]


def test_a_login_shows_neither_its_password_nor_where_its_tokens_come_from() -> None:
    assert repr(login(Tokens())) == "ServerLogin('me' at mail.test:993, tls)"
