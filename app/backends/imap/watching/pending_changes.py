"""The known state of an account's mailboxes and their pending changes, merged into one signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from app.backends.imap.listing import with_status
from app.mail.backend import OriginMailbox, Signal
from app.mail.types import Mailbox
from app.wire.imap.responses import MailboxStatus

INBOX = "INBOX"
BUSY_MAILBOXES = 20
"""How many of the most recently changed mailboxes are remembered."""
FLAGS_SECONDS = 0.05
"""Flag changes arrive in bursts, including our own: the first is signalled at once, later ones at this interval."""


class PendingChanges:
    """The pending changes of one watch. They never pile up: each mailbox occurs once, with its last STATUS.

    `known` is the last known state of each mailbox, by name; `news` is set while there are changes to read.
    """

    def __init__(self, mailboxes: Iterable[Mailbox], clock: Callable[[], float]) -> None:
        self.known = {mailbox.origin_name: _origin_mailbox(mailbox) for mailbox in mailboxes}
        self.news = asyncio.Event()
        self._clock = clock
        self._touched: set[str] = set()
        self._status: dict[str, OriginMailbox] = {}
        self._busy: dict[str, None] = {}
        self._is_everywhere = self._has_new_mail = self._has_unnumbered_flags = False
        self._is_urgent = asyncio.Event()
        self._taken_at = 0.0

    def __len__(self) -> int:
        """Number of changed mailboxes."""
        return len(self._touched)

    @property
    def busy(self) -> list[str]:
        """The most recently changed mailboxes, oldest first."""
        return [name for name in self._busy if name in self.known]

    # ---- recording changes

    def touch(self, name: str, *, is_urgent: bool = True) -> None:
        """Record a change in a mailbox."""
        self._touched.add(name)
        self.news.set()
        if is_urgent:
            self._is_urgent.set()

    def note_new_mail(self) -> None:
        """Record new mail in INBOX."""
        self._has_new_mail = True
        self.touch(INBOX)

    def note_flags(self, *, is_numbered: bool) -> None:
        """Record changed flags in INBOX. `is_numbered`: its HIGHESTMODSEQ changed, too."""
        self._has_unnumbered_flags |= not is_numbered
        self.touch(INBOX)

    def note_unknown_change(self) -> None:
        """Record a change in an unknown mailbox."""
        self._is_everywhere = True
        self.wake()

    def wake(self) -> None:
        """Wake the waiting task."""
        self.news.set()
        self._is_urgent.set()

    def note_status(self, response: MailboxStatus) -> bool:
        """Record a mailbox's STATUS; False if the mailbox is unknown."""
        known = self.known.get(response.name)
        if known is not None:
            self.note(with_status(known, response))
        return known is not None

    def note(self, mailbox: OriginMailbox) -> None:
        """Signal a mailbox if it differs from its last known state."""
        known = self.known.get(mailbox.origin_name)
        if known != mailbox:
            self.known[mailbox.origin_name] = mailbox
            self._status[mailbox.origin_name] = mailbox
            if known is not None:
                self._note_busy(mailbox.origin_name)
            self.touch(mailbox.origin_name, is_urgent=known is None or not is_reflagged(known, mailbox))

    def compare(self, mailboxes: Sequence[OriginMailbox]) -> None:
        """Compare the known mailboxes with a complete list, and signal the differences."""
        listed = {mailbox.origin_name: mailbox for mailbox in mailboxes}
        if listed.keys() != self.known.keys():
            self.note_unknown_change()
        for mailbox in mailboxes:
            self.note(mailbox)
        self.known = listed

    def _note_busy(self, name: str) -> None:
        self._busy.pop(name, None)
        self._busy[name] = None
        if len(self._busy) > BUSY_MAILBOXES:
            del self._busy[next(iter(self._busy))]

    # ---- signals

    def take(self) -> Signal | None:
        """The changes since the last signal as a Signal, or None."""
        if not (self._touched or self._is_everywhere):
            return None
        names = frozenset() if self._is_everywhere else frozenset(self._touched)
        signal = Signal(names, tuple(self._status.values()), self._has_new_mail, self._has_unnumbered_flags)
        self._touched.clear()
        self._status.clear()
        self._is_everywhere = self._has_new_mail = self._has_unnumbered_flags = False
        self._is_urgent.clear()
        self._taken_at = self._clock()
        return signal

    async def gather_flags(self) -> None:
        """If only flags changed, shortly after the last signal: wait a moment for more changes."""
        seconds = self._taken_at + FLAGS_SECONDS - self._clock()
        if seconds > 0 and self._touched and not self._is_urgent.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._is_urgent.wait()


def is_reflagged(before: OriginMailbox, now: OriginMailbox) -> bool:
    """Whether the messages are the same as before, and only their flags may differ."""
    return (before.uid_validity, before.uid_next, before.total) == (now.uid_validity, now.uid_next, now.total)


def _origin_mailbox(mailbox: Mailbox) -> OriginMailbox:
    """A mailbox of the index, for comparison with the mail server's."""
    return OriginMailbox(
        origin_name=mailbox.origin_name,
        path=mailbox.path,
        delimiter=mailbox.delimiter,
        role=mailbox.role,
        is_selectable=mailbox.is_selectable,
        is_subscribed=mailbox.is_subscribed,
        uid_validity=mailbox.uid_validity,
        uid_next=mailbox.uid_next,
        highest_modseq=mailbox.highest_modseq or None,
        total=mailbox.total,
        unread=mailbox.unread,
    )
