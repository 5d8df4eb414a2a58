"""A list of UIDs that shares its array says what an ordinary list would, and changes nothing that others hold."""

from __future__ import annotations

from array import array
from itertools import pairwise

import pytest
from app.servers.imap import uids as module
from app.servers.imap.uids import UidList, UidRanges
from hypothesis import given
from hypothesis import strategies as st

UIDS = st.sets(st.integers(1, 60), max_size=30)


@given(
    base=UIDS,
    steps=st.lists(st.one_of(st.integers(1, 5), st.sets(st.integers(1, 90), max_size=6)), max_size=20),
    probe=st.integers(0, 95),
    span=st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
def test_a_list_with_additions_and_removals_is_as_an_ordinary_one(
    base: set[int], steps: list[int | set[int]], probe: int, span: tuple[int, int]
) -> None:
    shared = array("I", sorted(base))
    found, expected = UidList(shared), sorted(base)
    for step in steps:
        if isinstance(step, int):
            expected.append((expected[-1] if expected else 60) + step)
            found.append(expected[-1])
        else:
            found.remove(sorted(step))
            expected = [uid for uid in expected if uid not in step]
    assert list(found.slice(0, len(found))) == expected
    assert (len(found), found.last) == (len(expected), expected[-1] if expected else 0)
    assert found.below(probe) == sum(uid < probe for uid in expected)
    assert found.index(probe) == (expected.index(probe) if probe in expected else None)
    assert list(found.slice(*span)) == expected[span[0] : span[1]]
    assert list(shared) == sorted(base)


def test_a_list_that_differs_in_nothing_is_the_shared_array_itself() -> None:
    shared = array("I", range(1, 1_000))

    assert UidList(shared).slice(0, 999) is shared


def test_a_list_that_lost_much_holds_no_more_than_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_FROM", 8)
    shared = array("I", range(1, 101))
    found = UidList(shared)

    found.remove(range(1, 51))

    assert (found.own_bytes, len(found.base), len(shared)) == (0, 50, 100)
    assert list(found.slice(0, 50)) == list(range(51, 101))


@given(st.lists(st.integers(1, 200), unique=True, max_size=20), UIDS, st.integers(0, 210))
def test_ranges_hold_what_was_added(ends: list[int], uids: set[int], probe: int) -> None:
    ranges, expected = UidRanges(), set[int]()
    for low, after in list(pairwise(sorted(ends)))[::2]:
        ranges.add(low, after - 1)
        expected |= set(range(low, after))

    assert (probe in ranges) == (probe in expected)
    assert ranges.count_in(UidList(array("I", sorted(uids)))) == len(uids & expected)
