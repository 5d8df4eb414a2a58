"""Moves by other clients: an arrival that equals a message elsewhere keeps that message's id.

A move is an arrival and a removal in two mailboxes; the arrival is seen first or at the same time. If an arrival
equals a message that is indexed elsewhere, the server is asked at once whether that one still exists. If not, it was
moved. If so, the arrival is a copy, whose original may be removed soon (clients without MOVE copy, then delete). An
id is reused only for a message that is certainly the same: see `likeness`. Only the index records copies.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from app.errors import MailboxNotFound
from app.mail.delta import Arrived, Delta, Flagged, Location, Moved, Removed
from app.mail.identifiers import now_ms
from app.mail.types import Mailbox, MailboxId, Message
from app.mirror.account import Mirror
from app.mirror.likeness import Likeness, certain, copies_of, look_for, place_of

PASS_ON_SECONDS = 60.0
"""How long after its copy an original may be removed and pass on its id, not counting time without contact."""
REMOVED_AT_ONCE = 500


async def bind(mirror: Mirror, arrived: Sequence[Arrived]) -> Delta:
    """Return what these arrivals of one mailbox are: moves of messages that are gone elsewhere, or new messages.

    A moved message is also returned as an arrival, in case its row has been deleted by then. For messages that may be
    in several mailboxes, the index uses the origin id.
    """
    is_shared = bool(arrived) and arrived[0].is_shared
    likeness = Likeness({}) if is_shared else await look_for(mirror, arrived)
    if not likeness.like:
        return Delta(arrived=tuple(arrived))
    gone = await _gone(mirror, [message for like in likeness.like.values() for message in like])
    moving = {uid for uid, like in likeness.like.items() if any(place_of(message) in gone for message in like)}
    proven = await certain(mirror, arrived[0].mailbox_id, likeness, moving)
    moved: list[tuple[Location, Arrived]] = []
    for arrival in arrived:
        source = next((at for at in map(place_of, proven.get(arrival.uid, [])) if at in gone), None)
        if source is not None:
            gone.discard(source)
            moved.append((source, arrival))
    return Delta(
        moved=tuple(Moved(source, _place(arrival), arrival.modseq) for source, arrival in moved),
        arrived=tuple(arrived),
        flagged=tuple(Flagged(_place(arrival), arrival.flags, arrival.modseq) for _, arrival in moved),
    )


async def pass_on(mirror: Mirror, removed: Sequence[Removed]) -> Delta:
    """Return what these removals are: an original whose id passes to its copy, or a deleted message."""
    seen_ms = now_ms() if mirror.unheard_since_ms is None else mirror.unheard_since_ms
    since_ms = seen_ms - int(PASS_ON_SECONDS * 1000)
    taken: set[Location] = set()
    moved: list[Moved] = []
    for start in range(0, len(removed), REMOVED_AT_ONCE):
        piece = removed[start : start + REMOVED_AT_ONCE]
        copies = await copies_of(mirror, await _located(mirror, piece), since_ms)
        for removal in piece:
            target = next((at for at in copies.get(removal.location, []) if at not in taken), None)
            if target is not None:
                taken.add(target)
                moved.append(Moved(removal.location, target))
    sources = {move.source for move in moved}
    return Delta(moved=tuple(moved), removed=tuple(removal for removal in removed if removal.location not in sources))


async def _located(mirror: Mirror, removed: Sequence[Removed]) -> list[Message]:
    by_mailbox: dict[MailboxId, list[int]] = {}
    for removal in removed:
        by_mailbox.setdefault(removal.location.mailbox_id, []).append(removal.location.uid)
    messages: list[Message] = []
    for mailbox_id, uids in by_mailbox.items():
        messages += await mirror.reader.messages.locate(mirror.account_id, mailbox_id, uids)
    return messages


async def _gone(mirror: Mirror, messages: Sequence[Message]) -> set[Location]:
    """Return the messages that the server no longer has."""
    by_mailbox: dict[MailboxId, set[int]] = {}
    for message in messages:
        by_mailbox.setdefault(message.mailbox_id, set()).add(message.uid)
    gone: set[Location] = set()
    for mailbox in await mirror.mailboxes():
        uids = by_mailbox.get(mailbox.id)
        if uids:
            present = await _present(mirror, mailbox, uids)
            gone |= {Location(mailbox.id, uid) for uid in uids if uid not in present}
    return gone


async def _present(mirror: Mirror, mailbox: Mailbox, uids: Collection[int]) -> set[int]:
    try:
        return set(await mirror.backend.present(mailbox, uids))
    except MailboxNotFound:
        return set()


def _place(arrival: Arrived) -> Location:
    return Location(arrival.mailbox_id, arrival.uid)
