"""New messages: looked for in one mailbox or wherever they may have gone, and written as what they are."""

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
"""By origin name, what a signal or a list told."""

Ask = Callable[[], Awaitable[ListedMailboxes]]
"""Lists all mailboxes of the origin."""

CHASES = 8
"""How often arrivals are looked for, at most, before removals are written."""
NEWCOMER_LIMIT = 20_000
"""Messages that are fetched, at most, of mailboxes that appeared meanwhile, before removals are written."""

OnArrival = Callable[[Sequence[Location], Sequence[Arrived]], None]


class Arrivals:
    """Every method but `look_ahead` is called with the mirror's lock held, by a worker.

    `on_arrival` receives the location of announced messages, and those that were not moved from another mailbox.
    """

    def __init__(self, mirror: Mirror, on_arrival: OnArrival | None = None) -> None:
        self._mirror = mirror
        self._on_arrival = on_arrival
        self.aside = Aside(mirror)

    async def write(self, batch: Batch, *, is_ascending: bool = False) -> None:
        """Write messages as new or as the moves that they are; ascending ones with the UIDNEXT they lead to."""
        for start in range(0, len(batch), FACTS_AT_ONCE):
            piece = batch[start : start + FACTS_AT_ONCE]
            delta = await bind(self._mirror, [arrival for arrival in piece if isinstance(arrival, Arrived)])
            delta += Delta(placed=tuple(arrival for arrival in piece if isinstance(arrival, Placed)))
            if is_ascending:
                last = piece[-1]
                delta += Delta(mailboxes_counted=(MailboxCounted(last.mailbox_id, last.uid + 1),))
            applied = await self._mirror.apply(delta)
            self._tell(delta, applied.message_ids)

    def _tell(self, delta: Delta, places: Mapping[Location, object]) -> None:
        if self._on_arrival is not None:
            moved = {move.target for move in delta.moved}
            fresh = [arrival for arrival in delta.arrived if Location(arrival.mailbox_id, arrival.uid) not in moved]
            quiet = {
                Location(arrival.mailbox_id, arrival.uid)
                for arrival in fresh
                if not arrival.is_announced or arrival.unread
            }
            self._on_arrival([at for at in places if at not in quiet], fresh)

    async def look(self, mailbox: Mailbox, told: OriginMailbox | None) -> None:
        """Write what is new in a mailbox."""
        mailbox = await self._mirror.mailbox(mailbox)
        if self._mirror.has_begun(mailbox):
            async for batch in new_mail(self._mirror, mailbox, told):
                await self.write(batch, is_ascending=True)

    async def look_ahead(self, mailbox: Mailbox) -> bool:
        """Write what is new in a mailbox while others hold the lock; False where some of it is gone by now.

        They may have read before us that it is gone, when it had no row yet.
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
        """Look for arrivals until a list has none: a message may move again meanwhile."""
        looked: dict[MailboxId, int] = {}
        for _ in range(CHASES):
            told = await ask()
            mailboxes = await self._mirror.mailboxes()
            if not looked:
                await self._fill_newcomers(mailboxes)
            behind = [
                (item, now)
                for item in mailboxes
                if (now := told.get(item.origin_name)) and _is_behind(item, now, looked.get(item.id, 0))
            ]
            if not behind:
                return
            for mailbox, now in behind:
                looked[mailbox.id] = now.uid_next or mailbox.uid_next
                await self.aside.tolerate(mailbox, "look", self.look(mailbox, now))

    async def _fill_newcomers(self, mailboxes: Sequence[Mailbox]) -> None:
        """Fetch what mailboxes hold that appeared meanwhile: it may have been moved there. The smaller ones first."""
        left = NEWCOMER_LIMIT
        newcomers = [item for item in mailboxes if item.is_newcomer and item.is_selectable and not item.is_complete]
        for mailbox in sorted(newcomers, key=lambda one: one.total):
            if mailbox.total <= left:
                left -= mailbox.total
                await self.aside.tolerate(mailbox, FILL, self._fill(mailbox))

    async def _fill(self, mailbox: Mailbox) -> None:
        missing = await unknown_uids(self._mirror, mailbox)
        async for batch in fetch_named(self._mirror, mailbox, missing[::-1]):
            await self.write(told_from(mailbox, batch))


def told_from(mailbox: Mailbox, batch: Batch) -> Batch:
    """What was there when the first sync began comes without an event of its own; what came later is new mail."""
    return [replace(arrival, is_announced=arrival.uid >= mailbox.uid_next) for arrival in batch]


def _is_behind(ours: Mailbox, told: OriginMailbox, looked: int) -> bool:
    """Whether the origin may have given UIDs that we have not looked at; `looked` is up to where we did, exclusive."""
    if told.uid_validity != ours.uid_validity:
        return False
    return not looked if told.uid_next is None else told.uid_next > max(ours.uid_next, looked)
