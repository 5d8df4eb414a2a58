"""Grants: what owners of accounts consented to, and the access tokens that come of it.

A token is renewed shortly before it ends, or when a mail server refused it; by one process, once, however many ask. A
refresh token that replaces another is durable before anyone uses what came with it (RFC 9700 §4.14.2), so that a
crash costs a consent only where it falls between the server's answer and our commit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from app import faults
from app.db import oauth
from app.db.session import Database, Row, Transaction
from app.errors import GatewayError, LoginRefused, ServerProtocolError, ServerRefused, TimedOut, Unreachable
from app.mail.backoff import reconnect_delays
from app.mail.identifiers import new_id, now_ms
from app.security.vault import Vault
from app.services.authorization import DEADLINE_SECONDS, Authorization, ConsentRequired, TokenAnswer
from app.services.oauth_apps import OAuthApps
from app.services.revocations import Revocations
from app.telemetry import get_logger

log = get_logger(__name__)

LEEWAY_MS = 60_000
"""A token that ends this soon is renewed first."""
LEASE_MS = round(DEADLINE_SECONDS * 1000) + 10_000
WAIT_SECONDS = 2 * DEADLINE_SECONDS + 15
"""Another process's lease may end first."""
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Consent:
    """What a new grant starts with. Without an access token, or one of unknown life, the first use renews."""

    oauth_app_id: str
    refresh_token: str = field(repr=False)
    access_token: str = field(default="", repr=False)
    expires_at_ms: int = 0
    scopes: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant as it is kept."""

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
        """Whether its access token is worth a login."""
        is_live = self.expires_at_ms > now_ms() + LEEWAY_MS
        return bool(self.access_token) and self.access_token != refused and is_live


@dataclass(frozen=True, slots=True)
class GrantTokens:
    """The access tokens of one grant; see `AccessTokens`."""

    grant_id: str
    grants: Grants = field(repr=False)

    async def token(self, *, refused: str | None = None) -> str:
        return await self.grants.token(self.grant_id, refused=refused)


@dataclass(slots=True)
class _Pause:
    """After an app's authorization server could not be reached: no account asks it before then."""

    delays: Iterator[float]
    until: float


