"""The first sync of a mailbox: newest first, in batches, to be taken up again wherever it was broken off.

The index's own UIDs say how far it came: what the origin has and the index has not is fetched.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from app.mail.delta import Arrived, Delta, Note, Placed
from app.mail.types import Mailbox
from app.mirror.account import FACTS_AT_ONCE, Mirror
from app.mirror.changes import Batch, fetch_new, unknown_uids
from app.workers.sync.refresh import Ask, Refresher

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
        facts = {"mailbox_id": mailbox.id, "indexed": indexed, "total": total, "is_complete": is_complete}
        return (Note("sync.progress", mailbox.id, facts),)


async def fill(mirror: Mirror, refresher: Refresher, mailbox: Mailbox, progress: Progress, ask: Ask) -> bool:
    """Fetch what the index lacks of a mailbox and mark it complete; False when it became another meanwhile."""
    is_newcomer = mailbox.id in mirror.newcomers
    missing = await unknown_uids(mirror, mailbox)  # what else changed, `complete` finds
    total, indexed = len(missing), 0
    async for batch in fetch_new(mirror, mailbox, missing[::-1], is_streamed=not is_newcomer):
        indexed += len(batch)
        if is_newcomer:
            async with mirror.lock:
                await refresher.arrive(batch)
        else:
            await _write(mirror, mailbox, batch, progress.note(mailbox, indexed, total))
    async with mirror.lock:
        if not await refresher.complete(mailbox, progress.note(mailbox, indexed, total, is_complete=True), ask):
            return False
    mirror.newcomers.discard(mailbox.id)
    return True


async def _write(mirror: Mirror, mailbox: Mailbox, batch: Batch, notes: tuple[Note, ...]) -> None:
    """What was there when the first sync began comes without an event of its own; what came later is new mail."""
    for start in range(0, len(batch), FACTS_AT_ONCE):
        piece = batch[start : start + FACTS_AT_ONCE]
        told = [replace(one, is_announced=one.uid >= mailbox.uid_next) for one in piece]
        delta = Delta(
            arrived=tuple(one for one in told if isinstance(one, Arrived)),
            placed=tuple(one for one in told if isinstance(one, Placed)),
            notes=notes if start == 0 else (),
        )
        await mirror.apply(delta)
