"""Servers whose HIGHESTMODSEQ does not change when flags do: when to compare all flags of INBOX instead.

A change that is announced twice looks the same the second time. So a comparison that found nothing delays the next one,
the longer the larger the mailbox is.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from app.mail.types import Mailbox

SHORTEST_SECONDS = 5.0
SECONDS_A_MESSAGE = 0.01


class ModseqCheck:
    """Whether the MODSEQ of an account's INBOX is to be believed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_at = 0.0

    def may_compare(self, before: Mailbox, after: Mailbox) -> bool:
        """Whether to compare, as INBOX was before the changes since its MODSEQ were read and as it is after."""
        return after.is_complete and before.highest_modseq == after.highest_modseq and self._next_at <= self._clock()

    def note(self, mailbox: Mailbox, *, has_found: bool) -> None:
        """A comparison ended."""
        seconds = 0.0 if has_found else max(SHORTEST_SECONDS, mailbox.total * SECONDS_A_MESSAGE)
        self._next_at = self._clock() + seconds
