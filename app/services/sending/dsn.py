"""Reports on what we sent (RFC 3464), when they come back: a recipient's mail was delivered, or bounced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.db import submissions as rows
from app.db.session import Transaction
from app.mail.delta import Delta
from app.mail.events import SUBMISSION_EVENTS
from app.mail.identifiers import now_ms
from app.mail.types import AccountId
from app.mailstore.index import Index
from app.mime.dsn import Report, Reported
from app.services.sending.submissions import Recipient, note_of, recipients_of, recipients_to_json, state_of

SETTLES = {"failed": "bounced", "delivered": "delivered"}
"""What an action makes of a recipient; the others say that it is still on its way, or out of sight."""
UNSETTLED = ("accepted", "uncertain")


class Reports:
    """Takes what reports say of submissions."""

    def __init__(self, index: Index) -> None:
        self._index = index

    async def take(self, account_id: AccountId, report: Report) -> None:
        """Put on record what a report says; AccountNotFound. Safe to repeat."""

        async def decide(transaction: Transaction) -> Delta:
            return await settle(transaction, account_id, report)

        await self._index.change(account_id, decide)


async def settle(transaction: Transaction, account_id: AccountId, report: Report) -> Delta:
    """The same as a part of a larger transaction: the events. Nothing for what is none of the account's."""
    row = await _reported_on(transaction, account_id, report)
    if row is None:
        return Delta()
    before = recipients_of(row.recipients)
    after = tuple(_settled(recipient, report.recipients, is_only=len(before) == 1) for recipient in before)
    news = {now.status for was, now in zip(before, after, strict=True) if was != now}
    is_known = row.status == "uncertain" and all(recipient.status != "uncertain" for recipient in after)
    changes: dict[str, object] = {
        "recipients": recipients_to_json(after),
        "status": "sent" if is_known else row.status,
        "updated_at_ms": now_ms(),
    }
    if not news or not await rows.change(transaction, row, changes):
        return Delta()
    state = state_of(replace(row, **changes))  # type: ignore[arg-type]
    return Delta(notes=tuple(note_of(state, SUBMISSION_EVENTS[f"submission.{status}"]) for status in sorted(news)))


async def _reported_on(transaction: Transaction, account_id: AccountId, report: Report) -> rows.Submission | None:
    """By the envelope id that we gave it; by its Message-ID where a server on the way did not keep that."""
    if report.envelope_id is not None:
        found = await rows.locked(transaction, account_id, report.envelope_id)
        if found is not None:
            return found
    if report.message_id is None:
        return None
    return await rows.with_header(transaction, account_id, report.message_id)


def _settled(recipient: Recipient, reported: Sequence[Reported], *, is_only: bool) -> Recipient:
    """What is said of a recipient; of the only one, what is said of the only one, for mail is forwarded."""
    if recipient.status not in UNSETTLED:
        return recipient
    address = recipient.address.lower()
    for item in reported:
        is_meant = address in item.addresses or (is_only and len(reported) == 1)
        if is_meant and item.action in SETTLES:
            return Recipient(recipient.address, SETTLES[item.action], item.status, item.diagnostic)
    return recipient
