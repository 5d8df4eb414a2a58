"""VANISHED (EARLIER): which messages left the selected mailbox since a MODSEQ (RFC 7162 §3.2.5, §3.2.6)."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from app.mail.types import Mailbox
from app.servers.conversation import ReplyWriter
from app.servers.imap.news import catch_up
from app.servers.imap.session import Session
from app.servers.imap.uids import holds
from app.wire.imap.sets import Range, SequenceSet

LOG_LIMIT = 2_000
"""Entries of the account's log that are read to find what left; beyond that every UID without a message is named."""
RANGES_AT_ONCE = 1_000
"""Ranges of one VANISHED."""
_LEAVING = frozenset({"message.moved", "message.deleted"})


async def send_vanished(session: Session, mailbox: Mailbox, since: int, known: SequenceSet, out: ReplyWriter) -> None:
    """Send VANISHED (EARLIER) for what left the selected mailbox after MODSEQ `since`.

    `mailbox` is its row, and `known` the UIDs that the client knows, resolved. A UID that the client does not know may
    be among those sent.
    """
    await catch_up(session)  # a message that came after the row was read must not count as one that left
    known = known.within(1, mailbox.uid_next - 1)
    present = session.selected.all_uids()
    left = await _left_since(session, since)
    if left is None:
        ranges = await asyncio.to_thread(lambda: list(gaps(present, known)))
    else:
        ranges = list(SequenceSet.of(uid for uid in left if uid in known and not holds(present, uid)).ranges)
    for start in range(0, len(ranges), RANGES_AT_ONCE):
        some = SequenceSet(tuple(ranges[start : start + RANGES_AT_ONCE]))
        await out.send(f"* VANISHED (EARLIER) {some}\r\n".encode())
        await session.pace.spend(RANGES_AT_ONCE // 5)


async def _left_since(session: Session, since: int) -> set[int] | None:
    """UIDs of the messages that left, by the account's log; None where that does not reach back, or says too much.

    A MODSEQ is the number of an event.
    """
    changes = await session.services.views.changes_after(session.account, since, LOG_LIMIT)
    if len(changes) == LOG_LIMIT or (changes and changes[0].seq != since + 1):
        return None
    mailbox_id = session.selected.mailbox_id
    return {
        change.uid
        for change in changes
        if change.type in _LEAVING and change.mailbox_id == mailbox_id and change.uid is not None
    }


def gaps(present: Sequence[int], known: SequenceSet) -> Iterator[Range]:
    """The numbers of a resolved set that are not among the UIDs `present`, which ascend, as ranges."""
    for low, high in known.ranges:
        expected = low
        for uid in present[bisect_left(present, low) : bisect_left(present, high + 1)]:
            if uid > expected:
                yield expected, uid - 1
            expected = uid + 1
        if expected <= high:
            yield expected, high
