"""Chooses the credential of a login: a password once, or an access token and, after a refusal, one fresh token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.backends.sasl import Credential
from app.errors import LoginRefused
from app.mail.types import ServerLogin

T = TypeVar("T")


async def log_in(login: ServerLogin, attempt: Callable[[Credential], Awaitable[T]]) -> T:
    """Return the result of `attempt`, which connects and logs in with the given credential.

    A token may be revoked before it expires, so a refused token is renewed once; nothing else is retried.
    Raises what `attempt` and `AccessTokens.token` raise.
    """
    if login.tokens is None:
        return await attempt(Credential(login.username, login.password))
    token = await login.tokens.token()
    try:
        return await attempt(Credential(login.username, token, is_token=True))
    except LoginRefused:
        fresh = await login.tokens.token(refused=token)
    try:
        return await attempt(Credential(login.username, fresh, is_token=True))
    except LoginRefused:
        login.tokens.doubt(fresh)
        raise
