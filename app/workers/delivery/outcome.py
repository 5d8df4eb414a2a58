"""Computes the state of each recipient and of the submission from the responses of an attempt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from app.db import submissions as rows
from app.mail.backend import RecipientResult, Verdict
from app.services.sending.submissions import Recipient

RETRY_SECONDS = (60, 300, 900, 1800, 3600, 7200, 14400)
"""Waits between attempts; the last one repeats."""
GIVE_UP_MS = 4 * 24 * 3600 * 1000
"""RFC 5321 §4.5.4.1 recommends 4–5 days."""
TOO_LATE = "4.4.7"
"""Delivery time expired (RFC 3463 §3.5)."""


def first_due_ms(row: rows.Submission) -> int:
    """Time of the first attempt, from which the limits for delays and for giving up are counted."""
    return max(row.created_at_ms, row.send_at_ms or 0)


def is_too_late(row: rows.Submission, now_ms: int) -> bool:
    return now_ms - first_due_ms(row) > GIVE_UP_MS


def answered(recipients: Sequence[Recipient], results: Sequence[RecipientResult]) -> tuple[Recipient, ...]:
    """Recipients with the results of those that were open or that another worker marked as uncertain."""
    by_address = {result.address: result for result in results}
    return tuple(
        Recipient(recipient.address, result.verdict, result.enhanced_code, result.response)
        if (recipient.is_open or recipient.status == Verdict.UNCERTAIN)
        and (result := by_address.get(recipient.address)) is not None
        else recipient
        for recipient in recipients
    )


def given_up(recipients: Sequence[Recipient]) -> tuple[Recipient, ...]:
    """Recipients after the last attempt: those still open are refused."""
    return tuple(
        replace(
            recipient,
            status=Verdict.REFUSED,
            enhanced_code=TOO_LATE,
            response=f"Given up: {recipient.response or 'no answer'}",
        )
        if recipient.is_open
        else recipient
        for recipient in recipients
    )


def status_of(recipients: Sequence[Recipient]) -> str:
    """Status of a submission: the first of deferred, uncertain, sent, failed that applies to a recipient."""
    statuses = {recipient.status for recipient in recipients}
    if statuses & {"pending", "deferred"}:
        return "deferred"
    if Verdict.UNCERTAIN in statuses:
        return "uncertain"
    return "sent" if statuses & {"accepted", "delivered", "bounced"} else "failed"


def wait_ms(attempts: int) -> int:
    """Time until the next attempt."""
    seconds = RETRY_SECONDS[min(attempts, len(RETRY_SECONDS)) - 1]
    return int(seconds * 1000 * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
