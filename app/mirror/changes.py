"""What an origin says that the index does not know: new mail of a mailbox, its changed flags, its removals."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from app.errors import MailboxNotFound
from app.mail.backend import Changes, OriginMailbox
from app.mail.delta import Arrived, Delta, Flagged, Known, Location, MailboxCounted, Placed, Removed, difference
from app.mail.identifiers import now_ms
from app.mail.types import Mailbox, MailboxId, Overview
from app.mirror.account import Mirror
from app.telemetry import get_logger

log = get_logger(__name__)

LIKELY_NEW = 50
"""UIDs asked for where a signal does not tell how many came: one round trip; those that are not there cost nothing."""
OMITTED_LIMIT = 1_000
"""Messages that a server names and does not return, of one mailbox, that become rows at once."""
OMITTED = "the mail server lists this message and does not return it"
FETCHED_AT_ONCE = 1_000
"""Messages that are fetched before they are looked at."""
Batch = Sequence[Arrived | Placed]
"""Messages new to a mailbox, and messages known elsewhere that are there too."""
SPAN_LIMIT = 5_000
"""A longer span of UIDs is looked through before its messages are fetched."""
GONE_COUNT, GONE_SHARE = 50, 0.2
"""More than both is confirmed on a new connection before it is announced."""


@dataclass(frozen=True, slots=True)
class ServerChanges:
    """What the origin answered, and what of it the index does not know.

    `known` is what the index has, if the answer covers all messages; None if it covers only changed ones.
    """

    mailbox_id: MailboxId
    changes: Changes
    removed: tuple[Removed, ...]
    known: Mapping[int, Known] | None

    def flagged(self) -> Iterator[Flagged]:
        """The flags to write, made as they are asked for: there may be hundreds of thousands."""
        for uid, now in self.changes.flags.items():
            if not now.is_told:
                continue
            if self.known is None:
                yield Flagged(Location(self.mailbox_id, uid), now.flags, now.modseq)
            elif _is_outdated(self.known.get(uid), now):
                yield Flagged(Location(self.mailbox_id, uid), now.flags)


async def new_mail(mirror: Mirror, mailbox: Mailbox, told: OriginMailbox | None) -> AsyncIterator[Batch]:
    """Messages with a UID from the mailbox's UIDNEXT on, ascending."""
    first = mailbox.uid_next
    stop = told.uid_next if told is not None and told.uid_next is not None else first + LIKELY_NEW
    async for batch in fetch_span(mirror, mailbox, first, stop):
        yield batch


async def fetch_span(mirror: Mirror, mailbox: Mailbox, first: int, stop: int) -> AsyncIterator[Batch]:
    """Messages with UIDs from `first` up to `stop`, exclusive."""
    uids: Sequence[int] = range(first, stop)
    if len(uids) > SPAN_LIMIT:
        uids = [uid for uid in await mirror.backend.scan(mailbox) if first <= uid < stop]
    if not uids:
        return
    async for batch in fetch_new(mirror, mailbox, uids):
        yield batch


async def fetch_new(
    mirror: Mirror, mailbox: Mailbox, uids: Sequence[int], *, is_streamed: bool = False
) -> AsyncIterator[Batch]:
    """Messages that the index lacks here, in the order of `uids`.

    Where one message may be in several mailboxes, known messages are reported and not fetched again. Between two
    batches no connection is held, since who asks may need one, and the server may allow no other. `is_streamed` is for
    who needs none until the end: one is held, and the next batch is always on its way.
    """
    for start in range(0, len(uids), FETCHED_AT_ONCE):
        asked = uids[start : start + FETCHED_AT_ONCE]
        told = {placed.uid: placed for placed in await mirror.backend.placements(mailbox, asked)}
        if told:
            there = await _with_placed(mirror, mailbox, told)
            yield [there[uid] for uid in asked if uid in there]
        elif is_streamed:
            async for batch in mirror.backend.fetch(mailbox, uids[start:]):
                yield batch
            return
        else:
            yield await _fetch(mirror, mailbox, asked)


async def fetch_named(
    mirror: Mirror, mailbox: Mailbox, uids: Sequence[int], *, is_streamed: bool = False
) -> AsyncIterator[Batch]:
    """The same for UIDs that the origin named. One that it goes on naming and never returns is a row that says so."""
    came, near_ms = array("I"), 0
    async for batch in fetch_new(mirror, mailbox, uids, is_streamed=is_streamed):
        came.extend(arrival.uid for arrival in batch)
        near_ms = next((item.received_at_ms for item in reversed(batch) if isinstance(item, Arrived)), near_ms)
        yield batch
    if len(came) == len(uids):
        return
    omitted = sorted(set(uids).difference(came))[-OMITTED_LIMIT:]
    named = sorted(await mirror.backend.present(mailbox, omitted))
    came = array("I")
    async for batch in fetch_new(mirror, mailbox, named):
        came.extend(arrival.uid for arrival in batch)
        yield batch
    omitted = sorted(set(named).difference(came))
    if omitted and (named := sorted(await mirror.backend.present(mailbox, omitted))):
        log.warning("messages_omitted", account_id=mirror.account_id, mailbox_id=mailbox.id, messages=len(named))
        yield [_omitted(mailbox, uid, near_ms or now_ms()) for uid in named]


