"""New messages: finds them in one mailbox or in all, and writes them as new or as moved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from app.mail.backend import OriginMailbox
from app.mail.delta import Arrived, Delta, Location, MailboxCounted, Placed
from app.mail.types import Mailbox, MailboxId
from app.mirror.account import FACTS_AT_ONCE, Mirror
from app.mirror.aside import FILL, Aside
from app.mirror.changes import Batch, fetch_named, new_mail, unknown_uids
from app.mirror.moves import bind

ListedMailboxes = Mapping[str, OriginMailbox]
"""Mailboxes by origin name, as a signal or a list reported them."""

Ask = Callable[[], Awaitable[ListedMailboxes]]
"""Lists all mailboxes of the server."""

CHASES = 8
"""The most searches for arrivals before removals are written."""
NEWCOMER_LIMIT = 20_000
"""The most messages that are fetched from new mailboxes before removals are written."""

OnArrival = Callable[[Sequence[Location], Sequence[Arrived]], None]


class MirroredArrivals:
    """Finds and writes arrivals. A worker calls every method except `look_ahead` with the mirror's lock held.

    `on_arrival` receives the locations of announced messages, and the messages that were not moved from another
    mailbox.
    """

    def __init__(self, mirror: Mirror, on_arrival: OnArrival | None = None) -> None:
        self._mirror = mirror
        self._on_arrival = on_arrival
        self.aside = Aside(mirror)

    async def write(self, batch: Batch, *, is_ascending: bool = False) -> None:
        """Write messages as new or as moves. `is_ascending`: also write the UIDNEXT that follows them."""
        for start in range(0, len(batch), FACTS_AT_ONCE):
            piece = batch[start : start + FACTS_AT_ONCE]
            delta = await bind(self._mirror, [arrival for arrival in piece if isinstance(arrival, Arrived)])
            delta += Delta(placed=tuple(arrival for arrival in piece if isinstance(arrival, Placed)))
            if is_ascending:
                last = piece[-1]
                delta += Delta(mailboxes_counted=(MailboxCounted(last.mailbox_id, last.uid + 1),))
            applied = await self._mirror.apply(delta)
            self._report(delta, applied.message_ids)

    def _report(self, delta: Delta, places: Mapping[Location, object]) -> None:
        if self._on_arrival is not None:
            moved_to = {move.target for move in delta.moved}
            fresh = [arrival for arrival in delta.arrived if Location(arrival.mailbox_id, arrival.uid) not in moved_to]
            quiet = {
                Location(arrival.mailbox_id, arrival.uid)
                for arrival in fresh
                if not arrival.is_announced or arrival.unread
            }
            self._on_arrival([at for at in places if at not in quiet], fresh)

    async def look(self, mailbox: Mailbox, reported: OriginMailbox | None) -> None:
        """Write the new messages of a mailbox."""
        mailbox = await self._mirror.mailbox(mailbox)
        if self._mirror.has_begun(mailbox):
            async for batch in new_mail(self._mirror, mailbox, reported):
                await self.write(batch, is_ascending=True)

    async def look_ahead(self, mailbox: Mailbox) -> bool:
        """Write new messages of a mailbox while others may hold the lock. False if some of them are gone already.

        A concurrent comparison may have missed their removal, because they had no rows yet.
        """
        mailbox = await self._mirror.mailbox(mailbox)
        if not self._mirror.has_begun(mailbox):
            return True
        uids: list[int] = []
        async for batch in new_mail(self._mirror, mailbox, None):
            await self.write(batch, is_ascending=True)
            uids += [arrival.uid for arrival in batch]
        return not uids or len(await self._mirror.backend.present(mailbox, uids)) == len(uids)

    async def look_elsewhere(self, ask: Ask) -> None:
        """Look for arrivals until a list has no new ones: a message may move again meanwhile."""
        looked: dict[MailboxId, int] = {}
        for _ in range(CHASES):
            reported = await ask()
            mailboxes = await self._mirror.mailboxes()
            if not looked:
                await self._fill_newcomers(mailboxes)
            behind = [
                (item, now)
                for item in mailboxes
                if (now := reported.get(item.origin_name)) and _is_behind(item, now, looked.get(item.id, 0))
            ]
            if not behind:
                return
            for mailbox, now in behind:
                looked[mailbox.id] = now.uid_next or mailbox.uid_next
                await self.aside.tolerate(mailbox, "look", self.look(mailbox, now))

    async def _fill_newcomers(self, mailboxes: Sequence[Mailbox]) -> None:
        """Fetch new mailboxes, the smaller ones first: messages may have been moved there."""
        remaining = NEWCOMER_LIMIT
        newcomers = [item for item in mailboxes if item.is_newcomer and item.is_selectable and not item.is_complete]
        for mailbox in sorted(newcomers, key=lambda item: item.total):
            if mailbox.total <= remaining:
                remaining -= mailbox.total
                await self.aside.tolerate(mailbox, FILL, self._fill(mailbox))

    async def _fill(self, mailbox: Mailbox) -> None:
        missing = await unknown_uids(self._mirror, mailbox)
        async for batch in fetch_named(self._mirror, mailbox, missing[::-1]):
            await self.write(told_from(mailbox, batch))


def told_from(mailbox: Mailbox, batch: Batch) -> Batch:
    """Set `is_announced`: messages from before the initial sync have no event, later ones are new mail."""
    return [replace(arrival, is_announced=arrival.uid >= mailbox.uid_next) for arrival in batch]


def _is_behind(ours: Mailbox, reported: OriginMailbox, looked: int) -> bool:
    """Whether the server may have used UIDs that were not examined yet; `looked` is the exclusive upper limit."""
    if reported.uid_validity != ours.uid_validity:
        return False
    return not looked if reported.uid_next is None else reported.uid_next > max(ours.uid_next, looked)
