"""The UIDs of a mailbox in a few bytes each: an array that sessions share, and each session's differences. Pure."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

COMPACT_FROM = 1024
"""A session copies the array after this many removals, or a sixteenth of its length if that is more."""


class UidList:
    """UIDs in ascending order, addressed by index from 0.

    `base` is shared and never changed. `_removed` has the indexes in `base` of removed UIDs, and `_added` the UIDs
    above the last of `base`. A lookup is a binary search in each of the three arrays.
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
        """Return the shared array. Callers must not change it."""
        return self._base

    @property
    def own_bytes(self) -> int:
        """Return the memory that this list uses in addition to `base`."""
        return (len(self._removed) + len(self._added)) * self._added.itemsize

    @property
    def last(self) -> int:
        """Return the highest UID; 0 for an empty list."""
        if self._added:
            return self._added[-1]
        count = self._base_count
        return self._base[self._place(count - 1)] if count else 0

    def below(self, uid: int) -> int:
        """Return how many UIDs are lower, which is the index of `uid` if it is in the list."""
        place = bisect_left(self._base, uid)
        return place - bisect_left(self._removed, place) + bisect_left(self._added, uid)

    def index(self, uid: int) -> int | None:
        """Return the index of a UID; None if it is not in the list."""
        index = self.below(uid)
        return index if self.below(uid + 1) > index else None

    def slice(self, first: int, last: int) -> array[int]:
        """Return the UIDs from index `first` to before `last`. It may be the shared array: do not change it."""
        count = self._base_count
        if first <= 0 and last >= count and not self._removed and not self._added:
            return self._base
        uids_in_range = self._slice_of_base(max(first, 0), min(last, count))
        if last > count:
            uids_in_range += self._added[max(first - count, 0) : last - count]
        return uids_in_range

    def append(self, uid: int) -> None:
        """Add a UID above all others."""
        self._added.append(uid)

    def remove(self, uids: Iterable[int]) -> None:
        """Remove these UIDs, which ascend, from the list; UIDs that are not in it are ignored."""
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
        """Return the position in `base` of the UID with this index: the index plus the number of removals before it."""
        low, high = 0, len(self._removed)
        while low < high:
            middle = (low + high) // 2
            if self._removed[middle] - middle <= index:
                low = middle + 1
            else:
                high = middle
        return index + low

    def _slice_of_base(self, first: int, last: int) -> array[int]:
        uids_in_range = array("I")
        if first >= last:
            return uids_in_range
        start, stop = self._place(first), self._place(last - 1) + 1
        for gap in self._removed[bisect_left(self._removed, start) : bisect_left(self._removed, stop)]:
            uids_in_range += self._base[start:gap]
            start = gap + 1
        uids_in_range += self._base[start:stop]
        return uids_in_range

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
        """Return how many of the list's UIDs are in the set."""
        return sum(uids.below(high + 1) - uids.below(low) for low, high in zip(self._lows, self._highs, strict=True))


def holds(uids: Sequence[int], uid: int) -> bool:
    """Whether a UID is among these ascending UIDs."""
    place = bisect_left(uids, uid)
    return place < len(uids) and uids[place] == uid
