"""Polls the STATUS of mailboxes, since no server announces all changes: which mailboxes are next, and when.

A sweep asks for a hundred mailboxes at most: the busy ones each time, the others in turn.
"""

from __future__ import annotations

from collections.abc import Callable

from app.backends.imap.listing import ask_status, list_mailboxes
from app.backends.imap.session import Session
from app.backends.imap.watching.pending_changes import PendingChanges, is_reflagged
from app.mail.backend import OriginMailbox
from app.mail.backoff import drifting

SWEEP_SECONDS = (2.0, 4.5)
"""Between two sweeps of an account that has followers, so that they receive any change within 5 s."""
UNFOLLOWED_SWEEP_SECONDS = 240.0
"""Between two sweeps at most, while nobody does."""
SWEPT_MAILBOXES = 100
"""Those of one sweep."""
LIST_SECONDS = 15.0
"""How often the list itself is requested if it has more mailboxes than a sweep; larger lists less often."""


class Sweeping:
    """The sweeps of one watch. `next_at`, by the clock, is when one is due; `session` where one is running.

    `is_followed` says whether somebody waits for what happens in the account; `is_elsewhere` whether the second
    connection of the watch sweeps, or the first.
    """

    def __init__(self, hearing: PendingChanges, clock: Callable[[], float], is_followed: Callable[[], bool]) -> None:
        self.session: Session | None = None
        self.is_elsewhere = False
        self._is_followed = is_followed
        self._next_at = self._swept_at = 0.0
        self._hearing = hearing
        self._clock = clock
        self._next_list = self._pace = 0.0
        self._turn = 0

    @property
    def next_at(self) -> float:
        """When the next one is due: soon where somebody follows the account by now."""
        if not self._is_followed():
            return self._next_at
        return min(self._next_at, self._swept_at + SWEEP_SECONDS[1])

    def hasten(self) -> None:
        """A mailbox was made: Dovecot was seen to lose events soon after."""
        self._next_at = min(self._next_at, self._clock() + SWEEP_SECONDS[0])

    async def sweep(self, session: Session) -> frozenset[str]:
        """Ask for the numbers of mailboxes, and signal those that changed. Raises MailServerError.

        Returns where messages came or went.
        """
        known = dict(self._hearing.known)
        self.session = session
        try:
            if self._next_list <= self._clock():
                self._compare(await list_mailboxes(session))
            else:
                for mailbox in await ask_status(session, self._round()):
                    self._hearing.note(mailbox)
        finally:
            self.session = None
        now = self._hearing.known
        self._schedule(found=known != now)
        return frozenset(name for name in known.keys() & now.keys() if not is_reflagged(known[name], now[name]))

    def _round(self) -> list[OriginMailbox]:
        """Whose turn it is: the busy ones, and the next of the others."""
        known, busy = self._hearing.known, self._hearing.busy
        others = [name for name in known if name not in busy]
        start = self._turn if self._turn < len(others) else 0
        self._turn = start + SWEPT_MAILBOXES - len(busy)
        return [known[name] for name in [*busy, *others[start : self._turn]]]

    def _compare(self, mailboxes: list[OriginMailbox]) -> None:
        self._hearing.compare(mailboxes)
        rarity = len(self._hearing.known) / SWEPT_MAILBOXES
        if rarity > 1:
            self._next_list = self._clock() + LIST_SECONDS * rarity

    def _schedule(self, *, found: bool) -> None:
        """The next sweep: soon after one that found something, later and later while nothing happens."""
        shortest, longest = SWEEP_SECONDS
        longest = longest if self._is_followed() else UNFOLLOWED_SWEEP_SECONDS
        self._pace = shortest if found else min(longest, max(shortest, self._pace * 1.5))
        self._swept_at = self._clock()
        self._next_at = self._swept_at + drifting(self._pace)
