"""Which credential a login tries: a password once, or an access token and, where that is refused, one fresh token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.backends.sasl import Credential
from app.errors import LoginRefused
from app.mail.types import ServerLogin

T = TypeVar("T")


async def log_in(login: ServerLogin, attempt: Callable[[Credential], Awaitable[T]]) -> T:
    """What `attempt` returns: it connects and logs in with the credential that it is given.

    A token may be revoked before it expires, so one that is refused is renewed once; nothing else is tried again.
    Raises what `attempt` raises, and what `AccessTokens.token` does.
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
