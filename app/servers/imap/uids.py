"""The UIDs of a mailbox in a few bytes each: an array that sessions share, and what one session differs in. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

COMPACT_FROM = 1024
"""Removals, or a sixteenth of the shared array if that is more, after which a session copies the array."""


class UidList:
    """UIDs in ascending order, addressed by index from 0.

    `base` is shared: it is never changed. `_removed` holds the indexes in `base` of UIDs that this list lacks, and
    `_added` the UIDs that follow the last of `base`. Lookups cost a binary search in each of the three arrays.
    """

    __slots__ = ("_added", "_base", "_removed")

    def __init__(self, base: array[int]) -> None:
        self._base = base
        self._removed = array("I")
        self._added = array("I")

    def __len__(self) -> int:
        return self._base_count + len(self._added)

    @property
    def base(self) -> array[int]:
        """The shared part. Callers must not change it."""
        return self._base

    @property
    def own_bytes(self) -> int:
        """The memory that this list needs beside `base`."""
        return (len(self._removed) + len(self._added)) * self._added.itemsize

    @property
    def last(self) -> int:
        """The highest UID; 0 in an empty list."""
        if self._added:
            return self._added[-1]
        count = self._base_count
        return self._base[self._place(count - 1)] if count else 0

    def below(self, uid: int) -> int:
        """How many UIDs are lower: the index of `uid` where it is in the list."""
        place = bisect_left(self._base, uid)
        return place - bisect_left(self._removed, place) + bisect_left(self._added, uid)

    def index(self, uid: int) -> int | None:
        """The index of a UID; None where the list lacks it."""
        index = self.below(uid)
        return index if self.below(uid + 1) > index else None

    def slice(self, first: int, last: int) -> array[int]:
        """The UIDs from index `first` to before `last`. Callers must not change it: it may be the shared array."""
        count = self._base_count
        if first <= 0 and last >= count and not self._removed and not self._added:
            return self._base
        found = self._slice_of_base(max(first, 0), min(last, count))
        if last > count:
            found += self._added[max(first - count, 0) : last - count]
        return found

    def append(self, uid: int) -> None:
        """Add a UID above all others."""
        self._added.append(uid)

    def remove(self, uids: Iterable[int]) -> None:
        """Take out those of these UIDs that are in the list. They come in ascending order."""
        places = array("I")
        for uid in uids:
            place = bisect_left(self._base, uid)
            if place < len(self._base) and self._base[place] == uid:
                places.append(place)
                continue
            place = bisect_left(self._added, uid)
            if place < len(self._added) and self._added[place] == uid:
                del self._added[place]
        if places:
            self._removed = array("I", sorted({*self._removed, *places}))
            self._compact()

    @property
    def _base_count(self) -> int:
        return len(self._base) - len(self._removed)

    def _place(self, index: int) -> int:
        """Where in `base` the UID with this index is: the index plus the number of removals before it."""
        low, high = 0, len(self._removed)
        while low < high:
            middle = (low + high) // 2
            if self._removed[middle] - middle <= index:
                low = middle + 1
            else:
                high = middle
        return index + low

    def _slice_of_base(self, first: int, last: int) -> array[int]:
        found = array("I")
        if first >= last:
            return found
        start, stop = self._place(first), self._place(last - 1) + 1
        for gap in self._removed[bisect_left(self._removed, start) : bisect_left(self._removed, stop)]:
            found += self._base[start:gap]
            start = gap + 1
        found += self._base[start:stop]
        return found

    def _compact(self) -> None:
        if len(self._removed) > max(COMPACT_FROM, len(self._base) // 16):
            self._base = self.slice(0, len(self))
            self._removed, self._added = array("I"), array("I")


class UidRanges:
    """A set of UIDs as ranges, for UIDs that are added in ascending order."""

    __slots__ = ("_highs", "_lows")

    def __init__(self) -> None:
        self._lows = array("I")
        self._highs = array("I")

    def add(self, low: int, high: int) -> None:
        """Add the UIDs from `low` to `high`, which no UID in the set exceeds."""
        if self._highs and low <= self._highs[-1] + 1:
            self._highs[-1] = max(self._highs[-1], high)
        else:
            self._lows.append(low)
            self._highs.append(high)

    def __contains__(self, uid: object) -> bool:
        if not self._lows or not isinstance(uid, int):
            return False
        place = bisect_right(self._lows, uid) - 1
        return place >= 0 and uid <= self._highs[place]

    def count_in(self, uids: UidList) -> int:
        """How many of the list's UIDs are in the set."""
        return sum(uids.below(high + 1) - uids.below(low) for low, high in zip(self._lows, self._highs, strict=True))


def holds(uids: Sequence[int], uid: int) -> bool:
    """Whether a UID is among these, which ascend."""
    place = bisect_left(uids, uid)
    return place < len(uids) and uids[place] == uid
