"""Polls the STATUS of mailboxes in sweeps, because no server announces all changes.

A sweep requests at most a hundred mailboxes: the busy ones each time, the others in turn.
"""

from __future__ import annotations

from collections.abc import Callable

from app.backends.imap.listing import ask_status, list_mailboxes
from app.backends.imap.session import ClientSession
from app.backends.imap.watching.pending_changes import PendingChanges, is_reflagged
from app.mail.backend import OriginMailbox
from app.mail.backoff import drifting

SWEEP_SECONDS = (2.0, 4.5)
"""Shortest and longest interval between sweeps of an account with subscribers, so that changes arrive within 5 s."""
UNFOLLOWED_SWEEP_SECONDS = 240.0
"""Longest interval between sweeps of an account without subscribers."""
SWEPT_MAILBOXES = 100
"""Mailboxes per sweep."""
LIST_SECONDS = 15.0
"""Interval of LIST if there are more mailboxes than a sweep requests. It grows with the number of mailboxes."""


class Sweeping:
    """The sweeps of one watch. `next_at` is when the next one is due; `session` is the connection of a running one.

    `is_followed` returns whether a subscriber follows the account. `is_elsewhere` is True while the second connection
    of the watch sweeps instead of the first.
    """

    def __init__(self, pending: PendingChanges, clock: Callable[[], float], is_followed: Callable[[], bool]) -> None:
        self.session: ClientSession | None = None
        self.is_elsewhere = False
        self._is_followed = is_followed
        self._next_at = self._swept_at = 0.0
        self._pending = pending
        self._clock = clock
        self._next_list = self._interval = 0.0
        self._turn = 0

    @property
    def next_at(self) -> float:
        """When the next sweep is due: soon if the account has got a subscriber meanwhile."""
        if not self._is_followed():
            return self._next_at
        return min(self._next_at, self._swept_at + SWEEP_SECONDS[1])

    def hasten(self) -> None:
        """Sweep soon after a mailbox was created, because Dovecot may lose events then."""
        self._next_at = min(self._next_at, self._clock() + SWEEP_SECONDS[0])

    async def sweep(self, session: ClientSession) -> frozenset[str]:
        """Request the STATUS of mailboxes and signal those that changed. Raises MailServerError.

        Returns the mailboxes in which messages were added or removed.
        """
        known = dict(self._pending.known)
        self.session = session
        try:
            if self._next_list <= self._clock():
                self._compare(await list_mailboxes(session))
            else:
                for mailbox in await ask_status(session, self._round()):
                    self._pending.note(mailbox)
        finally:
            self.session = None
        now = self._pending.known
        self._schedule(has_changes=known != now)
        return frozenset(name for name in known.keys() & now.keys() if not is_reflagged(known[name], now[name]))

    def _round(self) -> list[OriginMailbox]:
        """The mailboxes of this sweep: the busy ones, and the next of the others."""
        known, busy = self._pending.known, self._pending.busy
        others = [name for name in known if name not in busy]
        start = self._turn if self._turn < len(others) else 0
        self._turn = start + SWEPT_MAILBOXES - len(busy)
        return [known[name] for name in [*busy, *others[start : self._turn]]]

    def _compare(self, mailboxes: list[OriginMailbox]) -> None:
        self._pending.compare(mailboxes)
        rarity = len(self._pending.known) / SWEPT_MAILBOXES
        if rarity > 1:
            self._next_list = self._clock() + LIST_SECONDS * rarity

    def _schedule(self, *, has_changes: bool) -> None:
        """Schedule the next sweep: soon after changes, later and later without changes."""
        shortest, longest = SWEEP_SECONDS
        longest = longest if self._is_followed() else UNFOLLOWED_SWEEP_SECONDS
        self._interval = shortest if has_changes else min(longest, max(shortest, self._interval * 1.5))
        self._swept_at = self._clock()
        self._next_at = self._swept_at + drifting(self._interval)
