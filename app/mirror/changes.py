"""The differences between a mail server and the index: new mail of a mailbox, changed flags, removals."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from app.errors import MailboxNotFound
from app.mail.backend import BackendChanges, OriginMailbox
from app.mail.delta import Arrived, Delta, Flagged, Known, Location, MailboxCounted, Placed, Removed, difference
from app.mail.identifiers import now_ms
from app.mail.types import Mailbox, MailboxId, Overview
from app.mirror.account import Mirror
from app.telemetry import get_logger

log = get_logger(__name__)

LIKELY_NEW = 50
"""UIDs to ask for when a signal does not say how many messages arrived: one round trip; missing UIDs cost nothing."""
OMITTED_LIMIT = 1_000
"""The most messages of one mailbox that become rows although the server lists but does not return them."""
OMITTED = "the mail server lists this message but does not return it"
FETCHED_AT_ONCE = 1_000
"""Messages that are fetched before they are processed."""
Batch = Sequence[Arrived | Placed]
"""Messages new to a mailbox, and placements of messages known in others."""
SPAN_LIMIT = 5_000
"""For a longer span of UIDs, the existing UIDs are listed before their messages are fetched."""
GONE_COUNT, GONE_SHARE = 50, 0.2
"""More removals than both are verified on a new connection before they are announced."""


@dataclass(frozen=True, slots=True)
class ServerDifference:
    """The server's answer, and how it differs from the index.

    `known` is the index's data if the answer covers all messages; None if it covers only changed ones.
    """

    mailbox_id: MailboxId
    changes: BackendChanges
    removed: tuple[Removed, ...]
    known: Mapping[int, Known] | None

    def flagged(self) -> Iterator[Flagged]:
        """Yield the flags to write, generated on demand: there may be hundreds of thousands."""
        for uid, now in self.changes.flags.items():
            if not now.is_told:
                continue
            if self.known is None:
                yield Flagged(Location(self.mailbox_id, uid), now.flags, now.modseq)
            elif _is_outdated(self.known.get(uid), now):
                yield Flagged(Location(self.mailbox_id, uid), now.flags)


async def new_mail(mirror: Mirror, mailbox: Mailbox, reported: OriginMailbox | None) -> AsyncIterator[Batch]:
    """Yield messages with UIDs from the mailbox's UIDNEXT on, ascending."""
    first = mailbox.uid_next
    stop = reported.uid_next if reported is not None and reported.uid_next is not None else first + LIKELY_NEW
    async for batch in fetch_span(mirror, mailbox, first, stop):
        yield batch


async def fetch_span(mirror: Mirror, mailbox: Mailbox, first: int, stop: int) -> AsyncIterator[Batch]:
    """Yield messages with UIDs from `first` up to `stop`, exclusive."""
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
    """Yield messages that the index lacks in this mailbox, in the order of `uids`.

    If a message may be in several mailboxes, known messages are yielded as placements and not fetched again. No
    connection is held between two batches, because the caller may need one, and the server may allow only one.
    `is_streamed` is for callers that need none until the end: one connection is held, and the next batch is always in
    transit.
    """
    for start in range(0, len(uids), FETCHED_AT_ONCE):
        batch_uids = uids[start : start + FETCHED_AT_ONCE]
        placements = {placed.uid: placed for placed in await mirror.backend.placements(mailbox, batch_uids)}
        if placements:
            messages = await _with_placed(mirror, mailbox, placements)
            yield [messages[uid] for uid in batch_uids if uid in messages]
        elif is_streamed:
            async for batch in mirror.backend.fetch(mailbox, uids[start:]):
                yield batch
            return
        else:
            yield await _fetch(mirror, mailbox, batch_uids)


async def fetch_named(
    mirror: Mirror, mailbox: Mailbox, uids: Sequence[int], *, is_streamed: bool = False
) -> AsyncIterator[Batch]:
    """Like `fetch_new`, for UIDs that the server listed.

    A message that the server lists again but never returns becomes a row with that reason.
    """
    fetched, near_ms = array("I"), 0
    async for batch in fetch_new(mirror, mailbox, uids, is_streamed=is_streamed):
        fetched.extend(arrival.uid for arrival in batch)
        near_ms = next((item.received_at_ms for item in reversed(batch) if isinstance(item, Arrived)), near_ms)
        yield batch
    if len(fetched) == len(uids):
        return
    omitted = sorted(set(uids).difference(fetched))[-OMITTED_LIMIT:]
    named = sorted(await mirror.backend.present(mailbox, omitted))
    fetched = array("I")
    async for batch in fetch_new(mirror, mailbox, named):
        fetched.extend(arrival.uid for arrival in batch)
        yield batch
    omitted = sorted(set(named).difference(fetched))
    if omitted and (named := sorted(await mirror.backend.present(mailbox, omitted))):
        log.warning("messages_omitted", account_id=mirror.account_id, mailbox_id=mailbox.id, messages=len(named))
        yield [_omitted(mailbox, uid, near_ms or now_ms()) for uid in named]


