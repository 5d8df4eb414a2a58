"""Polls the flags of mailboxes without MODSEQ in turn, because no STATUS item shows that their flags changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from app.mail.types import Mailbox, MailboxId

COMPARE_SECONDS = 30.0
SECONDS_A_MESSAGE = 0.01
"""Larger mailboxes are compared less often: 100,000 messages every 17 minutes, about 4 kB/s."""


class FlagPolling:
    """Schedules the comparisons."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._compared_at: dict[MailboxId, float] = {}
        self._next_at = 0.0

    @property
    def seconds(self) -> float:
        """Seconds until a mailbox may be due."""
        return max(0.0, self._next_at - self._clock())

    def due(self, mailboxes: Iterable[Mailbox]) -> list[Mailbox]:
        """Mailboxes to compare now. A new one is due a whole interval later."""
        now = self._clock()
        polled = [
            mailbox
            for mailbox in mailboxes
            if mailbox.is_selectable and mailbox.is_complete and not mailbox.highest_modseq
        ]
        previous = self._compared_at
        self._compared_at = {mailbox.id: previous.get(mailbox.id, now) for mailbox in polled}
        due = [mailbox for mailbox in polled if self._compared_at[mailbox.id] + _interval(mailbox) <= now]
        self._compared_at |= {mailbox.id: now for mailbox in due}
        due_times = [self._compared_at[mailbox.id] + _interval(mailbox) for mailbox in polled]
        self._next_at = min(due_times, default=now + COMPARE_SECONDS)
        return due


def _interval(mailbox: Mailbox) -> float:
    return max(COMPARE_SECONDS, mailbox.total * SECONDS_A_MESSAGE)
