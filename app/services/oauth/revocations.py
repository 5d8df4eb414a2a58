"""Revokes the grants of deleted accounts at their authorization servers, as far as those support it (RFC 7009).

Revocations run in the background: the deletion neither waits for them nor fails with them.
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
"""The most revocations in progress; for further grants, the owner can revoke at the provider."""
AT_ONCE = 10
CLOSE_SECONDS = 3.0
"""How long the process waits at its end for those in progress."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """A grant that was removed from its account, and its app, as they were stored."""

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
        """Remove an account's grants. Return those to revoke; pass them to `begin` after the commit.

        A grant is not revoked if another account of the same address uses the same app: a server may then end all
        grants of that user for the app (RFC 7009 §2.1).
        """
        revocations = []
        for grant in await oauth.take_grants_of(transaction, account_id):
            app = await oauth.app(transaction, grant.oauth_app_id)
            is_needed = await oauth.has_other_account(transaction, grant.oauth_app_id, account_id)
            if app is not None and not grant.is_over and not is_needed:
                revocations.append(Revocation(grant, app))
        return revocations

    def begin(self, revocations: Sequence[Revocation]) -> None:
        """Revoke in the background; the results are logged."""
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
        """Wait a moment for those in progress."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
