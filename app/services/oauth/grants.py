"""Grants: the consents of account owners, and the access tokens that they provide.

A token is renewed shortly before it expires, or when a mail server refused it; by one process, once, for all callers.
A new refresh token is stored before anyone uses the access token that came with it (RFC 9700 §4.14.2), so that a
crash loses a consent only between the server's response and our commit. While the database fails, new tokens stay in
memory until they are stored, and no request is made with the old ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import orjson

from app import faults
from app.cluster.claims import LeaseGrace, Renewal, renewed
from app.db import oauth
from app.db.session import Database, Transaction
from app.errors import GatewayError, LoginRefused, ServerProtocolError, ServerRefused, TimedOut, Unreachable
from app.mail.backoff import reconnect_delays
from app.mail.identifiers import new_id, now_ms
from app.security.secrets import hash_secret
from app.security.vault import Vault
from app.services.oauth.apps import OAuthApps
from app.services.oauth.authorization import (
    DEADLINE_SECONDS,
    Authorization,
    ClientRefused,
    ConsentRequired,
    TokenAnswer,
)
from app.services.oauth.backoff import Backoff
from app.services.oauth.revocations import Revocations
from app.telemetry import get_logger

log = get_logger(__name__)

LEEWAY_MS = 60_000
"""A token that expires within this time is renewed first."""
WAIT_SECONDS = 2 * DEADLINE_SECONDS + 15
"""Longer than another process's lease."""
POLL_SECONDS = 0.2
DOUBT_SECONDS = 60.0
"""How long no token replaces one that was declined when it was new."""


