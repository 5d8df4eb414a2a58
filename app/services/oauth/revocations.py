"""Ends the consents of accounts that are deleted at the servers that gave them (RFC 7009): as far as they let us.

It runs beside the deletion, which waits for none of it and fails by none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.db import oauth
from app.db.oauth import StoredApp, StoredGrant
from app.db.session import Transaction
from app.errors import GatewayError
from app.services.oauth.apps import OAuthApps
from app.services.oauth.authorization import Authorization
from app.telemetry import get_logger

log = get_logger(__name__)

WAITING_LIMIT = 1_000
"""Revocations under way; what comes beyond is left to the owner, who can revoke it at the provider."""
AT_ONCE = 10
CLOSE_SECONDS = 3.0
"""How long the end of the process waits for those under way."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """A grant that was taken from its account, and the app that it was given to, as they were kept."""

    grant: StoredGrant
    app: StoredApp


class Revocations:
    """All revocations of this process."""

    def __init__(
        self, apps: OAuthApps, authorization: Authorization, refresh_token_of: Callable[[StoredGrant], str]
    ) -> None:
        self._apps = apps
        self._authorization = authorization
        self._refresh_token_of = refresh_token_of
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, transaction: Transaction, account_id: str) -> list[Revocation]:
        """Take an account's grants away; those that can be revoked, to `begin` with once this is committed.

        One that another account of the same address has from the same app too stays in force: a server may end all
        that the app was ever given by that person (RFC 7009 §2.1).
        """
        found = []
        for grant in await oauth.take_grants_of(transaction, account_id):
            app = await oauth.app(transaction, grant.oauth_app_id)
            is_needed = await oauth.has_other_account(transaction, grant.oauth_app_id, account_id)
            if app is not None and not grant.is_over and not is_needed:
                found.append(Revocation(grant, app))
        return found

    def begin(self, revocations: Sequence[Revocation]) -> None:
        """Revoke in the background; what comes of it is logged."""
        for revocation in revocations:
            if len(self._tasks) >= WAITING_LIMIT:
                log.info("grant_not_revoked", grant_id=revocation.grant.id, error="too_many")
                continue
            task = asyncio.create_task(self._revoke(revocation))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _revoke(self, revocation: Revocation) -> None:
        grant_id = revocation.grant.id
        try:
            app, token = self._apps.opened(revocation.app), self._refresh_token_of(revocation.grant)
            async with self._turns:
                is_revoked = await self._authorization.revoke(app, token)
        except GatewayError as error:
            log.info("grant_not_revoked", grant_id=grant_id, error=error.code)
        else:
            log.info("grant_revoked" if is_revoked else "grant_cannot_be_revoked", grant_id=grant_id)

    async def close(self) -> None:
        """Give those under way a moment to end."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
