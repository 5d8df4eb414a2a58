"""Reports when an account's quota changes, or when its usage crosses a tenth of the limit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

from app.db import syncing
from app.db.session import Transaction
from app.errors import MailServerError
from app.mail.backend import Quota
from app.mail.delta import Delta, Note
from app.mail.events import QuotaChanged
from app.mail.storable import json_bytes
from app.mirror.account import Mirror
from app.telemetry import get_logger

log = get_logger(__name__)

CHECK_SECONDS = 600.0
STEPS = 10
"""Steps per limit: only crossing a step is reported."""


class QuotaReporter:
    """Reads the quota of one account at intervals and compares it with the last reported values."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._due_at = 0.0

    async def check(self) -> None:
        """Read the quota if it is due. After an error it is read again at the next interval."""
        if time.monotonic() < self._due_at:
            return
        self._due_at = time.monotonic() + CHECK_SECONDS
        account_id = self._mirror.account_id
        try:
            quotas = await self._mirror.backend.quotas()
        except MailServerError as error:
            log.info("quota_not_reported", account_id=account_id, error=error.code)
            return
        if quotas is None:
            return

        async def decide(transaction: Transaction) -> Delta:
            """Store the values, and report them unless they are the first."""
            known = await syncing.quotas_told(transaction, account_id)
            if known == marks:
                return Delta()
            await syncing.set_state(transaction, account_id, quotas=marks)
            event = QuotaChanged("origin", [asdict(quota) for quota in quotas])
            return Delta(notes=(Note(event, account_id),) if known else ())

        marks = _marks(quotas)
        await self._mirror.index.change(account_id, decide, fence=self._mirror.epoch, is_durable=False)


def _marks(quotas: Sequence[Quota]) -> str:
    """The reported values as JSON: each limit, and the step that its use has reached."""
    return json_bytes(
        sorted([quota.root, quota.resource.value, quota.limit or 0, _step(quota)] for quota in quotas)
    ).decode()


def _step(quota: Quota) -> int:
    if quota.limit is None:
        return 0
    return min(quota.used * STEPS // quota.limit, STEPS) if quota.limit else STEPS