class Grants:
    """All grants of this install."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        apps: OAuthApps,
        authorization: Authorization,
        *,
        is_alone: bool = False,
        delays: Callable[[], Iterator[float]] = reconnect_delays,
    ) -> None:
        """`is_alone`: no other process works on this database, so a lease is needed by nobody."""
        self._database = database
        self._vault = vault
        self._apps = apps
        self._authorization = authorization
        self._delays = delays
        self._is_alone = is_alone
        self.revocations = Revocations(apps, authorization, lambda row: self._opened(row).refresh_token)
        self._renewals: dict[str, asyncio.Task[str]] = {}
        self._pauses: dict[str, _Pause] = {}

    def tokens_of(self, grant_id: str) -> GrantTokens:
        return GrantTokens(grant_id, self)

    # ---- a grant's life

    @asynccontextmanager
    async def trial(self, consent: Consent | None) -> AsyncIterator[GrantTokens | None]:
        """Keep a new grant while its logins are tried; it goes when the block fails. Nothing where there is none.

        It is stored first: what the trial itself renews must not be lost. In the end `bind` gives it to an account.
        """
        if consent is None:
            yield None
            return
        grant_id = await self._add(consent)
        try:
            yield self.tokens_of(grant_id)
        except BaseException:
            await self._write(lambda transaction: oauth.remove_grant(transaction, grant_id))
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
        """Seal all grants with the newest master key; how many had an older one."""
        count = 0
        for row in await oauth.grants(self._database):
            if self._vault.is_current(bytes(row[4])):
                continue
            sealed = self._vault.seal(self._vault.open(bytes(row[4]), row[0]), row[0])

            async def work(transaction: Transaction, row: Row = row, sealed: bytes = sealed) -> bool:
                return await oauth.reseal_grant(transaction, row[0], row[7], sealed)

            count += await self._database.write(work)
        return count

    # ---- access tokens

    async def token(self, grant_id: str, *, refused: str | None = None) -> str:
        """An access token to log in with now; see `AccessTokens.token`."""
        grant = await self._grant(grant_id)
        if grant.is_usable(refused):
            return grant.access_token
        task = self._renewals.get(grant_id)
        is_joined = task is not None
        if task is None:
            task = asyncio.create_task(self._renewed(grant_id, refused))
            self._renewals[grant_id] = task
            task.add_done_callback(partial(self._renewal_ended, grant_id))
        token = await asyncio.shield(task)  # whoever asked may leave; what the server answers must still be kept
        return await self.token(grant_id, refused=refused) if is_joined and token == refused else token

    def _renewal_ended(self, grant_id: str, task: asyncio.Task[str]) -> None:
        self._renewals.pop(grant_id, None)
        if not task.cancelled():
            task.exception()  # told to those who wait; there may be nobody left

    async def close(self) -> None:
        """Wait for the renewals that run: each ends within its deadline. Then for revocations, a moment."""
        await asyncio.gather(*self._renewals.values(), return_exceptions=True)
        await self.revocations.close()

    async def _renewed(self, grant_id: str, refused: str | None) -> str:
        """A token that another process has renewed meanwhile, or one that we renew."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    grant = await self._grant(grant_id)
                    if grant.is_usable(refused):
                        return grant.access_token
                    if grant.is_over:
                        raise ConsentRequired
                    self._check_pause(grant.oauth_app_id)
                    if self._is_alone or await self._lease(grant):
                        return await self._renew(grant)
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise TimedOut("The authorization server did not answer in time") from None

    async def _lease(self, grant: Grant) -> bool:
        now = now_ms()
        return bool(
            await self._write(
                lambda transaction: oauth.lease_grant(transaction, grant.id, grant.version, now, now + LEASE_MS)
            )
        )

    async def _renew(self, grant: Grant) -> str:
        try:
            app = await self._apps.get(grant.oauth_app_id)
            answer = await self._authorization.renew(app, grant.refresh_token)
        except ConsentRequired:
            await self._write(lambda transaction: oauth.end_grant(transaction, grant.id, grant.version, now_ms()))
            log.info("grant_over", account_id=grant.account_id, grant_id=grant.id)
            raise
        except (Unreachable, ServerRefused, ServerProtocolError) as error:
            self._pause(grant.oauth_app_id)
            await self._release(grant, error)
            raise
        except BaseException as error:
            await self._release(grant, error)
            raise
        self._pauses.pop(grant.oauth_app_id, None)
        faults.point("grant.answered")
        await self._keep(grant, answer)
        faults.point("grant.kept")
        return answer.access_token

    async def _release(self, grant: Grant, error: BaseException) -> None:
        code = error.code if isinstance(error, GatewayError) else type(error).__name__
        log.info("token_not_renewed", account_id=grant.account_id, grant_id=grant.id, error=code)
        await self._write(lambda transaction: oauth.end_lease(transaction, grant.id))

    async def _keep(self, grant: Grant, answer: TokenAnswer) -> None:
        sealed = self._sealed(grant.id, answer.refresh_token or grant.refresh_token, answer.access_token)
        scopes = answer.scopes or grant.scopes
        await self._write(
            lambda transaction: oauth.renew_grant(transaction, grant.id, sealed, scopes, answer.expires_at_ms, now_ms())
        )

    def _check_pause(self, app_id: str) -> None:
        pause = self._pauses.get(app_id)
        if pause is not None and time.monotonic() < pause.until:
            raise Unreachable("The authorization server could not be reached a moment ago")

    def _pause(self, app_id: str) -> None:
        pause = self._pauses.setdefault(app_id, _Pause(self._delays(), 0.0))
        pause.until = time.monotonic() + next(pause.delays)

    # ---- rows

    async def _grant(self, grant_id: str) -> Grant:
        row = await oauth.grant(self._database, grant_id)
        if row is None:
            raise LoginRefused("The account's consent is gone")
        return self._opened(row)

    def _opened(self, row: Row) -> Grant:
        id_, app_id, account_id, scopes, secrets, expires_at_ms, is_over, version = row
        refresh_token, access_token = orjson.loads(self._vault.open(bytes(secrets), id_))
        return Grant(
            id_, app_id, account_id, scopes, refresh_token, access_token, expires_at_ms, bool(is_over), version
        )

    def _sealed(self, grant_id: str, refresh_token: str, access_token: str) -> bytes:
        return self._vault.seal(orjson.dumps([refresh_token, access_token]), grant_id)