def _omitted(mailbox: Mailbox, uid: int, received_at_ms: int) -> Arrived:
    """The row of a message of which nothing but its UID is known."""
    return Arrived(
        mailbox.id,
        uid,
        frozenset(),
        received_at_ms,
        0,
        Overview(),
        None,
        preview="",
        uid_validity=mailbox.uid_validity,
        problems=(OMITTED,),
        unread=OMITTED,
    )


async def _fetch(mirror: Mirror, mailbox: Mailbox, uids: Sequence[int]) -> list[Arrived]:
    return [one async for batch in mirror.backend.fetch(mailbox, uids) for one in batch]


async def _with_placed(mirror: Mirror, mailbox: Mailbox, told: Mapping[int, Placed]) -> Mapping[int, Arrived | Placed]:
    """Messages by UID: those that the index has in other mailboxes as listed, the others fetched."""
    known = await mirror.reader.mirrored.known_origins(mirror.account_id, [item.origin_id for item in told.values()])
    placed = {uid: one for uid, one in told.items() if one.origin_id in known}
    arrived = await _fetch(mirror, mailbox, [uid for uid in told if uid not in placed])
    return placed | {arrival.uid: arrival for arrival in arrived}


async def changes_of(mirror: Mirror, mailbox: Mailbox, told: OriginMailbox | None) -> ServerChanges | None:
    """Flags and removals since the mailbox's HIGHESTMODSEQ.

    None when it is not the mailbox any more that we know: the list of mailboxes will say what it is.
    """
    # what the index has is read before the origin is asked: what a caller adds meanwhile is in both, never gone
    known = None if mailbox.highest_modseq else await mirror.reader.mirrored.known(mirror.account_id, mailbox.id)
    try:
        changes = await mirror.backend.changes(mailbox)
    except MailboxNotFound:
        return None
    if changes.uid_validity != mailbox.uid_validity:
        return None
    if changes.highest_modseq < mailbox.highest_modseq:  # it was reset, or is no longer stored
        return await changes_of(mirror, replace(mailbox, highest_modseq=0), told)
    if changes.vanished is not None:
        gone: Collection[int] = await _known_among(mirror, mailbox, changes.vanished)
        known = None
    elif known is not None:  # then they are the flags of all messages
        gone = [uid for uid in known if uid not in changes.flags]
    else:
        gone = [] if told is not None and told.total == mailbox.total else await _missing(mirror, mailbox)
    return ServerChanges(mailbox.id, changes, await _confirmed(mirror, mailbox, gone), known)


def _is_outdated(known: Known | None, now: Known) -> bool:
    """Whether a message has other flags than the index knows, or what it knows would count as newer than what comes."""
    return known is not None and (known.flags != now.flags or known.modseq > now.modseq)


async def unknown_uids(mirror: Mirror, mailbox: Mailbox) -> Sequence[int]:
    """The UIDs that the index lacks, ascending."""
    known = await mirror.reader.mirrored.known(mirror.account_id, mailbox.id)
    there = await mirror.backend.uids(mailbox)
    return array("I", (uid for uid in there if uid not in known)) if known else there


async def whole_difference(mirror: Mirror, mailbox: Mailbox) -> tuple[Delta, Sequence[int]]:
    """Compare every UID: flags and removals as a Delta, and the UIDs that the index lacks, ascending."""
    known = await mirror.reader.mirrored.known(mirror.account_id, mailbox.id)
    scanned = await mirror.backend.scan(mailbox)
    delta, missing = await asyncio.to_thread(difference, mailbox.id, known, scanned)  # 100 ms for 100,000 messages
    gone = {removal.location.uid for removal in delta.removed}
    return Delta(flagged=delta.flagged, removed=await _confirmed(mirror, mailbox, gone)), missing


def counted(mailbox: Mailbox, changes: Changes, *, is_complete: bool | None = None) -> MailboxCounted:
    """How far a mailbox's index is after these changes."""
    uid_next = max(changes.uid_next, mailbox.uid_next)
    return MailboxCounted(mailbox.id, uid_next, changes.highest_modseq, is_complete=is_complete)


async def _missing(mirror: Mirror, mailbox: Mailbox) -> list[int]:
    known = await mirror.reader.mirrored.known(mirror.account_id, mailbox.id)
    there = await mirror.backend.scan(mailbox)
    return [uid for uid in known if uid not in there]


async def _known_among(mirror: Mirror, mailbox: Mailbox, vanished: Collection[int]) -> set[int]:
    """Those of the UIDs that the index has: a server may name many that never were."""
    if len(vanished) > GONE_COUNT:
        known = await mirror.reader.mirrored.known(mirror.account_id, mailbox.id)
        return {uid for uid in vanished if uid in known}
    found = await mirror.reader.messages.locate(mirror.account_id, mailbox.id, vanished) if vanished else []
    return {message.uid for message in found}


async def _confirmed(mirror: Mirror, mailbox: Mailbox, gone: Collection[int]) -> tuple[Removed, ...]:
    """The removals that are true: where suspiciously many messages seem to be gone, a new connection is asked."""
    if len(gone) > GONE_COUNT and len(gone) > GONE_SHARE * mailbox.total:
        there = await mirror.backend.scan(mailbox, is_anew=True)
        gone = [uid for uid in gone if uid not in there]
    return tuple(Removed(Location(mailbox.id, uid)) for uid in sorted(gone))
