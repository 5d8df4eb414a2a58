"""One session's view of its selected mailbox: sequence numbers, and what the client has not been told yet. Pure.

A message has a sequence number from the moment its EXISTS is told until its EXPUNGE is (RFC 9051 §2.3.1.2), so what
other sessions do is noted here and told when the protocol allows it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.errors import MalformedRequest
from app.mail.types import MailboxId
from app.wire.imap.requests import MessageSet
from app.wire.imap.search import SavedResult
from app.wire.imap.sets import SequenceSet


@dataclass(slots=True)
class _Untold:
    """The first and the last event that changed a message's flags since the client was told of them."""

    first_seq: int
    last_seq: int


class MailboxView:
    """The messages by sequence number, as this session has them.

    `is_lost` once the mailbox is gone or its UIDs are void. `saved` is the result that `$` stands for (RFC 5182).
    """

    def __init__(
        self,
        mailbox_id: MailboxId,
        uids: Iterable[int],
        *,
        is_read_only: bool,
        recent: Iterable[int],
    ) -> None:
        self.mailbox_id = mailbox_id
        self.is_read_only = is_read_only
        self.is_lost = False
        self.saved: tuple[int, ...] = ()
        self.recent = set(recent)
        self.keywords: set[str] = set()
        """Flags that the last FLAGS response named."""
        self._uids = array("I", uids)
        self._told = len(self._uids)
        self._gone: set[int] = set()
        self._flagged: dict[int, _Untold] = {}

    # ---- what happened

    def arrive(self, uid: int) -> bool:
        """A message came; whether it is new here."""
        if self._uids and uid <= self._uids[-1]:
            return False
        self._uids.append(uid)
        return True

    def remove(self, uid: int) -> None:
        """A message went. One that the client has never heard of leaves no trace."""
        index = self._index(uid)
        if index is None:
            return
        if index >= self._told:
            del self._uids[index]
            self.recent.discard(uid)
        else:
            self._gone.add(uid)
        self._flagged.pop(uid, None)

    def flag(self, uid: int, seq: int) -> None:
        """A message's flags changed by event `seq`."""
        if uid in self._gone or self._index(uid) is None:
            return
        untold = self._flagged.get(uid)
        if untold is None:
            self._flagged[uid] = _Untold(seq, seq)
        else:
            untold.last_seq = seq

    # ---- what is told

    def take_expunged(self) -> list[int]:
        """The sequence numbers to tell as EXPUNGE, each as it is after those before it."""
        numbers = []
        for uid in sorted(self._gone):
            index = self._index(uid)
            assert index is not None
            del self._uids[index]
            numbers.append(index + 1)
        self._told -= len(numbers)
        self.recent -= self._gone
        self._gone.clear()
        return numbers

    def take_arrivals(self) -> Sequence[int]:
        """The UIDs whose EXISTS is told now."""
        fresh = self._uids[self._told :]
        self._told = len(self._uids)
        return fresh

    def take_flagged(self) -> list[int]:
        """UIDs, ascending, whose flags are told now; to be asked after `take_arrivals`."""
        uids = sorted(self._flagged)
        self._flagged.clear()
        return uids

    def told_flags(self, uids: Iterable[int], up_to_seq: int, since_seq: int = -1) -> None:
        """The client knows these messages' flags as of event `up_to_seq`.

        With `since_seq` it knows only what the events after it did: a change before it is still to be told.
        """
        for uid in uids:
            untold = self._flagged.get(uid)
            if untold is not None and since_seq < untold.first_seq and untold.last_seq <= up_to_seq:
                del self._flagged[uid]

    # ---- numbers

    @property
    def exists(self) -> int:
        """The number of messages that the client knows of."""
        return self._told

    @property
    def last_uid(self) -> int:
        return self._uids[-1] if self._uids else 0

    def uids(self) -> Sequence[int]:
        """The UIDs of the messages that the client knows of, in order."""
        return self._uids[: self._told]

    def all_uids(self) -> Sequence[int]:
        """The same with those that the client has not been told of, but without those gone."""
        return [uid for uid in self._uids if uid not in self._gone]

    def is_gone(self, uid: int) -> bool:
        return uid in self._gone

    def number_of(self, uid: int) -> int:
        """The sequence number of a message that is known to be here."""
        return bisect_left(self._uids, uid) + 1

    def resolve(self, messages: MessageSet, *, is_uid: bool, is_search: bool = False) -> list[int]:
        """The UIDs that a set names, ascending, those gone included.

        UIDs that are not here are passed over; a sequence number that is not here is MalformedRequest, but in a
        search a criterion that nothing meets.
        """
        if isinstance(messages, SavedResult):
            return [uid for uid in self.saved if self._is_told(uid)]
        if is_uid:
            known = self._uids[self._told - 1] if self._told else 0
            return [uid for first, last in self._runs(messages.resolved(known)) for uid in self._uids[first:last]]
        return list(self._by_number(messages, is_search=is_search))

    def _by_number(self, messages: SequenceSet, *, is_search: bool) -> Iterator[int]:
        ranges = messages.resolved(self._told).ranges
        if self._told == 0 and messages.from_last:
            return
        if ranges and ranges[-1][1] > self._told and not is_search:
            raise MalformedRequest("There is no message with this number")
        for low, high in ranges:
            yield from self._uids[low - 1 : min(high, self._told)]

    def _runs(self, messages: SequenceSet) -> Iterator[tuple[int, int]]:
        """Index ranges of the UIDs in a set."""
        for low, high in messages.ranges:
            first = bisect_left(self._uids, low, 0, self._told)
            last = bisect_right(self._uids, high, first, self._told)
            if first < last:
                yield first, last

    def _is_told(self, uid: int) -> bool:
        index = self._index(uid)
        return index is not None and index < self._told

    def _index(self, uid: int) -> int | None:
        index = bisect_left(self._uids, uid)
        return index if index < len(self._uids) and self._uids[index] == uid else None
