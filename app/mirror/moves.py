"""Moves that another client made: an arrival that equals a message elsewhere keeps that message's id.

A move shows as an arrival and a removal, in two mailboxes, the arrival first or at the same time. So an arrival equal
to a message that is indexed elsewhere makes us ask at once whether that one is still there: gone, it was moved; still
there, it is a copy, whose original may go soon after (clients without MOVE copy, then delete). No id goes to a message
that is not the same for certain: see `likeness`. Only the index records copies.
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
"""So long after its copy an original may go and pass its id on; the time in which nobody could see it go aside."""
REMOVED_AT_ONCE = 500


async def bind(mirror: Mirror, arrived: Sequence[Arrived]) -> Delta:
    """What these arrivals of one mailbox are: moves of messages that are gone from elsewhere, or new.

    A moved message is also reported as an arrival, in case its row has been deleted by then.
    Messages that may be in several mailboxes are known by their origin's id: the index finds them by itself.
    """
    is_shared = bool(arrived) and arrived[0].is_shared
    found = Likeness({}) if is_shared else await look_for(mirror, arrived)
    if not found.like:
        return Delta(arrived=tuple(arrived))
    gone = await _gone(mirror, [one for like in found.like.values() for one in like])
    moving = {uid for uid, like in found.like.items() if any(place_of(message) in gone for message in like)}
    proven = await certain(mirror, arrived[0].mailbox_id, found, moving)
    moved: list[tuple[Location, Arrived]] = []
    for arrival in arrived:
        source = next((at for at in map(place_of, proven.get(arrival.uid, [])) if at in gone), None)
        if source is not None:
            gone.discard(source)
            moved.append((source, arrival))
    return Delta(
        moved=tuple(Moved(source, _place(one), one.modseq) for source, one in moved),
        arrived=tuple(arrived),
        flagged=tuple(Flagged(_place(one), one.flags, one.modseq) for _, one in moved),
    )


async def pass_on(mirror: Mirror, removed: Sequence[Removed]) -> Delta:
    """What these removals are: the end of a copy's original, whose id passes to the copy, or of a message."""
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
    found: list[Message] = []
    for mailbox_id, uids in by_mailbox.items():
        found += await mirror.reader.messages.locate(mirror.account_id, mailbox_id, uids)
    return found


async def _gone(mirror: Mirror, messages: Sequence[Message]) -> set[Location]:
    """Those that their mailboxes' origin has no more."""
    by_mailbox: dict[MailboxId, set[int]] = {}
    for message in messages:
        by_mailbox.setdefault(message.mailbox_id, set()).add(message.uid)
    gone: set[Location] = set()
    for mailbox in await mirror.mailboxes():
        uids = by_mailbox.get(mailbox.id)
        if uids:
            there = await _there(mirror, mailbox, uids)
            gone |= {Location(mailbox.id, uid) for uid in uids if uid not in there}
    return gone


async def _there(mirror: Mirror, mailbox: Mailbox, uids: Collection[int]) -> set[int]:
    try:
        return set(await mirror.backend.present(mailbox, uids))
    except MailboxNotFound:
        return set()


def _place(arrival: Arrived) -> Location:
    return Location(arrival.mailbox_id, arrival.uid)
