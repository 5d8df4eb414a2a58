"""Each step of an attempt on record before it is taken, as long as the attempt still holds its submission.

`phase` of a row that is `sending`: "" nothing has left; "content" the message was about to go, so that without a reply
nobody knows (RFC 5321 §4.5.4.1). Of one that is `sent`: "sent" the answers are on record, the copy in Sent is not;
"filing" the copy is on its way to an origin; "done".

`attempts` grows with each claim and fences what an earlier holder of the lease still writes.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from app.db import submissions as rows
from app.db.session import Database, Transaction
from app.errors import Conflict
from app.mail.identifiers import now_ms
from app.services.submissions import recipients_of, recipients_to_json
from app.workers.loop import attempt

LEASE_SECONDS = 120.0


class Steps:
    """Claims submissions and records how far they are. Conflict once another worker has taken one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, row: rows.Submission) -> rows.Submission | None:
        """Take a row for this worker, as it is now; None when another was quicker, or when it is due later now."""
        changes: dict[str, object] = {"lease_until_ms": _lease_end_ms(), "attempts": row.attempts + 1}
        if row.status in rows.WAITING:
            changes |= {"status": "sending", "phase": ""}

        async def work(transaction: Transaction) -> rows.Submission | None:
            if not await rows.change(transaction, row, changes, is_claim=True):
                return None
            return await rows.get(transaction, row.account_id, row.id)

        # a claim that a power cut loses is made again: nothing has left by then
        return await self._database.write(work, is_durable=False)

    async def record(
        self, row: rows.Submission, changes: dict[str, object], *, is_durable: bool = True
    ) -> rows.Submission:
        """The row as it is then."""

        async def work(transaction: Transaction) -> None:
            await record_in(transaction, row, changes)

        await self._database.write(work, is_durable=is_durable)
        return replace(row, **changes)  # type: ignore[arg-type]

    async def current(self, row: rows.Submission) -> rows.Submission | None:
        """The row as it is now; None when it is no longer ours, or gone."""
        found = await rows.get(self._database, row.account_id, row.id)
        return found if found is not None and found.attempts == row.attempts else None

    async def settled_meanwhile(self, row: rows.Submission) -> rows.Submission | None:
        """The row as another worker that took this attempt for dead has left it; None while it sends it again."""
        found = await rows.get(self._database, row.account_id, row.id)
        return found if found is not None and found.status != "sending" else None

    def lease_kept(self, row: rows.Submission) -> _LeaseKeeper:
        return _LeaseKeeper(self._database, row)


async def record_in(transaction: Transaction, row: rows.Submission, changes: dict[str, object]) -> None:
    """The same as a part of a larger transaction. What reports said meanwhile of recipients stays said."""
    if "recipients" in changes and (now := await rows.locked(transaction, row.account_id, row.id)) is not None:
        changes["recipients"] = _with_reports(str(changes["recipients"]), now.recipients)
    if not await rows.change(transaction, row, changes):
        raise Conflict("Another worker has taken this submission")


def _with_reports(changed: str, now: str) -> str:
    reported = {one.address: one for one in recipients_of(now) if one.status in ("delivered", "bounced")}
    return recipients_to_json([reported.get(one.address, one) for one in recipients_of(changed)])


def _lease_end_ms() -> int:
    return now_ms() + int(LEASE_SECONDS * 1000)


class _LeaseKeeper:
    """Renews a lease at a third of its length while a block runs."""

    def __init__(self, database: Database, row: rows.Submission) -> None:
        self._database = database
        self._row = row

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._keep())

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            renewal = partial(rows.renew, self._database, self._row, _lease_end_ms())
            await attempt("renew_submission", renewal, submission_id=self._row.id)  # the next one is still in time
