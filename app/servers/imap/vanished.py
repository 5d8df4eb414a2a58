"""VANISHED (EARLIER): messages that left the selected mailbox since a MODSEQ (RFC 7162 §3.2.5, §3.2.6)."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from app.mail.types import Mailbox
from app.servers.conversation import ReplyWriter
from app.servers.imap.news import catch_up
from app.servers.imap.session import ServerSession
from app.servers.imap.uids import holds
from app.wire.imap.sets import Range, SequenceSet

LOG_LIMIT = 2_000
"""Entries of the account's log that are read to find removed messages; beyond that every unused UID is sent."""
RANGES_AT_ONCE = 1_000
"""Ranges of one VANISHED response."""
_LEAVING = frozenset({"message.moved", "message.deleted"})


async def send_vanished(
    session: ServerSession, mailbox: Mailbox, since: int, known: SequenceSet, out: ReplyWriter
) -> None:
    """Send VANISHED (EARLIER) for messages that left the selected mailbox after MODSEQ `since`.

    `mailbox` is its row, and `known` the client's UIDs, resolved. The response may include UIDs that the client
    does not have.
    """
    await catch_up(session)  # messages that arrived after the row was read must not count as removed
    known = known.within(1, mailbox.uid_next - 1)
    present = session.selected.all_uids()
    removed = await _removed_since(session, since)
    if removed is None:
        ranges = await asyncio.to_thread(lambda: list(gaps(present, known)))
    else:
        ranges = list(SequenceSet.of(uid for uid in removed if uid in known and not holds(present, uid)).ranges)
    for start in range(0, len(ranges), RANGES_AT_ONCE):
        uids = SequenceSet(tuple(ranges[start : start + RANGES_AT_ONCE]))
        await out.send(f"* VANISHED (EARLIER) {uids}\r\n".encode())
        await session.pace.spend(RANGES_AT_ONCE // 5)


async def _removed_since(session: ServerSession, since: int) -> set[int] | None:
    """Return the UIDs of removed messages from the account's log; None if it was trimmed or has too many entries.

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
    """Yield ranges of a resolved set's numbers that are not among the ascending UIDs `present`."""
    for low, high in known.ranges:
        expected = low
        for uid in present[bisect_left(present, low) : bisect_left(present, high + 1)]:
            if uid > expected:
                yield expected, uid - 1
            expected = uid + 1
        if expected <= high:
            yield expected, high
