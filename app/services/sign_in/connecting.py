"""Connect sessions: a user adds an account, or renews its consent, in a browser and without the API.

A session is opened by one link, in one browser, within some minutes. The state that an authorization server returns
belongs to that session and browser and is accepted once, and so is its code (RFC 6749 §10.12, RFC 7636, RFC 9700
§4.7).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from urllib.parse import urlencode, urlsplit, urlunsplit

import orjson

from app.db import oauth, tokens
from app.db.oauth import StoredSession
from app.db.session import Database, Transaction
from app.errors import AccountNotFound, InvalidRequest, NotFound, NotPermitted
from app.mail.identifiers import new_id, now_ms
from app.mail.storable import json_bytes
from app.mail.types import AccountId, AccountKind
from app.security.secrets import SECRET_LIMIT_CHARS, hash_secret, new_secret
from app.security.vault import Vault
from app.services.access.callers import Caller
from app.services.access.idempotency import Answer, Attempt
from app.services.access.tokens import caller_of, has_ended
from app.services.accounts.accounts import Accounts
from app.services.oauth.apps import OAuthApp, OAuthApps
from app.services.oauth.authorization import Authorization, TokenAnswer

SESSION_SECONDS = 15 * 60
MAX_TRIES = 10
"""The most password attempts in one session."""
CALLBACK_PATH = "/v1/connect/callback"

BrowserOf = Callable[[str], str | None]
"""Returns the browser's secret for a session id; None if the browser never opened that session."""


class ConnectSessionNotFound(NotFound):
    code = "connect_session_not_found"


@dataclass(frozen=True, slots=True)
class SessionOrder:
    """A session to open. `state` is returned at the end.

    `account_id` is reconnected if given, else an account of `kind` is added.
    """

    redirect_url: str
    kind: AccountKind = AccountKind.IMAP
    email: str | None = None
    oauth_app_id: str | None = None
    provider: str | None = None
    account_id: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class NewSession:
    """A new session, with its link, which is returned only once."""

    id: str
    url: str = field(repr=False)
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class OpenConnectSession:
    """A session. `is_app_fixed`: the page offers only its app."""

    id: str
    redirect_url: str
    base_url: str
    kind: str = AccountKind.IMAP.value
    email: str | None = None
    oauth_app_id: str | None = None
    account_id: str | None = None
    state: str | None = None
    is_app_fixed: bool = False
    tries: int = 0
    made_by: str | None = None
    """The token that opened the session; the session ends with it."""

    @property
    def callback_url(self) -> str:
        return self.base_url + CALLBACK_PATH

    @property
    def cookie_path(self) -> str:
        """The path of these pages for cookies; `base_url` may have a path of its own."""
        return urlsplit(self.base_url).path + "/v1/connect"

    def ending(self, **outcome: str) -> str:
        """Return where the browser goes at the end."""
        parts = urlsplit(self.redirect_url)
        parameters = outcome | ({"state": self.state} if self.state is not None else {})
        return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, urlencode(parameters))))))


@dataclass(frozen=True, slots=True)
class Returned:
    """An authorization response that came back through the browser (RFC 6749 §4.1.2), with its issuer (RFC 9207)."""

    state: str = field(repr=False)
    issuer: str | None = None

    @property
    def state_hash(self) -> str:
        return hash_secret(self.state[:SECRET_LIMIT_CHARS])


