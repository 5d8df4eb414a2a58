"""What follows from the answers of an attempt: each recipient's state, and the submission's."""

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
"""RFC 5321 §4.5.4.1 asks for 4–5 days."""
TOO_LATE = "4.4.7"
"""Delivery time expired (RFC 3463 §3.5)."""


def first_due_ms(row: rows.Submission) -> int:
    """When the first attempt was due: what is given up or late counts from then."""
    return max(row.created_at_ms, row.send_at_ms or 0)


def is_too_late(row: rows.Submission, now_ms: int) -> bool:
    return now_ms - first_due_ms(row) > GIVE_UP_MS


def answered(recipients: Sequence[Recipient], results: Sequence[RecipientResult]) -> tuple[Recipient, ...]:
    """The recipients with what was said of those that were open, or that another worker took for uncertain."""
    by_address = {one.address: one for one in results}
    return tuple(
        Recipient(one.address, found.verdict, found.enhanced_code, found.response)
        if (one.is_open or one.status == Verdict.UNCERTAIN) and (found := by_address.get(one.address)) is not None
        else one
        for one in recipients
    )


def given_up(recipients: Sequence[Recipient]) -> tuple[Recipient, ...]:
    """The recipients when no further attempt is made."""
    return tuple(
        replace(
            one, status=Verdict.REFUSED, enhanced_code=TOO_LATE, response=f"Given up: {one.response or 'no answer'}"
        )
        if one.is_open
        else one
        for one in recipients
    )


def status_of(recipients: Sequence[Recipient]) -> str:
    """deferred before uncertain before sent before failed: what is most open decides."""
    found = {one.status for one in recipients}
    if found & {"pending", "deferred"}:
        return "deferred"
    if Verdict.UNCERTAIN in found:
        return "uncertain"
    return "sent" if found & {"accepted", "delivered", "bounced"} else "failed"


def wait_ms(attempts: int) -> int:
    """Until the next attempt."""
    seconds = RETRY_SECONDS[min(attempts, len(RETRY_SECONDS)) - 1]
    return int(seconds * 1000 * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
