"""Moves that another client made: an arrival that equals a message elsewhere keeps that message's id.

A move shows as an arrival and a removal, in two mailboxes, the arrival first or at the same time. So an arrival equal
to a message that is indexed elsewhere makes us ask at once whether that one is still there: gone, it was moved; still
there, it is a copy, whose original may go soon after (clients without MOVE copy, then delete). No id goes to a message
that is not the same for certain: see `likeness`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from app.errors import MailboxNotFound
from app.mail.delta import Arrived, Delta, Flagged, Location, Moved, Removed
from app.mail.identifiers import now_ms
from app.mail.types import Mailbox, MailboxId, Message
from app.mirror.account import Mirror
from app.mirror.likeness import Likeness, certain, look_for, place_of, recent_copies, recent_same, same_as

PASS_ON_SECONDS = 60.0
COPIES_LIMIT = 5_000
RECALLED_LIMIT = 500


@dataclass(frozen=True, slots=True)
class _Copy:
    """A message that is like one elsewhere. `is_only`: like no other; `is_certain`: the same by its origin's id."""

    place: Location
    until: float
    is_certain: bool
    is_only: bool


class Moves:
    """Binds arrivals to what they were before; remembers copies for as long as an original may pass its id on."""

    def __init__(self, mirror: Mirror, clock: Callable[[], float] = time.monotonic) -> None:
        self._mirror = mirror
        self._clock = clock
        self._copies: dict[Location, list[_Copy]] = {}
        self._began = clock()

    async def bind(self, arrived: Sequence[Arrived]) -> Delta:
        """What these arrivals of one mailbox are: moves of messages that are gone from elsewhere, or new.

        Messages that may be in several mailboxes are known by their origin's id: the index finds them by itself.
        """
        is_shared = bool(arrived) and arrived[0].is_shared
        found = Likeness({}) if is_shared else await look_for(self._mirror, arrived)
        if not found.like:
            return Delta(arrived=tuple(arrived))
        gone = await self._gone([one for like in found.like.values() for one in like])
        moving = {uid for uid, like in found.like.items() if any(place_of(one) in gone for one in like)}
        proven = await certain(self._mirror, arrived[0].mailbox_id, found, moving)
        moved: list[tuple[Location, Arrived]] = []
        fresh: list[Arrived] = []
        for one in arrived:
            source = next((at for at in map(place_of, proven.get(one.uid, [])) if at in gone), None)
            if source is not None:
                gone.discard(source)
                moved.append((source, one))
                self._follow(source, _place(one))
                continue
            fresh.append(one)
            self._remember(found, one, gone)
        return Delta(
            moved=tuple(Moved(source, _place(one), one.modseq) for source, one in moved),
            arrived=tuple(fresh),
            flagged=tuple(Flagged(_place(one), one.flags, one.modseq) for _, one in moved),
        )

    async def pass_on(self, removed: Sequence[Removed]) -> Delta:
        """What these removals are: the end of a copy's original, whose id passes to the copy, or of a message."""
        now = self._clock()
        if now < self._began + PASS_ON_SECONDS:
            await self._recall([one.location for one in removed if one.location not in self._copies])
        taken: set[Location] = set()
        moved: list[Moved] = []
        for one in removed:
            copies = [copy for copy in self._copies.pop(one.location, []) if copy.until >= now]
            target = next((at for at in await self._same_as(one.location, copies) if at not in taken), None)
            if target is not None:
                taken.add(target)
                moved.append(Moved(one.location, target))
        sources = {one.source for one in moved}
        return Delta(moved=tuple(moved), removed=tuple(one for one in removed if one.location not in sources))

    async def _recall(self, places: Sequence[Location]) -> None:
        """Look up copies that were seen before this began: by who watched before, till the process ended."""
        by_mailbox: dict[MailboxId, list[int]] = {}
        for place in places[:RECALLED_LIMIT]:
            by_mailbox.setdefault(place.mailbox_id, []).append(place.uid)
        until = self._clock() + PASS_ON_SECONDS
        for mailbox_id, uids in by_mailbox.items():
            originals = await self._mirror.index.locate(self._mirror.account_id, mailbox_id, uids)
            since_ms = now_ms() - int(PASS_ON_SECONDS * 1000)
            same = await recent_same(self._mirror, originals, since_ms)
            alike = await recent_copies(self._mirror, [one for one in originals if place_of(one) not in same], since_ms)
            for at, copies in (alike | same).items():
                self._copies[at] = [_Copy(to, until, is_certain=at in same, is_only=False) for to in copies]

    async def _same_as(self, original: Location, copies: Sequence[_Copy]) -> list[Location]:
        """Those of the copies that are the same as their original for certain."""
        there = {place_of(message): message for one in copies for message in await self._at(one.place)}
        copies = [one for one in copies if one.place in there]
        uncertain = [one for one in copies if not one.is_certain]
        if not uncertain:
            return [one.place for one in copies]
        messages = [there[one.place] for one in uncertain]
        same = await same_as(self._mirror, await self._at(original), messages)
        return [one.place for one in copies if one.is_certain or (one.is_only if same is None else one.place in same)]

    def _follow(self, source: Location, target: Location) -> None:
        """A message that may be a copy of another has gone elsewhere."""
        for copies in self._copies.values():
            copies[:] = [replace(one, place=target) if one.place == source else one for one in copies]

    async def _at(self, place: Location) -> list[Message]:
        return await self._mirror.index.locate(self._mirror.account_id, place.mailbox_id, [place.uid])

    def _remember(self, likeness: Likeness, copy: Arrived, gone: AbstractSet[Location]) -> None:
        """Note of what this arrival may be a copy."""
        now = self._clock()
        if len(self._copies) >= COPIES_LIMIT:
            alive = {at: [one for one in copies if one.until >= now] for at, copies in self._copies.items()}
            self._copies = {at: copies for at, copies in alive.items() if copies}
        originals = likeness.like.get(copy.uid, [])
        entry = _Copy(_place(copy), now + PASS_ON_SECONDS, likeness.is_certain, len(originals) == 1)
        for place in map(place_of, originals):
            if place not in gone and len(self._copies) < COPIES_LIMIT:
                self._copies.setdefault(place, []).append(entry)

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


def _place(one: Arrived) -> Location:
    return Location(one.mailbox_id, one.uid)