class Persist(Protocol):
    """Repeats a step until it succeeds, with delays between; see `app.workers.loop.persist`."""

    async def __call__(self, name: str, step: Callable[[], Awaitable[None]], **facts: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Consent:
    """The tokens of a new grant. Without an access token, or with one of unknown lifetime, the first use renews."""

    oauth_app_id: str
    refresh_token: str = field(repr=False)
    access_token: str = field(default="", repr=False)
    expires_at_ms: int = 0
    scopes: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """A stored grant."""

    id: str
    oauth_app_id: str
    account_id: str | None
    scopes: str
    refresh_token: str = field(repr=False)
    access_token: str = field(repr=False)
    expires_at_ms: int
    is_over: bool
    version: int

    def is_usable(self, refused: str | None) -> bool:
        """Whether its access token may be used for a login."""
        is_live = self.expires_at_ms > now_ms() + LEEWAY_MS
        return bool(self.access_token) and self.access_token != refused and is_live


@dataclass(slots=True)
class _Lease:
    """This process's claim on the renewal of one grant. It is identified by its expiry time."""

    database: Database
    grant_id: str
    until_ms: int

    async def renew(self) -> bool:
        until_ms = await self.database.write(
            lambda transaction: oauth.keep_lease(transaction, self.grant_id, self.until_ms), is_durable=False
        )
        self.until_ms = self.until_ms if until_ms is None else until_ms
        return until_ms is not None

    async def end(self) -> None:
        await self.database.write(lambda transaction: oauth.end_lease(transaction, self.grant_id, self.until_ms))


@dataclass(frozen=True, slots=True)
class GrantTokens:
    """The access tokens of one grant; see `AccessTokens`."""

    grant_id: str
    grants: Grants = field(repr=False)

    async def token(self, *, refused: str | None = None) -> str:
        return await self.grants.token(self.grant_id, refused=refused)

    def doubt(self, fresh: str) -> None:
        self.grants.doubt(self.grant_id, fresh)


class Grants:
    """All grants of this installation."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        apps: OAuthApps,
        authorization: Authorization,
        *,
        persist: Persist,
        is_alone: bool = False,
        delays: Callable[[], Iterator[float]] = reconnect_delays,
        on_over: Callable[[], None] = lambda: None,
    ) -> None:
        """`is_alone`: no other process uses this database, so that no leases are needed.

        `persist` repeats the step of that name until it succeeds. `on_over` is called when an account's grant has
        ended, regardless of the caller that needed a token.
        """
        self._database = database
        self._vault = vault
        self._apps = apps
        self._authorization = authorization
        self._on_over = on_over
        self._is_alone = is_alone
        self.revocations = Revocations(apps, authorization, lambda stored: self._opened(stored).refresh_token)
        self._persist = persist
        self._patience = LeaseGrace(database)
        self._renewals: dict[str, asyncio.Task[str]] = {}
        self._unstored: dict[str, asyncio.Task[None]] = {}
        """By grant: the task that stores new tokens, however long it takes."""
        self._pauses = Backoff(delays)
        """Of authorization servers, by app, and of grants whose requests they refuse."""
        self._doubts: dict[str, tuple[str, float]] = {}
        """By grant: the hash of a new token that was declined, and until when no other replaces it."""

    def tokens_of(self, grant_id: str) -> GrantTokens:
        return GrantTokens(grant_id, self)

    # ---- a grant's life

    @asynccontextmanager
    async def trial(self, consent: Consent | None) -> AsyncIterator[GrantTokens | None]:
        """Store a new grant while its logins are tried.

        If the block fails, remove it, unless an account has it by then. It is stored first, so that tokens renewed
        during the trial are not lost. A caller that is cancelled while the account is being committed fails too, but
        the account exists, and keeps its grant.
        """
        if consent is None:
            yield None
            return
        grant_id = await self._add(consent)
        try:
            yield self.tokens_of(grant_id)
        except BaseException:
            await self._write(lambda transaction: oauth.remove_unbound_grant(transaction, grant_id))
            raise

    async def _add(self, consent: Consent) -> str:
        grant_id = new_id("grt")
        values = {
            "id": grant_id,
            "oauth_app_id": consent.oauth_app_id,
            "account_id": None,
            "scopes": consent.scopes,
            "secrets": self._sealed(grant_id, consent.refresh_token, consent.access_token),
            "access_expires_at_ms": consent.expires_at_ms,
            "is_over": False,
            "version": 0,
            "lease_until_ms": 0,
            "updated_at_ms": now_ms(),
        }
        await self._write(lambda transaction: oauth.add_grant(transaction, values))
        return grant_id

    async def _write(self, work: Callable[[Transaction], Any]) -> Any:
        return await self._database.write(work)

    async def seal_anew(self) -> int:
        """Encrypt all grants with the newest master key. Return how many used an older one."""
        count = 0
        for stored in await oauth.grants(self._database):
            if self._vault.is_current(stored.secrets):
                continue
            sealed = self._vault.seal(self._vault.open(stored.secrets, stored.id), stored.id)
            reseal = partial(oauth.reseal_grant, id_=stored.id, version=stored.version, secrets=sealed)
            count += await self._database.write(reseal)
        return count

    # ---- access tokens

    async def token(self, grant_id: str, *, refused: str | None = None) -> str:
        """Return an access token to log in with; see `AccessTokens.token`."""
        grant = await self._grant(grant_id)
        if grant.is_usable(refused):
            return grant.access_token
        if refused is not None and self._is_doubted(grant_id, refused):
            raise LoginRefused("The mail server refuses the tokens of the authorization server")
        task = self._renewals.get(grant_id)
        is_joined = task is not None
        if task is None:
            task = asyncio.create_task(self._renewed(grant_id, refused))
            self._renewals[grant_id] = task
            task.add_done_callback(partial(self._renewal_ended, grant_id))
        token = await asyncio.shield(task)  # the caller may leave; the server's response must still be stored
        return await self.token(grant_id, refused=refused) if is_joined and token == refused else token

    def doubt(self, grant_id: str, fresh: str) -> None:
        """See `AccessTokens.doubt`: meanwhile, requests for mail do not call the authorization server."""
        now = time.monotonic()
        self._doubts = {id_: doubt for id_, doubt in self._doubts.items() if now < doubt[1]}
        self._doubts[grant_id] = hash_secret(fresh), now + DOUBT_SECONDS

    def _is_doubted(self, grant_id: str, refused: str) -> bool:
        doubted, until = self._doubts.get(grant_id, ("", 0.0))
        return time.monotonic() < until and doubted == hash_secret(refused)

    def _renewal_ended(self, grant_id: str, task: asyncio.Task[str]) -> None:
        self._renewals.pop(grant_id, None)
        if not task.cancelled():
            task.exception()  # raised in all waiting callers; there may be none left

    async def close(self) -> None:
        """Wait for running renewals, which have deadlines, then for revocations and for tokens to be stored.

        The caller sets a limit: the database may be unavailable.
        """
        await asyncio.gather(*self._renewals.values(), return_exceptions=True)
        await self.revocations.close()
        await asyncio.gather(*map(asyncio.shield, self._unstored.values()), return_exceptions=True)

    async def _renewed(self, grant_id: str, refused: str | None) -> str:
        """Return a token that another process has renewed meanwhile, or renew it."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._until_stored(grant_id)
                while True:
                    grant = await self._grant(grant_id)
                    if grant.is_usable(refused):
                        return grant.access_token
                    if grant.is_over:
                        raise ConsentRequired
                    if any(map(self._pauses.is_paused, (grant.oauth_app_id, grant.id))):
                        raise Unreachable("The authorization server returned no token a moment ago")
                    if self._is_alone:
                        return await self._renew(grant, None)
                    if lease := await self._lease(grant):
                        async with renewed(Renewal(lease.renew)):
                            return await self._renew(grant, lease)
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise TimedOut("The authorization server did not answer in time") from None

    async def _lease(self, grant: Grant) -> _Lease | None:
        slack_ms = self._patience.slack_ms
        lease = partial(oauth.lease_grant, id_=grant.id, version=grant.version, slack_ms=slack_ms)
        until_ms = await self._write(lease)
        return None if until_ms is None else _Lease(self._database, grant.id, until_ms)

    async def _renew(self, grant: Grant, lease: _Lease | None) -> str:
        """Request new tokens and store them.

        After the request, the response is awaited even if the lease is lost: it may hold the only valid refresh
        token.
        """
        self._pauses.begin(grant.oauth_app_id)
        try:
            app = await self._apps.get(grant.oauth_app_id)
            answer = await self._authorization.renew(app, grant.refresh_token)
        except ConsentRequired:
            self._pauses.succeeded(grant.oauth_app_id)
            await self._end(grant)
            raise
        except BaseException as error:
            self._note_failure(grant, error)
            self._log_failure(grant, error)
            if lease is not None:
                await lease.end()
            raise
        self._pauses.succeeded(grant.oauth_app_id)
        self._pauses.succeeded(grant.id)
        faults.point("grant.answered")
        await self._keep(grant, answer)
        faults.point("grant.kept")
        return answer.access_token

    def _note_failure(self, grant: Grant, error: BaseException) -> None:
        """Back off. A failure of one account does not back off the app's other accounts."""
        if isinstance(error, (Unreachable, ServerProtocolError, ClientRefused)):
            self._pauses.failed(grant.oauth_app_id)
        elif isinstance(error, ServerRefused):
            self._pauses.succeeded(grant.oauth_app_id)
            self._pauses.failed(grant.id)

    async def _end(self, grant: Grant) -> None:
        async def work(transaction: Transaction) -> None:
            await oauth.end_grant(transaction, grant.id, grant.version, now_ms())
            if grant.account_id is not None:
                transaction.after_commit(self._on_over)

        await self._write(work)
        log.info("grant_over", account_id=grant.account_id, grant_id=grant.id)

    def _log_failure(self, grant: Grant, error: BaseException) -> None:
        code = error.code if isinstance(error, GatewayError) else type(error).__name__
        log.info("token_not_renewed", account_id=grant.account_id, grant_id=grant.id, error=code)

    async def _keep(self, grant: Grant, answer: TokenAnswer) -> None:
        """Store new tokens. Only they are valid now, so this continues if the database or the caller fails."""
        step = partial(self._store, grant, answer)
        task = asyncio.create_task(self._persist("tokens", step, grant_id=grant.id))
        self._unstored[grant.id] = task
        task.add_done_callback(lambda _: self._unstored.pop(grant.id, None))
        await asyncio.shield(task)

    async def _until_stored(self, grant_id: str) -> None:
        if (task := self._unstored.get(grant_id)) is not None:
            await asyncio.shield(task)

    async def _store(self, grant: Grant, answer: TokenAnswer) -> None:
        sealed = self._sealed(grant.id, answer.refresh_token or grant.refresh_token, answer.access_token)
        scopes = answer.scopes or grant.scopes
        is_kept = await self._write(
            lambda transaction: oauth.renew_grant(
                transaction, grant.id, grant.version, sealed, scopes, answer.expires_at_ms, now_ms()
            )
        )
        if not is_kept:
            log.warning("token_not_kept", account_id=grant.account_id, grant_id=grant.id)

    # ---- rows

    async def _grant(self, grant_id: str) -> Grant:
        stored = await oauth.grant(self._database, grant_id)
        if stored is None:
            raise LoginRefused("The account's consent was withdrawn")
        return self._opened(stored)

    def _opened(self, stored: oauth.StoredGrant) -> Grant:
        refresh_token, access_token = orjson.loads(self._vault.open(stored.secrets, stored.id))
        return Grant(
            id=stored.id,
            oauth_app_id=stored.oauth_app_id,
            account_id=stored.account_id,
            scopes=stored.scopes,
            refresh_token=refresh_token,
            access_token=access_token,
            expires_at_ms=stored.access_expires_at_ms,
            is_over=stored.is_over,
            version=stored.version,
        )

    def _sealed(self, grant_id: str, refresh_token: str, access_token: str) -> bytes:
        return sealed_tokens(self._vault, grant_id, refresh_token, access_token)


def sealed_tokens(vault: Vault, grant_id: str, refresh_token: str, access_token: str) -> bytes:
    """Return the column `secrets` of a grant."""
    return vault.seal(orjson.dumps([refresh_token, access_token]), grant_id)