def _omitted(mailbox: Mailbox, uid: int, received_at_ms: int) -> Arrived:
    """Return the row of a message of which only the UID is known."""
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
    return [arrival async for batch in mirror.backend.fetch(mailbox, uids) for arrival in batch]


async def _with_placed(
    mirror: Mirror, mailbox: Mailbox, placements: Mapping[int, Placed]
) -> Mapping[int, Arrived | Placed]:
    """Return messages by UID: placements of those that the index has in other mailboxes, the others fetched."""
    known = await mirror.reader.mirrored.known_origins(
        mirror.account_id, [item.origin_id for item in placements.values()]
    )
    placed = {uid: item for uid, item in placements.items() if item.origin_id in known}
    arrived = await _fetch(mirror, mailbox, [uid for uid in placements if uid not in placed])
    return placed | {arrival.uid: arrival for arrival in arrived}


async def changes_of(mirror: Mirror, mailbox: Mailbox, reported: OriginMailbox | None) -> ServerDifference | None:
    """Return flags and removals since the mailbox's HIGHESTMODSEQ.

    None if the mailbox was deleted or recreated: the next list of mailboxes handles that.
    """
    # read the index before asking the server: messages that a caller adds meanwhile are then in both, never removed
    known = None if mailbox.highest_modseq else await mirror.reader.mirrored.known(mirror.account_id, mailbox.id)
    try:
        changes = await mirror.backend.changes(mailbox)
    except MailboxNotFound:
        return None
    if changes.uid_validity != mailbox.uid_validity:
        return None
    if changes.highest_modseq < mailbox.highest_modseq:  # it was reset, or is no longer stored
        return await changes_of(mirror, replace(mailbox, highest_modseq=0), reported)
    if changes.vanished is not None:
        gone: Collection[int] = await _known_among(mirror, mailbox, changes.vanished)
        known = None
    elif known is not None:  # then they are the flags of all messages
        gone = [uid for uid in known if uid not in changes.flags]
    else:
        gone = [] if reported is not None and reported.total == mailbox.total else await _missing(mirror, mailbox)
    return ServerDifference(mailbox.id, changes, await _confirmed(mirror, mailbox, gone), known)


def _is_outdated(known: Known | None, now: Known) -> bool:
    """Whether the flags in the index differ, or have a MODSEQ that would wrongly count as newer."""
    return known is not None and (known.flags != now.flags or known.modseq > now.modseq)


async def unknown_uids(mirror: Mirror, mailbox: Mailbox) -> Sequence[int]:
    """Return the UIDs that the index lacks, ascending."""
    known = await mirror.reader.mirrored.known(mirror.account_id, mailbox.id)
    present = await mirror.backend.uids(mailbox)
    return array("I", (uid for uid in present if uid not in known)) if known else present


async def whole_difference(mirror: Mirror, mailbox: Mailbox) -> tuple[Delta, Sequence[int]]:
    """Compare all UIDs. Return flags and removals as a Delta, and the UIDs that the index lacks, ascending."""
    known = await mirror.reader.mirrored.known(mirror.account_id, mailbox.id)
    scanned = await mirror.backend.scan(mailbox)
    delta, missing = await asyncio.to_thread(difference, mailbox.id, known, scanned)  # 100 ms for 100,000 messages
    gone = {removal.location.uid for removal in delta.removed}
    return Delta(flagged=delta.flagged, removed=await _confirmed(mirror, mailbox, gone)), missing


def counted(mailbox: Mailbox, changes: BackendChanges, *, is_complete: bool | None = None) -> MailboxCounted:
    """Return the numbers of a mailbox after these changes."""
    uid_next = max(changes.uid_next, mailbox.uid_next)
    return MailboxCounted(mailbox.id, uid_next, changes.highest_modseq, is_complete=is_complete)


async def _missing(mirror: Mirror, mailbox: Mailbox) -> list[int]:
    known = await mirror.reader.mirrored.known(mirror.account_id, mailbox.id)
    scanned = await mirror.backend.scan(mailbox)
    return [uid for uid in known if uid not in scanned]


async def _known_among(mirror: Mirror, mailbox: Mailbox, vanished: Collection[int]) -> set[int]:
    """Return those UIDs that the index has: a server may report many that never existed."""
    if len(vanished) > GONE_COUNT:
        known = await mirror.reader.mirrored.known(mirror.account_id, mailbox.id)
        return {uid for uid in vanished if uid in known}
    messages = await mirror.reader.messages.locate(mirror.account_id, mailbox.id, vanished) if vanished else []
    return {message.uid for message in messages}


async def _confirmed(mirror: Mirror, mailbox: Mailbox, gone: Collection[int]) -> tuple[Removed, ...]:
    """Return the confirmed removals. If suspiciously many messages seem to be gone, verify on a new connection."""
    if len(gone) > GONE_COUNT and len(gone) > GONE_SHARE * mailbox.total:
        scanned = await mirror.backend.scan(mailbox, is_anew=True)
        gone = [uid for uid in gone if uid not in scanned]
    return tuple(Removed(Location(mailbox.id, uid)) for uid in sorted(gone))
