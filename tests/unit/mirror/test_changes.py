from __future__ import annotations

import tracemalloc

from app.mail.backend import BackendChanges
from app.mail.delta import Flagged, Known, Location
from app.mail.flag_table import FlagTable
from app.mail.types import MailboxId
from app.mirror.changes import ServerDifference

INBOX = MailboxId("mbx_1")
SEEN = frozenset({"\\Seen"})


def roster(count: int) -> FlagTable:
    found = FlagTable()
    for uid in range(1, count + 1):
        found.put(uid, SEEN, uid)
    return found


def looked(flags: FlagTable, known: FlagTable | None = None) -> ServerDifference:
    return ServerDifference(INBOX, BackendChanges(flags, None, 1, 1, 1), (), known)


def test_twenty_thousand_changed_flags_are_never_held_at_once() -> None:
    found = looked(roster(20_000))
    tracemalloc.start()
    try:
        count = sum(1 for _ in found.flagged())
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 20_000
    assert most < 50_000


def test_of_the_flags_of_all_messages_those_that_differ_are_told_and_count_as_newer() -> None:
    known = FlagTable()
    known.put(1, SEEN, 5)
    known.put(2, frozenset(), 5)
    known.put(3, SEEN, 0)

    assert list(looked(roster(4), known).flagged()) == [
        Flagged(Location(INBOX, 1), SEEN),
        Flagged(Location(INBOX, 2), SEEN),
    ]
    assert list(looked(roster(1)).flagged()) == [Flagged(Location(INBOX, 1), SEEN, 1)]
    assert known[1] == Known(SEEN, 5)
