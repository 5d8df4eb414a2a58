"""The flags of every message of a mailbox in about 16 bytes each: mailboxes hold hundreds of thousands."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import pairwise

from app.mail.delta import Known
from app.mail.types import Flags


class FlagTable(Mapping[int, Known]):
    """UID → flags and MODSEQ, ascending. Filled by `put` in any order; sorted when it is read."""

    __slots__ = ("_flags", "_is_sorted", "_modseqs", "_numbers", "_sets", "_uids")

    def __init__(self) -> None:
        self._uids = array("I")
        self._modseqs = array("Q")
        self._sets = array("I")
        self._flags: list[Flags] = []
        self._numbers: dict[Flags, int] = {}
        self._is_sorted = True

    @property
    def kinds(self) -> int:
        """The number of distinct sets of flags; each takes a few hundred bytes."""
        return len(self._flags)

    def put(self, uid: int, flags: Flags, modseq: int = 0) -> None:
        """Set the flags of a message, replacing earlier ones."""
        number = self._numbers.get(flags)
        if number is None:
            number = self._numbers[flags] = len(self._flags)
            self._flags.append(flags)
        if self._uids and uid <= self._uids[-1]:
            self._is_sorted = False
        self._uids.append(uid)
        self._sets.append(number)
        self._modseqs.append(modseq)

    def _sort(self) -> None:
        if self._is_sorted:
            return
        uids = self._uids
        order = sorted(range(len(uids)), key=uids.__getitem__)
        last = [index for index, after in pairwise(order) if uids[index] != uids[after]] + order[-1:]
        self._uids = array("I", map(uids.__getitem__, last))
        self._sets = array("I", map(self._sets.__getitem__, last))
        self._modseqs = array("Q", map(self._modseqs.__getitem__, last))
        self._is_sorted = True

    def _place(self, uid: int) -> int | None:
        self._sort()
        place = bisect_left(self._uids, uid)
        return place if place < len(self._uids) and self._uids[place] == uid else None

    def __getitem__(self, uid: int) -> Known:
        place = self._place(uid)
        if place is None:
            raise KeyError(uid)
        return Known(self._flags[self._sets[place]], self._modseqs[place])

    def __contains__(self, uid: object) -> bool:
        return isinstance(uid, int) and self._place(uid) is not None

    def __iter__(self) -> Iterator[int]:
        self._sort()
        return iter(self._uids)

    def __len__(self) -> int:
        self._sort()
        return len(self._uids)
