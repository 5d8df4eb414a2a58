"""Requests to authorization servers: consent URLs and tokens (RFC 6749, RFC 7636, RFC 9207)."""

from __future__ import annotations

import asyncio
import contextlib
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.errors import LoginRefused, OriginAnswer, ServerProtocolError, ServerRefused, TimedOut, Unreachable
from app.mail.identifiers import now_ms
from app.security.http import client_options
from app.security.netguard import NetGuard
from app.services.oauth.apps import OAuthApp

if TYPE_CHECKING:
    from authlib.integrations.httpx_client import AsyncOAuth2Client
    from httpx2 import Response

DEADLINE_SECONDS = 20.0
DEFAULT_LIFE_SECONDS = 3600
"""Lifetime of an access token whose server does not report one (RFC 6749 §5.1)."""
MAX_LIFE_SECONDS = 30 * 24 * 3600
MAX_TOKEN_CHARS = 16 * 1024
_OVER = frozenset({"invalid_grant", "interaction_required", "consent_required", "login_required"})
"""Errors that only a new consent can resolve (RFC 6749 §5.2, OpenID Connect Core §3.1.2.6)."""
_CLIENT = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})
"""Errors that all accounts of an app have in common."""
_LATER = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
_OTHER = frozenset({"invalid_request", "invalid_scope", "access_denied", "invalid_target", "unsupported_token_type"})
"""Further errors of the specifications. Other texts are not repeated: they may contain what was sent."""
_REFRESH = "refresh_token"
_METHODS = {"post": "client_secret_post", "basic": "client_secret_basic", "none": "none"}


class ConsentRequired(LoginRefused):
    """The grant has ended: it was revoked, it expired, or it was never valid."""

    def __init__(
        self, detail: str = "The account's owner must give consent again", origin: OriginAnswer | None = None
    ) -> None:
        super().__init__(detail, origin)


class ClientRefused(ServerRefused):
    """The authorization server does not accept the app: no account owner can resolve this."""


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """The tokens of a response (RFC 6749 §5.1). `refresh_token` None: the one that was used stays valid."""

    access_token: str = field(repr=False)
    expires_at_ms: int
    refresh_token: str | None = field(default=None, repr=False)
    scopes: str | None = None
    email: str | None = None
    """The address of the user who consented, if an ID token has it."""


class Authorization:
    """Sends requests to the authorization server of an app.

    Methods raise AddressNotAllowed, Unreachable, TimedOut, ServerRefused, ServerProtocolError; ConsentRequired if the
    grant is no longer valid.
    """

    def __init__(self, guard: NetGuard, tls: ssl.SSLContext) -> None:
        self._guard = guard
        self._tls = tls

    def consent_url(self, app: OAuthApp, redirect_uri: str, state: str, verifier: str, email: str | None) -> str:
        """Return the URL at which a user consents, with a PKCE challenge (S256)."""
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        extra = dict(app.consent) | ({"login_hint": email} if email else {})
        return str(
            prepare_grant_uri(
                app.endpoints.authorization_url,
                client_id=app.client_id,
                response_type="code",
                redirect_uri=redirect_uri,
                scope=" ".join(app.scopes),
                state=state,
                code_challenge=create_s256_code_challenge(verifier),
                code_challenge_method="S256",
                **extra,
            )
        )

    async def exchange(self, app: OAuthApp, code: str, redirect_uri: str, verifier: str) -> TokenAnswer:
        """Exchange a code for tokens."""
        return await self._ask(
            app,
            lambda client: client.fetch_token(
                app.endpoints.token_url,
                grant_type="authorization_code",
                code=code,
                redirect_uri=redirect_uri,
                code_verifier=verifier,
            ),
        )

    async def renew(self, app: OAuthApp, refresh_token: str) -> TokenAnswer:
        """Return a new access token, and a new refresh token if the server rotates them."""
        return await self._ask(
            app, lambda client: client.refresh_token(app.endpoints.token_url, refresh_token=refresh_token)
        )

    async def revoke(self, app: OAuthApp, refresh_token: str) -> bool:
        """End a grant (RFC 7009 §2.1), which may have ended already. False if the server has no endpoint for it."""
        if (url := app.endpoints.revocation_url) is None:
            return False
        try:
            async with asyncio.timeout(DEADLINE_SECONDS), self._client(app) as client:
                answer = await client.revoke_token(url, token=refresh_token, token_type_hint=_REFRESH)
        except TimeoutError:
            raise TimedOut("The authorization server did not answer in time") from None
        if answer.status_code != 200:
            raise ServerRefused(f"The authorization server answered {answer.status_code}")
        return True

    async def _ask(
        self, app: OAuthApp, question: Callable[[AsyncOAuth2Client], Awaitable[Mapping[str, Any]]]
    ) -> TokenAnswer:
        from authlib.common.errors import AuthlibBaseError
        from httpx2 import HTTPStatusError

        try:
            async with asyncio.timeout(DEADLINE_SECONDS), self._client(app) as client:
                return _answer(await question(client))
        except TimeoutError:
            raise TimedOut("The authorization server did not answer in time") from None
        except AuthlibBaseError as error:
            raise _refusal(str(error.error)) from None
        except HTTPStatusError as error:
            raise Unreachable(f"The authorization server answered {error.response.status_code}") from None
        except ValueError:
            raise ServerProtocolError("The authorization server's answer cannot be read") from None

    @contextlib.asynccontextmanager
    async def _client(self, app: OAuthApp) -> AsyncIterator[AsyncOAuth2Client]:
        from authlib.integrations.httpx_client import AsyncOAuth2Client

        method = "none" if app.client_secret is None else app.endpoints.client_auth
        async with AsyncOAuth2Client(
            app.client_id,
            app.client_secret,
            token_endpoint_auth_method=_METHODS[method],
            revocation_endpoint_auth_method=_METHODS[method],
            **client_options(self._guard, self._tls),
        ) as client:
            for hook in ("access_token_response", "refresh_token_response"):
                client.register_compliance_hook(hook, _readable)
            yield client


