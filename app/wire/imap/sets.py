"""Sequence sets and UID sets (RFC 9051 §9, sequence-set), stored as ranges that are never expanded."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_NUMBER = 4_294_967_295
MAX_RANGES = 100_000

_RANGE = re.compile(r"([1-9][0-9]{0,9}|\*)(?::([1-9][0-9]{0,9}|\*))?", re.ASCII)

_END = r"(?:[1-9][0-9]{0,9}|\*)"
_SET = re.compile(rf"{_END}(?::{_END})?(?:,{_END}(?::{_END})?)*+", re.ASCII)
"""A whole set, checked in one call, because a client may send 32,000 numbers in one command."""

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """Numbers from 1 to 4,294,967,295 as ranges (low, high): sorted, without overlap, adjacent ranges joined.

    `from_last` has the ranges with `*`, the greatest number in use: `(0,)` for `*` alone, `(7,)` for `7:*`. They are
    separate because `7:*` means `*:7` if `*` is smaller than 7.
    """

    ranges: tuple[Range, ...] = ()
    from_last: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str, max_ranges: int = MAX_RANGES) -> SequenceSet:
        """Parse a set. Raises ValueError for an invalid set, or one with too many ranges."""
        if text.count(",") >= max_ranges or _SET.fullmatch(text) is None:
            raise ValueError("not a sequence set")
        pieces = text.split(",")
        ranges = [(number, number) for number in map(int, filter(str.isdecimal, pieces))]
        from_last: list[int] = []
        for piece in pieces if ":" in text or "*" in text else ():
            if not piece.isdecimal():
                first, _, last = piece.partition(":")
                _add(first, last or first, ranges, from_last)
        joined = _joined(ranges)
        _check((*joined[:1], *joined[-1:]), from_last)
        return cls(joined, tuple(sorted(set(from_last))))

    @classmethod
    def of(cls, numbers: Iterable[int]) -> SequenceSet:
        """The set of these numbers. Raises ValueError for a number out of range."""
        ranges: list[Range] = []
        low = high = 0
        for number in sorted(numbers):
            if ranges and number <= high + 1:
                high = number
                ranges[-1] = (low, high)
            else:
                low = high = number
                ranges.append((low, high))
        _check(ranges, [])
        return cls(tuple(ranges))

    @classmethod
    def of_ranges(cls, ranges: Iterable[Range]) -> SequenceSet:
        """The set of these ranges (low, high). Raises ValueError for a number out of range."""
        joined = _joined(list(ranges))
        _check(joined, [])
        return cls(joined)

    def __bool__(self) -> bool:
        return bool(self.ranges or self.from_last)

    def __len__(self) -> int:
        """The number of numbers in the set, without ranges that depend on `*`."""
        return sum(high - low + 1 for low, high in self.ranges)

    def resolved(self, last: int) -> SequenceSet:
        """The set with `*` replaced by `last`, the greatest number in use; 0 if no number is in use."""
        if not self.from_last:
            return self
        ends = [(min(low or last, last), max(low, last)) for low in self.from_last if last]
        return SequenceSet(_joined([*self.ranges, *ends]))

    def within(self, low: int, high: int) -> SequenceSet:
        """The numbers from `low` to `high` in a resolved set."""
        cut = ((max(start, low), min(end, high)) for start, end in self.ranges)
        return SequenceSet(tuple((start, end) for start, end in cut if start <= end))

    def __contains__(self, number: object) -> bool:
        """Whether a resolved set contains this number."""
        if not isinstance(number, int):
            return False
        index = bisect_right(self.ranges, (number, MAX_NUMBER))
        return index > 0 and number <= self.ranges[index - 1][1]

    def numbers(self, max_count: int) -> Iterator[int]:
        """The numbers of a resolved set in order. Raises ValueError if there are more than `max_count`."""
        if len(self) > max_count:
            raise ValueError(f"a set of more than {max_count} numbers")
        return (number for low, high in self.ranges for number in range(low, high + 1))

    def __str__(self) -> str:
        """The wire form of the set, such as `1:3,5,9:*`. An empty set has none, and gives ""."""
        pieces = [str(low) if low == high else f"{low}:{high}" for low, high in self.ranges]
        pieces += [f"{low}:*" if low else "*" for low in self.from_last]
        return ",".join(pieces)


def ordered_numbers(text: str, max_count: int) -> list[int]:
    """The numbers of a set in the order written, as COPYUID pairs them (RFC 4315 §3).

    Raises ValueError for an invalid set, a `*`, or more than `max_count` numbers.
    """
    numbers: list[int] = []
    for piece in text.split(",", MAX_RANGES):
        match = _RANGE.fullmatch(piece)
        if match is None or "*" in piece:
            raise ValueError("not a set of numbers")
        first, last = int(match[1]), int(match[2] or match[1])
        if abs(last - first) >= max_count - len(numbers):
            raise ValueError(f"a set of more than {max_count} numbers")
        step = 1 if first <= last else -1
        numbers.extend(range(first, last + step, step))
    return numbers


def _add(first: str, last: str, ranges: list[Range], from_last: list[int]) -> None:
    """Add a range by its ends."""
    if "*" in (first, last):
        from_last.append(min((int(end) for end in (first, last) if end != "*"), default=0))
    else:
        low, high = int(first), int(last)
        ranges.append((low, high) if low <= high else (high, low))


def _joined(ranges: list[Range]) -> tuple[Range, ...]:
    ranges.sort()
    joined: list[Range] = []
    for low, high in ranges:
        if joined and low <= joined[-1][1] + 1:
            if high > joined[-1][1]:
                joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return tuple(joined)


def _check(ranges: Iterable[Range], from_last: Iterable[int]) -> None:
    if any(low < 1 or high > MAX_NUMBER for low, high in ranges) or any(low > MAX_NUMBER for low in from_last):
        raise ValueError("a number outside 1 to 4294967295")
