"""Delivery reports (RFC 3464) on submissions: a recipient's mail was delivered, or bounced."""

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
"""The recipient's state for each final action; other actions are not final."""
UNSETTLED = ("accepted", "uncertain")


class Reports:
    """Applies delivery reports to submissions."""

    def __init__(self, index: Index) -> None:
        self._index = index

    async def take(self, account_id: AccountId, report: Report) -> None:
        """Record a report. Raises AccountNotFound. Safe to repeat."""

        async def decide(transaction: Transaction) -> Delta:
            return await settle(transaction, account_id, report)

        await self._index.change(account_id, decide)


async def settle(transaction: Transaction, account_id: AccountId, report: Report) -> Delta:
    """Record a report within a larger transaction. Return its events; none if the submission is not the account's."""
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
    """Find the submission by its envelope id, or by its Message-ID if a server on the way dropped the envelope id."""
    if report.envelope_id is not None:
        submission = await rows.locked(transaction, account_id, report.envelope_id)
        if submission is not None:
            return submission
    if report.message_id is None:
        return None
    return await rows.with_header(transaction, account_id, report.message_id)


def _settled(recipient: Recipient, reported: Sequence[Reported], *, is_only: bool) -> Recipient:
    """Return a recipient with its reported state.

    If both sides have one recipient, addresses may differ (forwarding).
    """
    if recipient.status not in UNSETTLED:
        return recipient
    address = recipient.address.lower()
    for item in reported:
        is_meant = address in item.addresses or (is_only and len(reported) == 1)
        if is_meant and item.action in SETTLES:
            return Recipient(recipient.address, SETTLES[item.action], item.status, item.diagnostic)
    return recipient