def _readable(response: Response) -> Response:
    """Check that Authlib can parse a response: an object whose times are numbers. Raises Unreachable for status 429."""
    if response.status_code == 429:
        raise Unreachable("The authorization server limits requests (429)")
    said = response.json()
    if not isinstance(said, dict) or not all(_is_time(said.get(name)) for name in ("expires_in", "expires_at")):
        raise ServerProtocolError("The authorization server's answer cannot be read")
    return response


def _is_time(value: object) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, (int, float)) and math.isfinite(value))


def _refusal(code: str) -> LoginRefused | ServerRefused | Unreachable:
    """Return the exception for an error of the token endpoint. Only codes of the specifications are repeated."""
    known_code = code if code in _OVER | _LATER | _CLIENT | _OTHER else "an unknown error"
    origin = OriginAnswer("oauth", known_code)
    if code in _OVER:
        return ConsentRequired(origin=origin)
    if code in _LATER:
        return Unreachable("The authorization server cannot answer now", origin)
    if code in _CLIENT:
        return ClientRefused(f"The authorization server refused this client: {known_code}", origin)
    return ServerRefused(f"The authorization server returned no token: {known_code}", origin)


def _answer(token: Mapping[str, Any]) -> TokenAnswer:
    access_token, refresh_token = token.get("access_token"), token.get("refresh_token")
    if not _is_token(access_token) or not (refresh_token is None or _is_token(refresh_token)):
        raise ServerProtocolError("The authorization server returned no token")
    life = token.get("expires_in", DEFAULT_LIFE_SECONDS)
    seconds = int(life) if str(life).isdigit() and len(str(life)) < 10 else DEFAULT_LIFE_SECONDS
    scopes = token.get("scope")
    return TokenAnswer(
        access_token=str(access_token),
        expires_at_ms=now_ms() + min(seconds, MAX_LIFE_SECONDS) * 1000,
        refresh_token=refresh_token,
        scopes=scopes if isinstance(scopes, str) else None,
        email=_email(token.get("id_token")),
    )


def _is_token(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TOKEN_CHARS and value.isascii() and value.isprintable()


def _email(id_token: object) -> str | None:
    """Return the address in an ID token.

    It came directly from its issuer, so its signature need not be checked (OpenID Connect Core §3.1.3.7, 6).
    """
    if not isinstance(id_token, str) or len(id_token) > MAX_TOKEN_CHARS:
        return None
    import orjson
    from joserfc import jws
    from joserfc.errors import JoseError

    try:
        claims = orjson.loads(jws.extract_compact(id_token.encode()).payload)
    except (JoseError, ValueError):
        return None
    email = claims.get("email") if isinstance(claims, dict) else None
    return email if isinstance(email, str) and len(email) <= 320 else None
