"""The first sync of a mailbox: newest first, in batches, to be taken up again wherever it was broken off.

The index's own UIDs say how far it came: what the origin has and the index has not is fetched.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from app.mail.delta import Arrived, Delta, Note, Placed
from app.mail.events import SyncProgress
from app.mail.types import Mailbox
from app.mirror.account import FACTS_AT_ONCE, Mirror
from app.mirror.arrivals import Arrivals, told_from
from app.mirror.changes import Batch, fetch_named, unknown_uids
from app.workers.sync.refresh import Refresher

PROGRESS_SECONDS = 1.0


@dataclass(slots=True)
class Progress:
    """Tells how far a first sync is, at most once a second."""

    next_at: float = 0.0

    def note(self, mailbox: Mailbox, indexed: int, total: int, *, is_complete: bool = False) -> tuple[Note, ...]:
        now = time.monotonic()
        if now < self.next_at and not is_complete:
            return ()
        self.next_at = now + PROGRESS_SECONDS
        return (Note(SyncProgress(mailbox.id, indexed, total, is_complete), mailbox.id),)


async def fill(mirror: Mirror, arrivals: Arrivals, refresher: Refresher, mailbox: Mailbox, progress: Progress) -> bool:
    """Fetch what the index lacks of a mailbox and mark it complete; False when it became another meanwhile."""
    missing = await unknown_uids(mirror, mailbox)  # what else changed, `complete` finds
    total, indexed = len(missing), 0
    async for batch in fetch_named(mirror, mailbox, missing[::-1], is_streamed=not mailbox.is_newcomer):
        indexed += len(batch)
        notes = progress.note(mailbox, indexed, total)
        if mailbox.is_newcomer:
            async with mirror.lock:
                await arrivals.write(told_from(mailbox, batch))
            await mirror.apply(Delta(notes=notes))
        else:
            await _write(mirror, told_from(mailbox, batch), notes)
    async with mirror.lock:
        return await refresher.complete(mailbox, progress.note(mailbox, indexed, total, is_complete=True))


async def _write(mirror: Mirror, batch: Batch, notes: tuple[Note, ...]) -> None:
    """What was there before anything else was known has not moved."""
    for start in range(0, len(batch), FACTS_AT_ONCE):
        piece = batch[start : start + FACTS_AT_ONCE]
        delta = Delta(
            arrived=tuple(arrival for arrival in piece if isinstance(arrival, Arrived)),
            placed=tuple(arrival for arrival in piece if isinstance(arrival, Placed)),
            notes=notes if start == 0 else (),
        )
        await mirror.apply(delta)
