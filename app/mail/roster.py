"""What is known of every message of a mailbox, in some 16 bytes for each: mailboxes hold hundreds of thousands."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping

from app.mail.delta import Known
from app.mail.types import Flags


class Roster(Mapping[int, Known]):
    """UID → flags and MODSEQ, ascending. Filled by `put`, fastest in ascending order."""

    __slots__ = ("_flags", "_modseqs", "_numbers", "_sets", "_uids")

    def __init__(self) -> None:
        self._uids = array("I")
        self._modseqs = array("Q")
        self._sets = array("I")
        self._flags: list[Flags] = []
        self._numbers: dict[Flags, int] = {}

    def put(self, uid: int, flags: Flags, modseq: int = 0) -> None:
        """Note a message; what was known of it before is replaced."""
        number = self._numbers.get(flags)
        if number is None:
            number = self._numbers[flags] = len(self._flags)
            self._flags.append(flags)
        uids = self._uids
        place = len(uids) if not uids or uids[-1] < uid else bisect_left(uids, uid)
        if place < len(uids) and uids[place] == uid:
            self._sets[place], self._modseqs[place] = number, modseq
            return
        uids.insert(place, uid)
        self._sets.insert(place, number)
        self._modseqs.insert(place, modseq)

    def __getitem__(self, uid: int) -> Known:
        place = bisect_left(self._uids, uid)
        if place == len(self._uids) or self._uids[place] != uid:
            raise KeyError(uid)
        return Known(self._flags[self._sets[place]], self._modseqs[place])

    def __contains__(self, uid: object) -> bool:
        if not isinstance(uid, int):
            return False
        place = bisect_left(self._uids, uid)
        return place < len(self._uids) and self._uids[place] == uid

    def __iter__(self) -> Iterator[int]:
        return iter(self._uids)

    def __len__(self) -> int:
        return len(self._uids)
