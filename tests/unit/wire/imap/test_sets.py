from __future__ import annotations

import sys

import pytest
from app.wire.imap.sets import MAX_NUMBER, SequenceSet, ordered_numbers
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1", "1"),
        ("5,3,4,1", "1,3:5"),
        ("4:2,3:9", "2:9"),
        ("1:4294967295", "1:4294967295"),
        ("*", "*"),
        ("7:*,*:9,2", "2,7:*,9:*"),
        ("*:*", "*"),
    ],
)
def test_a_set_is_written_in_its_shortest_form(text: str, written: str) -> None:
    assert str(SequenceSet.parse(text)) == written


@pytest.mark.parametrize(
    "text",
    ["", "0", "1,", ",1", "1:", ":1", "a", "1:2:3", "4294967296", "-1", "1 ", "01", "²", "0:*"],
)
def test_what_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"set|number"):
        SequenceSet.parse(text)


def test_the_star_is_the_last_number_in_use_whatever_side_it_stands_on() -> None:
    assert str(SequenceSet.parse("7:*").resolved(10)) == "7:10"
    assert str(SequenceSet.parse("7:*").resolved(5)) == "5:7"
    assert str(SequenceSet.parse("*,2").resolved(9)) == "2,9"
    assert not SequenceSet.parse("7:*").resolved(0)


def test_a_huge_range_is_never_expanded() -> None:
    everything = SequenceSet.parse("1:4294967295")

    assert len(everything) == MAX_NUMBER
    assert 3_000_000_000 in everything
    assert str(everything.within(5, 9)) == "5:9"
    with pytest.raises(ValueError, match="more than 100"):
        everything.numbers(100)


def test_a_set_of_many_numbers_is_read_without_a_call_for_each() -> None:
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        found = SequenceSet.parse(",".join(["7"] * 32_000))
    finally:
        sys.setprofile(before)

    assert found == SequenceSet(((7, 7),))
    assert calls < 3_200  # of 32,000; the garbage collector's callbacks count too


def test_too_many_ranges_are_refused() -> None:
    text = ",".join(str(number) for number in range(1, 200, 2))

    assert len(SequenceSet.parse(text, max_ranges=100)) == 100
    with pytest.raises(ValueError, match="not a sequence set"):
        SequenceSet.parse(text, max_ranges=50)


@given(st.sets(st.integers(1, 200)))
def test_numbers_come_back_from_their_set(numbers: set[int]) -> None:
    found = SequenceSet.of(numbers)

    assert list(found.numbers(200)) == sorted(numbers)
    assert len(found) == len(numbers)
    assert bool(found) == bool(numbers)
    assert {number for number in range(203) if number in found} == numbers
    if numbers:
        assert SequenceSet.parse(str(found)) == found


def test_a_number_out_of_range_has_no_set() -> None:
    for number in (0, -1, MAX_NUMBER + 1):
        with pytest.raises(ValueError, match="outside"):
            SequenceSet.of([number])


def test_copyuid_keeps_the_order_written() -> None:
    assert ordered_numbers("9,3:5,8:7", 10) == [9, 3, 4, 5, 8, 7]


@pytest.mark.parametrize("text", ["1:4294967295", "1:6", "1,2:*", "", "1,,2"])
def test_an_ordered_set_is_bounded_before_it_is_expanded(text: str) -> None:
    with pytest.raises(ValueError, match="set"):
        ordered_numbers(text, 5)
