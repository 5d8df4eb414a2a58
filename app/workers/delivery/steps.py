"""Each step of an attempt on record before it is taken, as long as the attempt still holds its submission.

`phase` of a row that is `sending`: "" nothing has left; "content" the message was about to go, so that without a reply
nobody knows (RFC 5321 §4.5.4.1). Of one that is `sent`: "sent" the answers are on record, the copy in Sent is not;
"filing" the copy is on its way to an origin; "done".

`attempts` grows with each claim and fences what an earlier holder of the lease still writes.
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
    """Claims submissions and records how far they are. Conflict once another worker has taken one."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, row: rows.Submission) -> rows.Submission | None:
        """Take a row for this worker, as it is now; None when another was quicker, or when it is due later now."""
        # a claim that a power cut loses is made again: nothing has left by then
        return await self._database.write(lambda transaction: rows.claim(transaction, row), is_durable=False)

    async def record(
        self, row: rows.Submission, changes: Mapping[str, object], *, is_durable: bool = True
    ) -> rows.Submission:
        """The row as it is then."""
        return await self._database.write(
            lambda transaction: record_in(transaction, row, changes), is_durable=is_durable
        )

    async def current(self, row: rows.Submission) -> rows.Submission | None:
        """The row as it is now; None when it is no longer ours, or gone."""
        found = await rows.get(self._database, row.account_id, row.id)
        return found if found is not None and found.attempts == row.attempts else None

    async def settled_meanwhile(self, row: rows.Submission) -> rows.Submission | None:
        """The row as another worker that took this attempt for dead has left it; None while it sends it again."""
        found = await rows.get(self._database, row.account_id, row.id)
        return found if found is not None and found.status != "sending" else None

    def renewal(self, row: rows.Submission) -> Renewal:
        """What keeps the claim. The attempt goes on when it is lost: a message whose content has begun is not cut, and
        its answers correct what another worker concludes meanwhile. Before its content the fence stops it."""
        return Renewal(partial(rows.renew, self._database, row))


async def record_in(transaction: Transaction, row: rows.Submission, changes: Mapping[str, object]) -> rows.Submission:
    """The same as a part of a larger transaction. What reports said meanwhile of recipients stays said."""
    if "recipients" in changes and (now := await rows.locked(transaction, row.account_id, row.id)) is not None:
        changes = {**changes, "recipients": _with_reports(str(changes["recipients"]), now.recipients)}
    if not await rows.change(transaction, row, changes):
        raise Conflict("Another worker has taken this submission")
    return replace(row, **changes)  # type: ignore[arg-type]


def _with_reports(changed: str, now: str) -> str:
    reported = {
        recipient.address: recipient for recipient in recipients_of(now) if recipient.status in ("delivered", "bounced")
    }
    return recipients_to_json([reported.get(recipient.address, recipient) for recipient in recipients_of(changed)])
