"""The initial sync of a mailbox: newest first, in batches; resumes after an interruption.

UIDs that the mail server has and the index lacks are fetched, so no other record of progress is needed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from app.mail.delta import Arrived, Delta, Note, Placed
from app.mail.events import SyncProgress
from app.mail.types import Mailbox
from app.mirror.account import FACTS_AT_ONCE, Mirror
from app.mirror.arrivals import MirroredArrivals, told_from
from app.mirror.changes import Batch, fetch_named, unknown_uids
from app.workers.sync.refresh import Refresher

PROGRESS_SECONDS = 1.0


@dataclass(slots=True)
class Progress:
    """Reports the progress of an initial sync, at most once a second."""

    next_at: float = 0.0

    def note(self, mailbox: Mailbox, indexed: int, total: int, *, is_complete: bool = False) -> tuple[Note, ...]:
        now = time.monotonic()
        if now < self.next_at and not is_complete:
            return ()
        self.next_at = now + PROGRESS_SECONDS
        return (Note(SyncProgress(mailbox.id, indexed, total, is_complete), mailbox.id),)


async def fill(
    mirror: Mirror, arrivals: MirroredArrivals, refresher: Refresher, mailbox: Mailbox, progress: Progress
) -> bool:
    """Fetch messages that the index lacks and mark the mailbox complete; False if it was recreated meanwhile."""
    missing = await unknown_uids(mirror, mailbox)  # `complete` finds all other changes
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
    """Write older messages, without looking for moves: nothing else was known yet."""
    for start in range(0, len(batch), FACTS_AT_ONCE):
        piece = batch[start : start + FACTS_AT_ONCE]
        delta = Delta(
            arrived=tuple(arrival for arrival in piece if isinstance(arrival, Arrived)),
            placed=tuple(arrival for arrival in piece if isinstance(arrival, Placed)),
            notes=notes if start == 0 else (),
        )
        await mirror.apply(delta)
