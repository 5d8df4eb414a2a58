"""Dependencies of routes: the caller's rights, the account, the services.

A route's signature declares the right that it needs: `account: ReadableAccount` is the account of the path, for a
token that has `mail.read` and can access the account. An account that the token cannot access gives the same error as
an account that does not exist. `Access.scope` is readable without a request; a test checks that every route has one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Path
from fastapi.requests import HTTPConnection

from app.api.origins import is_allowed
from app.api.queries import refuse_unknown
from app.api.stream.turns import Turns
from app.errors import AccountNotFound, NotPermitted, TokenMissing
from app.mail.protocol_log import ProtocolLogs
from app.mail.types import AccountId
from app.services.access.callers import Caller, Scope
from app.services.access.idempotency import Idempotency
from app.services.access.limits import RateLimits
from app.services.access.links import Links
from app.services.access.tickets import Tickets
from app.services.access.tokens import Tokens
from app.services.access.watch import AccessWatch
from app.services.accounts.accounts import Accounts
from app.services.accounts.autoconfig import Autoconfig
from app.services.accounts.polling import Polling
from app.services.accounts.quotas import Quotas
from app.services.changing.bulk import Bulk
from app.services.changing.imports import Imports
from app.services.changing.keywords import Keywords
from app.services.changing.mailboxes import Mailboxes
from app.services.changing.messages import Messages
from app.services.changing.threads import Threads
from app.services.following.changes import ChangesSince
from app.services.following.consumers import Consumers
from app.services.following.counts import Counts
from app.services.following.events import Events
from app.services.following.states import States
from app.services.health import Health
from app.services.oauth.apps import OAuthApps
from app.services.oauth.grants import Grants
from app.services.reading.content import Content
from app.services.reading.listing import Listing
from app.services.reading.remote_images import RemoteImages
from app.services.reading.searching import Searching
from app.services.reading.views import Views
from app.services.sending.composing import Composer
from app.services.sending.submissions import Submissions
from app.services.sign_in.account_setup import AccountSetup
from app.services.sign_in.connecting import Connecting
from app.services.sign_in.passwords import Passwords
from app.services.sign_in.sessions import Sessions
from app.settings import Settings

__all__ = [
    "CALLER_KEY",
    "RATES_KEY",
    "AdminCaller",
    "AdministeredAccount",
    "Caller",
    "CurrentCaller",
    "DeletableAccount",
    "EventsAccount",
    "InstallAdmin",
    "MailboxesAccount",
    "ModifiableAccount",
    "PublicAccess",
    "PushCaller",
    "ReadableAccount",
    "ReadingCaller",
    "Scope",
    "SendingAccount",
    "Services",
    "SessionCaller",
    "SettingsAccount",
    "TokenMaker",
    "mark_signed_in",
    "redeem",
    "services_of",
]

CALLER_KEY = "postgate.caller"
ACCOUNT_KEY = "postgate.account"
RATES_KEY = "postgate.rates"
"""Keys of the ASGI scope for results from before the body is read: caller, account, remaining rates.

Code that already knows the caller, such as a WebSocket, sets `CALLER_KEY`.
"""
CONNECTION_KEY = "postgate.connection"
"""Key of the ASGI scope: the server's connection that the request came over."""
ACCOUNT_ID_CHARS = 100


@dataclass(kw_only=True)
class AccountServices:
    """Services for authentication, accounts and OAuth."""

    tokens: Tokens
    tickets: Tickets
    sessions: Sessions
    passwords: Passwords
    access: AccessWatch
    accounts: Accounts
    autoconfig: Autoconfig
    oauth_apps: OAuthApps
    grants: Grants
    connecting: Connecting
    enrolment: AccountSetup
    idempotency: Idempotency


@dataclass(kw_only=True)
class MailServices:
    """Services for the mail of accounts."""

    quotas: Quotas
    polling: Polling
    mailboxes: Mailboxes
    keywords: Keywords
    content: Content
    views: Views
    links: Links
    listing: Listing
    searching: Searching
    messages: Messages
    bulk: Bulk
    threads: Threads
    imports: Imports
    states: States
    events: Events
    changes: ChangesSince
    consumers: Consumers
    counts: Counts
    submissions: Submissions
    composer: Composer


