"""Mailboxes whose origin keeps no MODSEQ: no number there tells that flags changed, so they are compared in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from app.mail.types import Mailbox, MailboxId

COMPARE_SECONDS = 30.0
SECONDS_A_MESSAGE = 0.01
"""A mailbox is compared the more rarely the larger it is: one of 100,000 messages every 17 minutes, some 4 kB/s."""


class FlagPolling:
    """When each of them is due."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._compared_at: dict[MailboxId, float] = {}
        self._next_at = 0.0

    @property
    def seconds(self) -> float:
        """Until something may be due."""
        return max(0.0, self._next_at - self._clock())

    def due(self, mailboxes: Iterable[Mailbox]) -> list[Mailbox]:
        """Those to be compared now; one that was not known before is due a whole turn later."""
        now = self._clock()
        unheard = [
            mailbox
            for mailbox in mailboxes
            if mailbox.is_selectable and mailbox.is_complete and not mailbox.highest_modseq
        ]
        before = self._compared_at
        self._compared_at = {mailbox.id: before.get(mailbox.id, now) for mailbox in unheard}
        due = [mailbox for mailbox in unheard if self._compared_at[mailbox.id] + _turn(mailbox) <= now]
        self._compared_at |= {mailbox.id: now for mailbox in due}
        turns = [self._compared_at[mailbox.id] + _turn(mailbox) for mailbox in unheard]
        self._next_at = min(turns, default=now + COMPARE_SECONDS)
        return due


def _turn(mailbox: Mailbox) -> float:
    return max(COMPARE_SECONDS, mailbox.total * SECONDS_A_MESSAGE)
