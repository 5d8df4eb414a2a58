"""Updates mailboxes from their mail server: all arrivals first, so that moves are known before removals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from app.mail.backend import OriginMailbox
from app.mail.delta import Arrived, Delta, Location, Note, Removed
from app.mail.types import Mailbox, Message
from app.mirror.account import FACTS_AT_ONCE, Mirror
from app.mirror.arrivals import Ask, ListedMailboxes, MirroredArrivals
from app.mirror.aside import SETTLE
from app.mirror.changes import ServerDifference, changes_of, counted, fetch_named, fetch_span, whole_difference
from app.mirror.listing import differs
from app.mirror.moves import pass_on
from app.telemetry import get_logger

log = get_logger(__name__)

NEWEST_COMPARED = 20
"""Number of messages to compare if new mail was announced but no new UID was found."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The changes of one mailbox that are to be written."""

    mailbox: Mailbox
    changes: ServerDifference


class Refresher:
    """Call every method with the mirror's lock held. `ask` lists all mailboxes and writes new ones to the index."""

    def __init__(self, mirror: Mirror, arrivals: MirroredArrivals, ask: Ask) -> None:
        self._mirror = mirror
        self._arrivals = arrivals
        self._aside = arrivals.aside
        self._ask = ask

    async def refresh(self, mailboxes: Sequence[Mailbox], listed: ListedMailboxes) -> None:
        """Write what changed in these mailboxes."""
        for mailbox in mailboxes:
            await self._aside.tolerate(mailbox, "look", self._arrivals.look(mailbox, listed.get(mailbox.origin_name)))
        comparisons: list[_Comparison] = []
        for mailbox in mailboxes:
            await self._aside.tolerate(
                mailbox, "compare", self._compare(mailbox, listed.get(mailbox.origin_name), comparisons)
            )
        if any(comparison.changes.removed for comparison in comparisons):
            await self._arrivals.look_elsewhere(self._ask)
        for comparison in comparisons:
            await self._aside.tolerate(comparison.mailbox, SETTLE, self._settle(comparison))

    async def complete(self, mailbox: Mailbox, notes: tuple[Note, ...]) -> bool:
        """Update a completely fetched mailbox and mark it complete; False if it was recreated meanwhile.

        `notes` announce that in the same transaction, because changes before it emit no events.
        """
        mailbox = await self._mirror.mailbox(mailbox)
        changes = await changes_of(self._mirror, mailbox, None)
        if changes is None:
            return False
        if changes.removed:
            await self._arrivals.look_elsewhere(self._ask)
        return await self._settle(_Comparison(mailbox, changes), is_complete=True, notes=notes)

    async def reconcile(self, mailbox: Mailbox) -> bool:
        """Compare a mailbox with the server message by message and correct it; return whether it differed."""
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
        """Replace the newest messages whose UIDs the server reused, which RFC 3501 §2.3.1.1 forbids."""
        newest = await self._mirror.backend.newest(mailbox, NEWEST_COMPARED)
        uids = [arrived.uid for arrived in newest]
        located = await self._mirror.reader.messages.locate(self._mirror.account_id, mailbox.id, uids)
        known = {message.uid: message for message in located}
        others = [arrival for arrival in newest if arrival.uid in known and _is_another(known[arrival.uid], arrival)]
        if others:  # an unread message cannot be compared
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

    async def _compare(self, mailbox: Mailbox, listed: OriginMailbox | None, comparisons: list[_Comparison]) -> None:
        """Read the changes. Sends no command if the signalled STATUS equals the index."""
        mailbox = await self._mirror.mailbox(mailbox)
        if listed is not None and listed.highest_modseq and mailbox.is_complete and not differs(mailbox, listed):
            return
        changes = await changes_of(self._mirror, _to_be_asked(mailbox, listed), listed)
        if changes is not None:
            comparisons.append(_Comparison(mailbox, changes))

    async def _settle(
        self, comparison: _Comparison, *, is_complete: bool | None = None, notes: tuple[Note, ...] = ()
    ) -> bool:
        """Write the changes; False if the mailbox was recreated meanwhile.

        An incomplete mailbox keeps the MODSEQ from before its initial sync.
        """
        mailbox, changes = comparison.mailbox, comparison.changes
        if (await self._mirror.mailbox(mailbox)).uid_validity != mailbox.uid_validity:
            return False
        async for batch in fetch_span(self._mirror, mailbox, mailbox.uid_next, changes.changes.uid_next):
            await self._arrivals.write(batch, is_ascending=True)
        counts = counted(mailbox, changes.changes, is_complete=is_complete)
        if not (mailbox.is_complete or is_complete):
            counts = replace(counts, highest_modseq=None)
        flagged = changes.flagged()
        while len(piece := tuple(islice(flagged, FACTS_AT_ONCE))) == FACTS_AT_ONCE:
            await self._mirror.apply(Delta(flagged=piece))
        await self._write(Delta(flagged=piece, removed=changes.removed, mailboxes_counted=(counts,), notes=notes))
        return True

    async def _write(self, delta: Delta) -> None:
        ended = await pass_on(self._mirror, delta.removed)
        await self._mirror.apply_in_pieces(replace(delta, moved=ended.moved, removed=ended.removed))


def _is_another(known: Message, arrived: Arrived) -> bool:
    """Whether a message differs from the one that the index has under its UID: by Message-ID, else by time and size."""
    header, known_header = arrived.overview.message_id_header, known.message_id_header
    if header and known_header:
        return not header.startswith(known_header)  # the index may have cut it
    return known.received_at_ms != arrived.received_at_ms and known.size_bytes != arrived.size_bytes


def _to_be_asked(mailbox: Mailbox, listed: OriginMailbox | None) -> Mailbox:
    """The mailbox, without its MODSEQ if that did not change although the counts did: then all flags are compared."""
    is_stale = listed is not None and listed.highest_modseq == mailbox.highest_modseq and mailbox.is_complete
    return replace(mailbox, highest_modseq=0) if is_stale else mailbox
