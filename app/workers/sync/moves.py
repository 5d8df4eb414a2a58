"""Moves that another client made: an arrival that equals a message elsewhere keeps that message's id.

A move shows as an arrival and a removal, in two mailboxes, the arrival first or at the same time. So an arrival equal
to a message that is indexed elsewhere makes us ask at once whether that one is still there: gone, it was moved; still
there, it is a copy, whose original may go soon after (clients without MOVE copy, then delete).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from app.errors import MailboxNotFound
from app.mail.delta import Arrived, Delta, Flagged, Location, Moved, Removed
from app.mail.types import Mailbox, MailboxId, Message
from app.mailstore.rows import overview_in
from app.workers.sync.mirror import Mirror

PASS_ON_SECONDS = 60.0
COPIES_LIMIT = 5_000


class Moves:
    """Binds arrivals to what they were before; remembers copies for as long as an original may pass its id on."""

    def __init__(self, mirror: Mirror, clock: Callable[[], float] = time.monotonic) -> None:
        self._mirror = mirror
        self._clock = clock
        self._copies: dict[Location, tuple[Location, float]] = {}

    async def bind(self, arrived: Sequence[Arrived]) -> Delta:
        """What these arrivals are: moves of messages that are gone from elsewhere, or new.

        Messages that may be in several mailboxes are known by their origin's id: the index finds them by itself.
        """
        is_shared = bool(arrived) and arrived[0].is_shared
        originals = {} if is_shared else await self._originals(arrived)
        if not originals:
            return Delta(arrived=tuple(arrived))
        gone = await self._gone([one for found in originals.values() for one in found])
        moved: list[tuple[Location, Arrived]] = []
        fresh: list[Arrived] = []
        for one in arrived:
            found = originals.get(one.uid, [])
            source = next((at for at in map(_at, found) if at in gone), None)
            if source is not None:
                gone.discard(source)
                moved.append((source, one))
                continue
            fresh.append(one)
            self._remember(found, one)
        return Delta(
            moved=tuple(Moved(source, _place(one), one.modseq) for source, one in moved),
            arrived=tuple(fresh),
            flagged=tuple(Flagged(_place(one), one.flags, one.modseq) for _, one in moved),
        )

    def pass_on(self, removed: Sequence[Removed]) -> Delta:
        """What these removals are: the end of a copy's original, whose id passes to the copy, or of a message."""
        now = self._clock()
        moved: list[Moved] = []
        gone: list[Removed] = []
        for one in removed:
            target, until = self._copies.pop(one.location, (None, 0.0))
            if target is not None and until >= now:
                moved.append(Moved(one.location, target))
            else:
                gone.append(one)
        return Delta(moved=tuple(moved), removed=tuple(gone))

    def _remember(self, originals: Sequence[Message], copy: Arrived) -> None:
        now = self._clock()
        if len(self._copies) >= COPIES_LIMIT:
            self._copies = {at: entry for at, entry in self._copies.items() if entry[1] >= now}
        for original in originals[:1]:
            if len(self._copies) < COPIES_LIMIT:
                self._copies[_at(original)] = (_place(copy), now + PASS_ON_SECONDS)

    async def _originals(self, arrived: Sequence[Arrived]) -> dict[int, list[Message]]:
        """UID of an arrival → equal messages that are indexed elsewhere."""
        headers = {one.overview.message_id_header for one in arrived} - {None}
        if not headers:
            return {}
        by_header: dict[str | None, list[Message]] = {}
        for message in await self._mirror.index.with_headers(self._mirror.account_id, [h for h in headers if h]):
            by_header.setdefault(message.message_id_header, []).append(message)
        found = {
            one.uid: [other for other in by_header.get(one.overview.message_id_header, []) if _is_same(other, one)]
            for one in arrived
        }
        return {uid: messages for uid, messages in found.items() if messages}

    async def _gone(self, messages: Sequence[Message]) -> set[Location]:
        """Those that their mailboxes' origin has no more."""
        by_mailbox: dict[MailboxId, set[int]] = {}
        for one in messages:
            by_mailbox.setdefault(one.mailbox_id, set()).add(one.uid)
        gone: set[Location] = set()
        for mailbox in await self._mirror.mailboxes():
            uids = by_mailbox.get(mailbox.id)
            if uids:
                there = await self._there(mailbox, uids)
                gone |= {Location(mailbox.id, uid) for uid in uids if uid not in there}
        return gone

    async def _there(self, mailbox: Mailbox, uids: Collection[int]) -> set[int]:
        backend = self._mirror.backend
        try:
            return set(await backend.present(mailbox, uids))
        except MailboxNotFound:
            return set()


def _at(message: Message) -> Location:
    return Location(message.mailbox_id, message.uid)


def _place(one: Arrived) -> Location:
    return Location(one.mailbox_id, one.uid)


def _is_same(message: Message, one: Arrived) -> bool:
    """The same message elsewhere: equal in Message-ID, INTERNALDATE, size, subject and sender."""
    if message.mailbox_id == one.mailbox_id:
        return False
    if (message.received_at_ms, message.size_bytes) != (one.received_at_ms, one.size_bytes):
        return False
    overview = overview_in(message.summary)
    return (overview.subject, overview.from_) == (one.overview.subject, one.overview.from_)
