"""Brings mailboxes up to date with their origin: all arrivals first, so that moves are known before removals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from app.errors import MailboxNotFound, ServerProtocolError, ServerRefused
from app.mail.backend import Changes, OriginMailbox
from app.mail.delta import Arrived, Delta, Location, MailboxCounted, Note, Placed
from app.mail.types import Mailbox, MailboxId
from app.mirror.account import FACTS_AT_ONCE, Mirror
from app.mirror.changes import Batch, changes_of, counted, fetch_new, fetch_span, new_mail, whole_difference
from app.mirror.moves import Moves
from app.telemetry import get_logger
from app.workers.sync.listing import differs

log = get_logger(__name__)

MAILBOX_FAULTS = (ServerRefused, ServerProtocolError, MailboxNotFound)
"""What goes wrong with one mailbox and says nothing of the others."""

Told = Mapping[str, OriginMailbox]
"""By origin name, what a signal or a list told."""

Ask = Callable[[], Awaitable[Told]]
"""Lists all mailboxes of the origin."""

CHASES = 8
"""How often arrivals are looked for, at most, before removals are written."""

OnArrival = Callable[[Sequence[Location], Sequence[Arrived]], None]


@dataclass(frozen=True, slots=True)
class _Found:
    """What is to be written of one mailbox."""

    mailbox: Mailbox
    delta: Delta
    changes: Changes


class Refresher:
    """Every method is called with the mirror's lock held.

    `on_arrival` hears where new messages are, and those of them that did not come from another mailbox.
    """

    def __init__(self, mirror: Mirror, on_arrival: OnArrival) -> None:
        self._mirror = mirror
        self._moves = Moves(mirror)
        self._on_arrival = on_arrival

    async def refresh(self, mailboxes: Sequence[Mailbox], told: Told, ask: Ask) -> None:
        """Write what changed in these mailboxes. `ask` lists all, when something is gone that may be elsewhere now."""
        for mailbox in mailboxes:
            await self._tolerantly(mailbox, self._arrivals(mailbox, told.get(mailbox.origin_name)))
        found: list[_Found] = []
        for mailbox in mailboxes:
            await self._tolerantly(mailbox, self._look(mailbox, told.get(mailbox.origin_name), found))
        if any(one.delta.removed for one in found):
            await self._arrivals_elsewhere(ask)
        for one in found:
            await self._tolerantly(one.mailbox, self._settle(one))

    async def complete(self, mailbox: Mailbox, notes: tuple[Note, ...], ask: Ask) -> bool:
        """Bring a mailbox that was fetched whole up to date and mark it complete; False when it is another now.

        `notes` tell that it is: in the transaction that makes it so, or nobody would hear of what came without events.
        """
        mailbox = await self._mirror.mailbox(mailbox)
        looked = await changes_of(self._mirror, mailbox, None)
        if looked is None:
            return False
        if looked[0].removed:
            await self._arrivals_elsewhere(ask)
        await self._settle(_Found(mailbox, *looked), is_complete=True, notes=notes)
        return True

    async def reconcile(self, mailbox: Mailbox, ask: Ask) -> None:
        """Compare a mailbox with its origin message by message, and put right what differs."""
        mailbox = await self._mirror.mailbox(mailbox)
        delta, missing = await whole_difference(self._mirror, mailbox)
        log.info("mailbox_reconciled", account_id=self._mirror.account_id, mailbox_id=mailbox.id, missing=len(missing))
        async for batch in fetch_new(self._mirror, mailbox, missing):
            await self.arrive(batch)
        if delta.removed:
            await self._arrivals_elsewhere(ask)
        await self._write(delta)

    async def arrive(self, batch: Batch, *, is_ascending: bool = False) -> None:
        """Write new messages, as new or as the moves that they are; ascending ones with the UIDNEXT they lead to."""
        for start in range(0, len(batch), FACTS_AT_ONCE):
            piece = batch[start : start + FACTS_AT_ONCE]
            delta = await self._moves.bind([one for one in piece if isinstance(one, Arrived)])
            delta += Delta(placed=tuple(one for one in piece if isinstance(one, Placed)))
            if is_ascending:
                last = piece[-1]
                delta += Delta(mailboxes_counted=(MailboxCounted(last.mailbox_id, last.uid + 1),))
            applied = await self._mirror.apply(delta)
            self._on_arrival(list(applied.message_ids), delta.arrived)

    async def _tolerantly(self, mailbox: Mailbox, step: Awaitable[None]) -> None:
        try:
            await step
        except MAILBOX_FAULTS as error:
            account_id = self._mirror.account_id
            log.warning("mailbox_failed", account_id=account_id, mailbox_id=mailbox.id, error=error.code)

    async def _arrivals(self, mailbox: Mailbox, told: OriginMailbox | None) -> None:
        mailbox = await self._mirror.mailbox(mailbox)
        if self._mirror.has_begun(mailbox):
            async for batch in new_mail(self._mirror, mailbox, told):
                await self.arrive(batch, is_ascending=True)

    async def _arrivals_elsewhere(self, ask: Ask) -> None:
        """Look for arrivals until a list tells of none: a message may move on while it is looked for."""
        looked: dict[MailboxId, int] = {}
        for _ in range(CHASES):
            told = await ask()
            behind = [
                (one, now)
                for one in await self._mirror.mailboxes()
                if (now := told.get(one.origin_name)) and _is_behind(one, now, looked.get(one.id, 0))
            ]
            if not behind:
                return
            for mailbox, now in behind:
                looked[mailbox.id] = now.uid_next or mailbox.uid_next
                await self._tolerantly(mailbox, self._arrivals(mailbox, now))

    async def _look(self, mailbox: Mailbox, told: OriginMailbox | None, found: list[_Found]) -> None:
        """Find what changed. Nothing is asked where what was told is what we have."""
        mailbox = await self._mirror.mailbox(mailbox)
        if told is not None and told.highest_modseq and mailbox.is_complete and not differs(mailbox, told):
            return
        looked = await changes_of(self._mirror, mailbox, told)
        if looked is not None:
            found.append(_Found(mailbox, *looked))

    async def _settle(self, found: _Found, *, is_complete: bool | None = None, notes: tuple[Note, ...] = ()) -> None:
        """Write what was found. Of an incomplete mailbox the state stays that from before its first sync."""
        mailbox, changes = found.mailbox, found.changes
        async for batch in fetch_span(self._mirror, mailbox, mailbox.uid_next, changes.uid_next):
            await self.arrive(batch, is_ascending=True)
        numbers = counted(mailbox, changes, is_complete=is_complete)
        if not (mailbox.is_complete or is_complete):
            numbers = replace(numbers, highest_modseq=None)
        await self._write(replace(found.delta, mailboxes_counted=(numbers,), notes=notes))

    async def _write(self, delta: Delta) -> None:
        ended = await self._moves.pass_on(delta.removed)
        await self._mirror.apply_in_pieces(replace(delta, moved=ended.moved, removed=ended.removed))


def _is_behind(ours: Mailbox, told: OriginMailbox, looked: int) -> bool:
    """Whether the origin may have given UIDs that we have not looked at; `looked` is up to where we did, exclusive."""
    if told.uid_validity != ours.uid_validity:
        return False
    return not looked if told.uid_next is None else told.uid_next > max(ours.uid_next, looked)