@dataclass(kw_only=True)
class Services(AccountServices, MailServices):
    """Every service that a route may call, stored as `app.state.services`."""

    settings: Settings
    note_follower: Callable[[str], None]
    """Call it with the id of an account that a request names: Postgate polls its mail more often for a while."""
    health: Health
    traces: ProtocolLogs
    remote_images: RemoteImages
    draining: asyncio.Event
    """Set when the process is about to end: streams send a closing frame."""
    limits: RateLimits = field(default_factory=RateLimits)
    turns: Turns = field(default_factory=Turns)
    """Shared by streams that are catching up."""


def services_of(connection: HTTPConnection) -> Services:
    return cast("Services", connection.app.state.services)


async def authenticate(connection: HTTPConnection) -> Caller:
    """Return the caller of `Authorization: Bearer`, checked and counted once per request.

    A call over a WebSocket already has its caller, and counts like any other request. Raises NotAuthenticated,
    NotPermitted or RateLimited.
    """
    scope, services = connection.scope, services_of(connection)
    if CALLER_KEY not in scope:
        scope[CALLER_KEY] = await _bearer(connection, services)
    caller = cast("Caller", scope[CALLER_KEY])
    if RATES_KEY not in scope:
        scope[RATES_KEY] = services.limits.hit(caller, services.settings.requests_per_minute)
    return caller


def mark_signed_in(connection: HTTPConnection) -> None:
    """Mark the connection as authenticated: it has priority over connections without a token."""
    link = connection.scope.get(CONNECTION_KEY)
    if link is not None:
        link.mark_signed_in()


async def _bearer(connection: HTTPConnection, services: Services) -> Caller:
    kind, _, secret = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        raise TokenMissing
    caller = await services.tokens.authenticate(secret.strip(), connection.client.host if connection.client else None)
    _check_origin(connection, services.settings, caller)
    mark_signed_in(connection)
    return caller


async def redeem(connection: HTTPConnection, ticket: str) -> Caller:
    """Return the caller of a ticket, which works once. Raises NotAuthenticated or NotPermitted."""
    services = services_of(connection)
    caller = await services.tickets.redeem(ticket, connection.client.host if connection.client else None)
    _check_origin(connection, services.settings, caller)
    mark_signed_in(connection)
    return caller


def _check_origin(connection: HTTPConnection, settings: Settings, caller: Caller) -> None:
    """Raise NotPermitted if the token is limited to web origins and the request is from another."""
    origin = connection.headers.get("origin")
    if caller.origins is None or origin is None:
        return
    if not is_allowed(origin, connection.headers.get("host", ""), settings, caller):
        raise NotPermitted("The token is not allowed from this web origin")


class Access:
    """A dependency that declares and checks what a route requires: a scope, any token, or nothing.

    `admit` runs before the body is read; the dependency returns what `admit` found.
    """

    def __init__(self, scope: Scope | None, *, is_public: bool = False) -> None:
        self.scope = scope
        self.is_public = is_public

    async def admit(self, connection: HTTPConnection) -> None:
        """Raises NotAuthenticated, NotPermitted, RateLimited, AccountNotFound or InvalidRequest."""
        caller = await authenticate(connection)
        self._check(caller)
        await self._find(connection, caller)
        refuse_unknown(connection)

    def _check(self, caller: Caller) -> None:
        """Raises NotPermitted."""
        if self.scope is not None:
            caller.require(self.scope)

    async def _find(self, connection: HTTPConnection, caller: Caller) -> None:
        """Look up the resource that the path names."""


class _Public(Access):
    async def admit(self, connection: HTTPConnection) -> None:
        """Admit every request."""

    async def __call__(self) -> None:
        """Return nothing."""


class _AnyCaller(Access):
    async def __call__(self, connection: HTTPConnection) -> Caller:
        return _caller_of(connection)


class _TokenMaker(_AnyCaller):
    """A server key with the scope, or a sign-in, which can create tokens for its own account."""

    def _check(self, caller: Caller) -> None:
        if not caller.is_sign_in:
            super()._check(caller)


