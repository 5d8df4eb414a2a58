"""What is known of an account's mailboxes, and what is news: merged into one signal until somebody takes it."""

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
"""How many of those that changed last are remembered."""
FLAGS_SECONDS = 0.05
"""Changes of flags come in bursts, our own among them: the first is signalled at once, later ones at this interval."""


class PendingChanges:
    """The news of one watch. It never piles up: a mailbox is in it once, with its last numbers.

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
        """How many mailboxes are news."""
        return len(self._touched)

    @property
    def busy(self) -> list[str]:
        """The mailboxes that changed last, longest ago first."""
        return [name for name in self._busy if name in self.known]

    # ---- what is heard

    def touch(self, name: str, *, is_urgent: bool = True) -> None:
        """Something changed in a mailbox."""
        self._touched.add(name)
        self.news.set()
        if is_urgent:
            self._is_urgent.set()

    def hear_new_mail(self) -> None:
        """Messages came into INBOX."""
        self._has_new_mail = True
        self.touch(INBOX)

    def hear_flags(self, *, is_numbered: bool) -> None:
        """Flags changed in INBOX; `is_numbered`: so did its HIGHESTMODSEQ."""
        self._has_unnumbered_flags |= not is_numbered
        self.touch(INBOX)

    def be_everywhere(self) -> None:
        """Something changed, nobody knows where."""
        self._is_everywhere = True
        self.wake()

    def wake(self) -> None:
        """Let who waits look."""
        self.news.set()
        self._is_urgent.set()

    def hear_status(self, response: MailboxStatus) -> bool:
        """Take a mailbox's numbers; False if the mailbox is unknown."""
        known = self.known.get(response.name)
        if known is not None:
            self.note(with_status(known, response))
        return known is not None

    def note(self, mailbox: OriginMailbox) -> None:
        """Signal a mailbox that isn't as it was last heard."""
        known = self.known.get(mailbox.origin_name)
        if known != mailbox:
            self.known[mailbox.origin_name] = mailbox
            self._status[mailbox.origin_name] = mailbox
            if known is not None:
                self._be_busy(mailbox.origin_name)
            self.touch(mailbox.origin_name, is_urgent=known is None or not is_reflagged(known, mailbox))

    def compare(self, mailboxes: Sequence[OriginMailbox]) -> None:
        """Take all mailboxes that there are."""
        found = {mailbox.origin_name: mailbox for mailbox in mailboxes}
        if found.keys() != self.known.keys():
            self.be_everywhere()
        for mailbox in mailboxes:
            self.note(mailbox)
        self.known = found

    def _be_busy(self, name: str) -> None:
        self._busy.pop(name, None)
        self._busy[name] = None
        if len(self._busy) > BUSY_MAILBOXES:
            del self._busy[next(iter(self._busy))]

    # ---- what is announced

    def take(self) -> Signal | None:
        """What was heard since the last signal, None for nothing."""
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
        """Where nothing but flags changed, right after the last signal: wait a moment for more of it."""
        seconds = self._taken_at + FLAGS_SECONDS - self._clock()
        if seconds > 0 and self._touched and not self._is_urgent.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._is_urgent.wait()


def is_reflagged(before: OriginMailbox, now: OriginMailbox) -> bool:
    """Whether the same messages are there as before, and only their flags may differ."""
    return (before.uid_validity, before.uid_next, before.total) == (now.uid_validity, now.uid_next, now.total)


def _origin_mailbox(mailbox: Mailbox) -> OriginMailbox:
    """A mailbox as it is in the index, to be compared with what the origin says."""
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
