"""A mailbox's UIDs and flags, kept small."""

from __future__ import annotations

import tracemalloc

import pytest
from app.mail.delta import Known
from app.mail.flag_table import FlagTable
from hypothesis import given
from hypothesis import strategies as st

FLAGS = st.sampled_from([frozenset(), frozenset({"\\Seen"}), frozenset({"\\Seen", "a"})])
ENTRIES = st.lists(st.tuples(st.integers(1, 2**32 - 1), FLAGS, st.integers(0, 2**63 - 1)))


@given(ENTRIES)
def test_a_roster_is_a_mapping_in_ascending_order_whatever_the_order_it_was_filled_in(
    entries: list[tuple[int, frozenset[str], int]],
) -> None:
    roster = FlagTable()
    expected: dict[int, Known] = {}
    for uid, flags, modseq in entries:
        roster.put(uid, flags, modseq)
        expected[uid] = Known(flags, modseq)

    assert roster == expected
    assert list(roster) == sorted(expected)
    assert len(roster) == len(expected)
    assert all(uid in roster for uid in expected)
    assert 0 not in roster
    with pytest.raises(KeyError):
        roster[0]


def test_two_hundred_thousand_messages_take_four_megabytes() -> None:
    seen = frozenset({"\\Seen"})
    tracemalloc.start()
    try:
        roster = FlagTable()
        for uid in range(1, 200_001):
            roster.put(uid, seen, uid)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert size < 4_000_000