class Connecting:
    """All connect sessions of this installation."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        apps: OAuthApps,
        authorization: Authorization,
        accounts: Accounts,
        redirect_urls: Iterable[str],
    ) -> None:
        """`redirect_urls`: where sessions may end, besides what their app allows."""
        self._database = database
        self._vault = vault
        self._apps = apps
        self._authorization = authorization
        self._accounts = accounts
        self._redirect_urls = tuple(redirect_urls)

    # ---- opening

    async def open(
        self,
        order: SessionOrder,
        base_url: str,
        by: Caller,
        *,
        attempt: Attempt | None = None,
        answer: Callable[[NewSession], Answer] | None = None,
    ) -> NewSession:
        """Create a session. `base_url`: this installation's URL for browsers. `answer` is stored with `attempt`.

        Raises InvalidRequest with a pointer, NotPermitted.
        """
        visit = await self._allowed(order, base_url, by)
        secret, expires_at_ms = new_secret(), now_ms() + SESSION_SECONDS * 1000
        made = NewSession(visit.id, f"{base_url}/v1/connect/{secret}", expires_at_ms)
        values = _unvisited(visit, secret, expires_at_ms)

        async def work(transaction: Transaction) -> NewSession:
            await oauth.add_session(transaction, values)
            if attempt is not None and answer is not None:
                await attempt.record(transaction, answer(made))
            return made

        return await self._database.write(work)

    async def _allowed(self, order: SessionOrder, base_url: str, by: Caller) -> OpenConnectSession:
        """Check that the caller may open the session, and return it; see `open`."""
        app = await self._app(order)
        await self._check_redirect(order.redirect_url, app)
        kind = await self._kind(order, by)
        if app is not None and not app.serves(kind):
            raise InvalidRequest.at("/kind", "The OAuth app has no server of this kind")
        return OpenConnectSession(
            new_id("con"),
            order.redirect_url,
            base_url,
            kind.value,
            order.email,
            app.id if app else None,
            order.account_id,
            order.state,
            is_app_fixed=app is not None,
            made_by=by.token_id,
        )

    async def _app(self, order: SessionOrder) -> OAuthApp | None:
        if order.oauth_app_id is None and order.provider is None:
            return None
        return await self._apps.chosen(order.oauth_app_id, order.provider)

    async def _check_redirect(self, url: str, app: OAuthApp | None) -> None:
        apps = [app] if app is not None else await self._apps.all()
        allowed = [*self._redirect_urls, *(url_ for app in apps for url_ in app.redirect_urls)]
        if not any(is_below(url, text) for text in allowed):
            raise InvalidRequest.at("/redirect_url", "Neither the OAuth app nor this installation allows this URL")

    async def _kind(self, order: SessionOrder, by: Caller) -> AccountKind:
        """Return the kind of the account to reconnect, or of the new one.

        Raises AccountNotFound, NotPermitted, InvalidRequest.
        """
        if (account_id := order.account_id) is None:
            if by.is_limited:
                raise NotPermitted("A key limited to accounts cannot add an account")
            return order.kind
        by.require_whole_account()
        if by.account_ids is not None and account_id not in by.account_ids:
            raise AccountNotFound
        kind = (await self._accounts.get(AccountId(account_id))).kind
        if kind is AccountKind.EMBEDDED:
            raise InvalidRequest.at("/account_id", "An embedded account has no mail server to connect to")
        return kind

    # ---- visiting

    async def enter(self, secret: str) -> tuple[OpenConnectSession, str]:
        """Open the link for the first time. Return the session and the browser's secret.

        Raises ConnectSessionNotFound.
        """
        secret_hash, browser = hash_secret(secret[:SECRET_LIMIT_CHARS]), new_secret()

        async def work(transaction: Transaction) -> bool:
            return await oauth.claim_session(transaction, secret_hash, hash_secret(browser))

        visit = await self._live(_visit(await oauth.session(self._database, secret_hash)))
        if not await self._database.write(work):
            raise ConnectSessionNotFound
        return visit, browser

    async def visit(self, secret: str, browser_of: BrowserOf, *, may_be_over: bool = False) -> OpenConnectSession:
        """Return a session that this browser opened; `browser_of` returns its secret. Raises ConnectSessionNotFound.

        `may_be_over`: also a session that has ended, for a repeated request.
        """
        stored = await oauth.session(self._database, hash_secret(secret[:SECRET_LIMIT_CHARS]))
        return await self._live(_checked(stored, browser_of, may_be_over=may_be_over))

    async def _live(self, visit: OpenConnectSession) -> OpenConnectSession:
        """Return the session if the token that opened it is still valid. Raises ConnectSessionNotFound."""
        token = None if visit.made_by is None else await tokens.find(self._database, visit.made_by)
        if visit.made_by is not None and (token is None or has_ended(caller_of(token))):
            raise ConnectSessionNotFound
        return visit

    async def try_again(self, visit: OpenConnectSession) -> OpenConnectSession:
        """Count a password attempt. After too many, the session ends and ConnectSessionNotFound is raised."""
        counted = replace(visit, tries=visit.tries + 1)
        if counted.tries > MAX_TRIES:
            await self.end(visit)
            raise ConnectSessionNotFound

        async def work(transaction: Transaction) -> None:
            if not await oauth.note_session(transaction, visit.id, _facts(counted), now_ms()):
                raise ConnectSessionNotFound

        await self._database.write(work)
        return counted

    async def end(self, visit: OpenConnectSession) -> None:
        """End the session."""
        await self._database.write(lambda transaction: oauth.end_session(transaction, visit.id, now_ms()))

    # ---- by consent

    async def begin(self, visit: OpenConnectSession, app_id: str, email: str | None) -> str:
        """Return where to send the browser for a consent. The last call counts. Raises ConnectSessionNotFound."""
        if visit.is_app_fixed and app_id != visit.oauth_app_id:
            raise ConnectSessionNotFound
        app = await self._apps.get(app_id)
        begun = replace(visit, oauth_app_id=app.id, email=email or visit.email)
        state, verifier = new_secret(), secrets.token_urlsafe(48)
        sealed = self._vault.seal(verifier.encode(), visit.id)

        async def work(transaction: Transaction) -> None:
            facts = _facts(begun)
            if not await oauth.begin_session(transaction, visit.id, hash_secret(state), sealed, facts, now_ms()):
                raise ConnectSessionNotFound

        await self._database.write(work)
        return self._authorization.consent_url(app, visit.callback_url, state, verifier, begun.email)

    async def returned(self, returned: Returned, browser_of: BrowserOf) -> OpenConnectSession:
        """Return the session of a browser that comes back from an authorization server; it may be over.

        Raises ConnectSessionNotFound if it does not belong to this browser.
        """
        stored = await oauth.session_of_state(self._database, returned.state_hash)
        return await self._live(_checked(stored, browser_of, may_be_over=True))

    async def take(self, visit: OpenConnectSession, returned: Returned) -> tuple[OAuthApp, str]:
        """End a session whose browser came back, and return its app and PKCE verifier.

        Raises ConnectSessionNotFound if it had ended before, or if a different authorization server answers.
        """
        take = partial(oauth.take_state, state_hash=returned.state_hash, now_ms=now_ms())
        stored = await self._database.write(take)
        if stored is None or stored.verifier is None or visit.oauth_app_id is None:
            raise ConnectSessionNotFound
        app = await self._apps.get(visit.oauth_app_id)
        if returned.issuer is not None and app.endpoints.issuer not in (None, returned.issuer):
            raise ConnectSessionNotFound("The answer came from a different authorization server")
        return app, self._vault.open(stored.verifier, visit.id).decode()

    async def tokens(self, visit: OpenConnectSession, app: OAuthApp, code: str, verifier: str) -> TokenAnswer:
        """Exchange a code for tokens. Raises LoginRefused, ServerRefused, Unreachable …"""
        return await self._authorization.exchange(app, code, visit.callback_url, verifier)


def is_below(url: str, known: str) -> bool:
    """Whether a URL is the known one, or below it at the same web origin."""
    if not (url.isascii() and url.isprintable()) or any(item in url for item in ' \\"<>'):
        return False
    try:
        parts, allowed = urlsplit(url), urlsplit(known)
    except ValueError:
        return False
    if not parts.scheme or parts.scheme in ("javascript", "data", "vbscript", "file", "blob"):
        return False
    if (parts.scheme, parts.netloc.lower()) != (allowed.scheme, allowed.netloc.lower()) or parts.fragment:
        return False
    path, base = parts.path, allowed.path.rstrip("/")
    has_dots = any(step.lower().replace("%2e", ".") in (".", "..") for step in path.split("/"))
    return not has_dots and (path in (allowed.path, base) or path.startswith(base + "/"))


def _unvisited(visit: OpenConnectSession, secret: str, expires_at_ms: int) -> dict[str, object]:
    """Return the row of a session whose link was not opened yet."""
    return {
        "id": visit.id,
        "secret_hash": hash_secret(secret),
        "state_hash": None,
        "browser_hash": None,
        "verifier": None,
        "facts": _facts(visit),
        "expires_at_ms": expires_at_ms,
    }


def _facts(visit: OpenConnectSession) -> str:
    return json_bytes(asdict(visit)).decode()


def _visit(stored: StoredSession | None, *, may_be_over: bool = False) -> OpenConnectSession:
    if stored is None or (stored.expires_at_ms <= now_ms() and not may_be_over):
        raise ConnectSessionNotFound
    return OpenConnectSession(**orjson.loads(stored.facts))


def _checked(stored: StoredSession | None, browser_of: BrowserOf, *, may_be_over: bool = False) -> OpenConnectSession:
    """Return a session of this browser."""
    visit = _visit(stored, may_be_over=may_be_over)
    known = None if stored is None else stored.browser_hash
    browser = browser_of(visit.id)
    if browser is None or known is None or not secrets.compare_digest(hash_secret(browser), known):
        raise ConnectSessionNotFound
    return visit
