"""What routes ask for by annotation: the caller's rights, the account, the services.

The right that a route needs stands in its signature: `account: ReadableAccount` is the account of the path, checked
against the token, which holds `mail.read`. An account that the token may not see and one that does not exist look
alike. `Access.scope` can be read without a request, and a test holds every route to having one.
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
"""Where the scope of a request carries what was found before its body was read: caller, account, what is left of rates.

Code that already knows the caller, such as a WebSocket, sets it.
"""
CONNECTION_KEY = "postgate.connection"
"""Where the server puts the connection that a request came by."""
ACCOUNT_ID_CHARS = 100


@dataclass(kw_only=True)
class AccountServices:
    """Who may call, and how accounts are reached."""

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
    """What is done with the mail of accounts."""

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
    """Every service that a route may call; the application holds it as `app.state.services`."""

    settings: Settings
    note_follower: Callable[[str], None]
    """To be called with the id of an account that somebody calls for: its mail is looked at more often for a while."""
    health: Health
    traces: ProtocolLogs
    remote_images: RemoteImages
    draining: asyncio.Event
    """Set when the process is about to end: streams say goodbye."""
    limits: RateLimits = field(default_factory=RateLimits)
    turns: Turns = field(default_factory=Turns)
    """Shared by the streams that catch up."""


def services_of(connection: HTTPConnection) -> Services:
    return cast("Services", connection.app.state.services)


async def authenticate(connection: HTTPConnection) -> Caller:
    """Who calls, by `Authorization: Bearer`; checked and counted once a request. NotAuthenticated, NotPermitted.

    A call over a WebSocket brings its caller, and counts like any other. RateLimited.
    """
    scope, services = connection.scope, services_of(connection)
    if CALLER_KEY not in scope:
        scope[CALLER_KEY] = await _bearer(connection, services)
    caller = cast("Caller", scope[CALLER_KEY])
    if RATES_KEY not in scope:
        scope[RATES_KEY] = services.limits.hit(caller, services.settings.requests_per_minute)
    return caller


def mark_signed_in(connection: HTTPConnection) -> None:
    """Let the server know that the client of this connection has shown a token: it has priority over strangers."""
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
    """Who calls, by a ticket, which works once. NotAuthenticated, NotPermitted."""
    services = services_of(connection)
    caller = await services.tickets.redeem(ticket, connection.client.host if connection.client else None)
    _check_origin(connection, services.settings, caller)
    mark_signed_in(connection)
    return caller


def _check_origin(connection: HTTPConnection, settings: Settings, caller: Caller) -> None:
    """A token that names the pages it is for works from no other."""
    origin = connection.headers.get("origin")
    if caller.origins is None or origin is None:
        return
    if not is_allowed(origin, connection.headers.get("host", ""), settings, caller):
        raise NotPermitted("The token may not be used from pages of this origin")


class Access:
    """A dependency that declares and checks what a route needs: a scope, just a token, or nothing.

    `admit` runs before the body is read; the dependency itself hands over what `admit` found.
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
        """Look up what the path names."""


class _Public(Access):
    async def admit(self, connection: HTTPConnection) -> None:
        """Nothing to check."""

    async def __call__(self) -> None:
        """Nothing to hand over."""


class _AnyCaller(Access):
    async def __call__(self, connection: HTTPConnection) -> Caller:
        return _caller_of(connection)


class _TokenMaker(_AnyCaller):
    """A key with the scope, or a sign-in, which makes tokens for its own account."""

    def _check(self, caller: Caller) -> None:
        if not caller.is_sign_in:
            super()._check(caller)


class _InstallAdmin(_AnyCaller):
    """A key that is not limited to a part of the install."""

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
    """`other`: a scope that does in place of `scope`; `is_whole`: not for tokens that see a part of the account."""

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
    """Also let in by a ticket in the query: a browser's EventSource can send no header."""

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
"""For `dependencies=` of a route that needs no token."""
CurrentCaller = Annotated[Caller, Depends(_current_caller)]
"""The caller beside an account of the path; no right of its own."""
SessionCaller = Annotated[Caller, Depends(_AnyCaller(None))]
"""Any token: for what concerns the token itself."""
InstallAdmin = Annotated[Caller, Depends(_InstallAdmin(Scope.ADMIN))]
"""A key that is not limited to accounts: for what all accounts share."""
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
"""Events in full for `mail.read`, ids and types for `push`."""
AdministeredAccount = Annotated[AccountId, Depends(_AccountFor(Scope.ADMIN, is_whole=True))]
