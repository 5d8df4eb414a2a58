"""Brings mailboxes up to date with their origin: all arrivals first, so that moves are known before removals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from app.mail.backend import OriginMailbox
from app.mail.delta import Arrived, Delta, Location, Note, Removed
from app.mail.types import Mailbox, Message
from app.mirror.account import FACTS_AT_ONCE, Mirror
from app.mirror.arrivals import Arrivals, Ask, Told
from app.mirror.aside import SETTLE
from app.mirror.changes import ServerChanges, changes_of, counted, fetch_named, fetch_span, whole_difference
from app.mirror.listing import differs
from app.mirror.moves import pass_on
from app.telemetry import get_logger

log = get_logger(__name__)

NEWEST_COMPARED = 20
"""How many messages to compare if new mail was announced but no new UID was found."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What is to be written of one mailbox."""

    mailbox: Mailbox
    looked: ServerChanges


class Refresher:
    """Every method is called with the mirror's lock held. `ask` lists all mailboxes, and writes those that are new."""

    def __init__(self, mirror: Mirror, arrivals: Arrivals, ask: Ask) -> None:
        self._mirror = mirror
        self._arrivals = arrivals
        self._aside = arrivals.aside
        self._ask = ask

    async def refresh(self, mailboxes: Sequence[Mailbox], told: Told) -> None:
        """Write what changed in these mailboxes."""
        for mailbox in mailboxes:
            await self._aside.tolerate(mailbox, "look", self._arrivals.look(mailbox, told.get(mailbox.origin_name)))
        found: list[_Found] = []
        for mailbox in mailboxes:
            await self._aside.tolerate(mailbox, "compare", self._look(mailbox, told.get(mailbox.origin_name), found))
        if any(match.looked.removed for match in found):
            await self._arrivals.look_elsewhere(self._ask)
        for match in found:
            await self._aside.tolerate(match.mailbox, SETTLE, self._settle(match))

    async def complete(self, mailbox: Mailbox, notes: tuple[Note, ...]) -> bool:
        """Bring a mailbox that was fetched whole up to date and mark it complete; False when it is another now.

        `notes` tell that it is: in the transaction that makes it so, or changes without events would not be announced.
        """
        mailbox = await self._mirror.mailbox(mailbox)
        looked = await changes_of(self._mirror, mailbox, None)
        if looked is None:
            return False
        if looked.removed:
            await self._arrivals.look_elsewhere(self._ask)
        return await self._settle(_Found(mailbox, looked), is_complete=True, notes=notes)

    async def reconcile(self, mailbox: Mailbox) -> bool:
        """Compare a mailbox with its origin message by message, and put right what differs; whether anything did."""
        mailbox = await self._mirror.mailbox(mailbox)
        delta, missing = await whole_difference(self._mirror, mailbox)
        log.info("mailbox_reconciled", account_id=self._mirror.account_id, mailbox_id=mailbox.id, missing=len(missing))
        async for batch in fetch_named(self._mirror, mailbox, missing):
            await self._arrivals.write(batch)
        if delta.removed:
            await self._arrivals.look_elsewhere(self._ask)
        await self._write(delta)
        if delta or missing:  # the server may have assigned UIDs again
            await self.replace_reused(await self._mirror.mailbox(mailbox))
        return bool(delta or missing)

    async def replace_reused(self, mailbox: Mailbox) -> None:
        """Write the newest messages again whose UIDs the server gave to others, which RFC 3501 §2.3.1.1 forbids."""
        newest = await self._mirror.backend.newest(mailbox, NEWEST_COMPARED)
        uids = [arrived.uid for arrived in newest]
        located = await self._mirror.reader.messages.locate(self._mirror.account_id, mailbox.id, uids)
        known = {message.uid: message for message in located}
        others = [arrival for arrival in newest if arrival.uid in known and _is_another(known[arrival.uid], arrival)]
        if others:  # of a message that could not be read nothing is known to compare
            rows = await self._mirror.reader.incomplete.messages(self._mirror.account_id)
            unread = {(row.mailbox_id, row.uid) for row in rows}
            others = [
                arrival for arrival in others if arrival.unread is None and (mailbox.id, arrival.uid) not in unread
            ]
        if others:
            log.warning("uids_reused", account_id=self._mirror.account_id, mailbox_id=mailbox.id, messages=len(others))
            await self._arrivals.look_elsewhere(self._ask)
            await self._write(Delta(removed=tuple(Removed(Location(mailbox.id, arrival.uid)) for arrival in others)))
            await self._arrivals.write(others)

    async def _look(self, mailbox: Mailbox, told: OriginMailbox | None, found: list[_Found]) -> None:
        """Find what changed. Asks nothing if the signalled numbers are those of the index."""
        mailbox = await self._mirror.mailbox(mailbox)
        if told is not None and told.highest_modseq and mailbox.is_complete and not differs(mailbox, told):
            return
        looked = await changes_of(self._mirror, _to_be_asked(mailbox, told), told)
        if looked is not None:
            found.append(_Found(mailbox, looked))

    async def _settle(self, found: _Found, *, is_complete: bool | None = None, notes: tuple[Note, ...] = ()) -> bool:
        """Write what was found; False if the mailbox was created again meanwhile.

        Of an incomplete mailbox the state stays that from before its first sync.
        """
        mailbox, looked = found.mailbox, found.looked
        if (await self._mirror.mailbox(mailbox)).uid_validity != mailbox.uid_validity:
            return False
        async for batch in fetch_span(self._mirror, mailbox, mailbox.uid_next, looked.changes.uid_next):
            await self._arrivals.write(batch, is_ascending=True)
        numbers = counted(mailbox, looked.changes, is_complete=is_complete)
        if not (mailbox.is_complete or is_complete):
            numbers = replace(numbers, highest_modseq=None)
        flagged = looked.flagged()
        while len(piece := tuple(islice(flagged, FACTS_AT_ONCE))) == FACTS_AT_ONCE:
            await self._mirror.apply(Delta(flagged=piece))
        await self._write(Delta(flagged=piece, removed=looked.removed, mailboxes_counted=(numbers,), notes=notes))
        return True

    async def _write(self, delta: Delta) -> None:
        ended = await pass_on(self._mirror, delta.removed)
        await self._mirror.apply_in_pieces(replace(delta, moved=ended.moved, removed=ended.removed))


def _is_another(known: Message, arrived: Arrived) -> bool:
    """Whether a message is not what the index has under its UID: by Message-ID, else by time and size."""
    header, known_header = arrived.overview.message_id_header, known.message_id_header
    if header and known_header:
        return not header.startswith(known_header)  # the index may have cut it
    return known.received_at_ms != arrived.received_at_ms and known.size_bytes != arrived.size_bytes


def _to_be_asked(mailbox: Mailbox, told: OriginMailbox | None) -> Mailbox:
    """Without its MODSEQ if that does not change although the counts do: then all flags are compared."""
    stands_still = told is not None and told.highest_modseq == mailbox.highest_modseq and mailbox.is_complete
    return replace(mailbox, highest_modseq=0) if stands_still else mailbox
