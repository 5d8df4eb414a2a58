"""For servers whose HIGHESTMODSEQ does not change with flags: decides when to compare all flags of INBOX.

An announcement that repeats a known change looks the same. Therefore a comparison without a result delays the next one,
longer for larger mailboxes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from app.mail.types import Mailbox

SHORTEST_SECONDS = 5.0
SECONDS_A_MESSAGE = 0.01


class ModseqCheck:
    """Whether the MODSEQ of an account's INBOX is reliable."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_at = 0.0

    def may_compare(self, before: Mailbox, after: Mailbox) -> bool:
        """Whether to compare flags, given INBOX before and after its changes by MODSEQ were read."""
        return after.is_complete and before.highest_modseq == after.highest_modseq and self._next_at <= self._clock()

    def note(self, mailbox: Mailbox, *, has_found: bool) -> None:
        """Record the result of a comparison."""
        seconds = 0.0 if has_found else max(SHORTEST_SECONDS, mailbox.total * SECONDS_A_MESSAGE)
        self._next_at = self._clock() + seconds