class _InstallAdmin(_AnyCaller):
    """A server key that is not limited to certain accounts."""

    def _check(self, caller: Caller) -> None:
        super()._check(caller)
        caller.require_whole_install()


AccountPath = Annotated[
    str,
    Path(
        alias="account_id",
        description="An account id, or `me` for the account of a token that has one account.",
        max_length=ACCOUNT_ID_CHARS,
    ),
]


class _AccountFor(Access):
    """`other`: a scope accepted instead of `scope`. `is_whole`: refuse tokens that see only some mailboxes."""

    def __init__(self, scope: Scope, *, other: Scope | None = None, is_whole: bool = False) -> None:
        super().__init__(scope)
        self._other = other
        self._is_whole = is_whole

    def _check(self, caller: Caller) -> None:
        if self._other not in caller.scopes:
            super()._check(caller)
        if self._is_whole:
            caller.require_whole_account()

    async def _find(self, connection: HTTPConnection, caller: Caller) -> None:
        account_id = caller.account(connection.path_params["account_id"][: ACCOUNT_ID_CHARS + 1])
        if not await services_of(connection).accounts.exists(account_id):
            raise AccountNotFound
        connection.scope[ACCOUNT_KEY] = account_id
        services_of(connection).note_follower(account_id)

    async def __call__(self, connection: HTTPConnection, _: AccountPath) -> AccountId:
        return cast("AccountId", connection.scope[ACCOUNT_KEY])


class _EventsOf(_AccountFor):
    """Also accepts a ticket in the query: a browser's EventSource cannot send headers."""

    async def admit(self, connection: HTTPConnection) -> None:
        ticket = connection.query_params.get("ticket")
        if ticket is not None and CALLER_KEY not in connection.scope:
            connection.scope[CALLER_KEY] = await redeem(connection, ticket)
        await super().admit(connection)


def _caller_of(connection: HTTPConnection) -> Caller:
    return cast("Caller", connection.scope[CALLER_KEY])


async def _current_caller(connection: HTTPConnection) -> Caller:
    return _caller_of(connection)


PublicAccess = Depends(_Public(None, is_public=True))
"""For `dependencies=` of a route that requires no token."""
CurrentCaller = Annotated[Caller, Depends(_current_caller)]
"""The caller, next to an account of the path; requires no further right."""
SessionCaller = Annotated[Caller, Depends(_AnyCaller(None))]
"""Any token, for operations on the token itself."""
InstallAdmin = Annotated[Caller, Depends(_InstallAdmin(Scope.ADMIN))]
"""A server key that is not limited to accounts, for resources that all accounts share."""
TokenMaker = Annotated[Caller, Depends(_TokenMaker(Scope.ADMIN))]
AdminCaller = Annotated[Caller, Depends(_AnyCaller(Scope.ADMIN))]
PushCaller = Annotated[Caller, Depends(_AnyCaller(Scope.PUSH))]
ReadingCaller = Annotated[Caller, Depends(_AnyCaller(Scope.MAIL_READ))]

ReadableAccount = Annotated[AccountId, Depends(_AccountFor(Scope.MAIL_READ))]
ModifiableAccount = Annotated[AccountId, Depends(_AccountFor(Scope.MAIL_MODIFY))]
DeletableAccount = Annotated[AccountId, Depends(_AccountFor(Scope.MAIL_DELETE))]
SendingAccount = Annotated[AccountId, Depends(_AccountFor(Scope.MAIL_SEND))]
MailboxesAccount = Annotated[AccountId, Depends(_AccountFor(Scope.MAILBOXES))]
SettingsAccount = Annotated[AccountId, Depends(_AccountFor(Scope.SETTINGS, is_whole=True))]
EventsAccount = Annotated[AccountId, Depends(_EventsOf(Scope.MAIL_READ, other=Scope.PUSH))]
"""Complete events for `mail.read`; ids and types for `push`."""
AdministeredAccount = Annotated[AccountId, Depends(_AccountFor(Scope.ADMIN, is_whole=True))]
