"""Records each step of an attempt before it is taken, while the worker still holds the submission's claim.

`phase` of a row with status `sending`: "" before the content; "content" from then on, so that without a reply the
result is uncertain (RFC 5321 §4.5.4.1). With status `sent`: "sent" when the responses are recorded and the copy in Sent
is not; "filing" while the copy is being appended to the mail server; "done".

`attempts` grows with each claim and fences writes of an earlier holder of the lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from app.cluster.claims import Renewal
from app.db import submissions as rows
from app.db.session import Database, Transaction
from app.errors import Conflict
from app.services.sending.submissions import recipients_of, recipients_to_json


class Steps:
    """Claims submissions and records their progress. Raises Conflict once another worker has claimed a submission."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, row: rows.Submission) -> rows.Submission | None:
        """Claim a row and return it; None when another worker claimed it, or when it is due later now."""
        # a claim lost in a power cut is made again: nothing has been sent by then
        return await self._database.write(lambda transaction: rows.claim(transaction, row), is_durable=False)

    async def record(
        self, row: rows.Submission, changes: Mapping[str, object], *, is_durable: bool = True
    ) -> rows.Submission:
        """Record changes and return the updated row."""
        return await self._database.write(
            lambda transaction: record_in(transaction, row, changes), is_durable=is_durable
        )

    async def current(self, row: rows.Submission) -> rows.Submission | None:
        """The current row; None when another worker has claimed it or it is deleted."""
        current = await rows.get(self._database, row.account_id, row.id)
        return current if current is not None and current.attempts == row.attempts else None

    async def settled_meanwhile(self, row: rows.Submission) -> rows.Submission | None:
        """The row after another worker took over this attempt as abandoned; None while it sends it again."""
        current = await rows.get(self._database, row.account_id, row.id)
        return current if current is not None and current.status != "sending" else None

    def renewal(self, row: rows.Submission) -> Renewal:
        """The renewal of the claim.

        The attempt continues when the claim is lost: a message whose content has begun is not cut off, and its
        responses correct what another worker concluded meanwhile. Before the content the fence stops the attempt.
        """
        return Renewal(partial(rows.renew, self._database, row))


async def record_in(transaction: Transaction, row: rows.Submission, changes: Mapping[str, object]) -> rows.Submission:
    """Record changes within a larger transaction. Keeps recipient states that DSNs reported meanwhile."""
    if "recipients" in changes and (stored := await rows.locked(transaction, row.account_id, row.id)) is not None:
        changes = {**changes, "recipients": _with_reports(str(changes["recipients"]), stored.recipients)}
    if not await rows.change(transaction, row, changes):
        raise Conflict("Another worker has taken this submission")
    return replace(row, **changes)  # type: ignore[arg-type]


def _with_reports(changed: str, stored: str) -> str:
    reported = {
        recipient.address: recipient
        for recipient in recipients_of(stored)
        if recipient.status in ("delivered", "bounced")
    }
    return recipients_to_json([reported.get(recipient.address, recipient) for recipient in recipients_of(changed)])
