"""One session's view of its selected mailbox: sequence numbers, and changes that have not been sent yet. Pure.

A message has a sequence number from the moment its EXISTS is sent until its EXPUNGE is (RFC 9051 §2.3.1.2), so what
other sessions do is noted here and sent when the protocol allows it.

Sessions with the same mailbox selected share the array of its UIDs; a view holds only how it differs. Flags are not
held at all: they are read from the index when they are sent.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import lt

from app.errors import MalformedRequest
from app.mail.types import MailboxId
from app.mailstore.views import Change
from app.servers.imap.uids import UidList, UidRanges, holds
from app.wire.imap.request import MessageSet
from app.wire.imap.search import SavedResult
from app.wire.imap.sets import SequenceSet


@dataclass(slots=True, eq=False, weakref_slot=True)
class SharedUids:
    """The UIDs of a mailbox as they were at event `seq` of the account's log; later events may be in it already.

    Never changed: any number of views hold it.
    """

    uids: array[int]
    seq: int


@dataclass(slots=True)
class _Untold:
    """The first and the last event that changed a message's flags since they were sent."""

    first_seq: int
    last_seq: int


class MailboxView:
    """The messages by sequence number, as this session has them.

    `is_lost` once the mailbox is gone or its UIDs are void. `saved` is the result that `$` stands for (RFC 5182), and
    `recent` the UIDs that are `\\Recent` to this session.
    """

    def __init__(self, mailbox_id: MailboxId, shared: SharedUids, *, is_read_only: bool) -> None:
        self.mailbox_id = mailbox_id
        self.is_read_only = is_read_only
        self.is_lost = False
        self.saved: Sequence[int] = ()
        self.recent = UidRanges()
        self.keywords: set[str] = set()
        """Flags that the last FLAGS response named."""
        self._shared = shared
        self._uids = UidList(shared.uids)
        self._told = len(self._uids)
        self._gone = array("I")
        self._flagged: dict[int, _Untold] = {}
        self._is_all_flagged = False
        self.fresh: list[int] = []
        """UIDs that NOTIFY has yet to describe; their EXISTS is sent."""

    @property
    def shared(self) -> SharedUids:
        """What this view was opened on; held so that sessions that come later find it."""
        return self._shared

    @property
    def own_bytes(self) -> int:
        """About the memory that this view needs beside the shared array."""
        own_base = self._uids.base if self._uids.base is not self._shared.uids else ()
        held = len(own_base) + len(self._gone) + len(self.saved)
        return self._uids.own_bytes + held * self._gone.itemsize

    # ---- what happened

    def note(self, change: Change) -> None:
        """Take an entry of the account's log, which may come more than once."""
        if change.type in ("mailbox.deleted", "mailbox.reset"):
            self.is_lost = self.is_lost or change.subject == self.mailbox_id
        elif change.mailbox_id == self.mailbox_id and change.uid is not None:
            self._note_here(change, change.uid)
        if change.target_mailbox_id == self.mailbox_id and change.target_uid is not None:
            self.arrive(change.target_uid)

    def _note_here(self, change: Change, uid: int) -> None:
        match change.type:
            case "message.created":
                self.arrive(uid)
            case "message.updated":
                self.flag(uid, change.seq)
            case "message.moved" | "message.deleted":
                self.remove(uid)

    def arrive(self, uid: int) -> bool:
        """A message came; whether it is new here."""
        if uid <= self._uids.last:
            return False
        self._uids.append(uid)
        return True

    def remove(self, uid: int) -> None:
        """A message was removed. If the client does not know it, nothing is sent."""
        index = self._uids.index(uid)
        if index is None or self.is_gone(uid):
            return
        if index >= self._told:
            self._uids.remove((uid,))
        else:
            insort(self._gone, uid)
        self._flagged.pop(uid, None)

    def flag(self, uid: int, seq: int) -> None:
        """A message's flags changed by event `seq`."""
        if self._uids.index(uid) is None or self.is_gone(uid):
            return
        untold = self._flagged.get(uid)
        if untold is None:
            self._flagged[uid] = _Untold(seq, seq)
        else:
            untold.last_seq = seq

    def flag_all(self) -> None:
        """Any message's flags may have changed."""
        self._is_all_flagged = True
        self._flagged.clear()

    def flag_again(self, uids: Iterable[int], seq: int) -> None:
        """The flags of these messages were taken to be sent, and were not: they changed at any time up to `seq`."""
        for uid in uids:
            self.flag(uid, seq)
            if uid in self._flagged:
                self._flagged[uid].first_seq = 0

    def settle(self) -> None:
        """Take what was noted as known: no message has been announced to the client yet."""
        self._uids.remove(self._gone)
        self._told = len(self._uids)
        self._gone = array("I")
        self._flagged.clear()

    # ---- what is sent

    def take_expunged(self, limit: int) -> list[int]:
        """The sequence numbers to tell as EXPUNGE, each as it is after those before it; `limit` of them at most."""
        numbers = [self._uids.below(uid) + 1 - place for place, uid in enumerate(self._gone[:limit])]
        self.take_vanished(limit)
        return numbers

    def take_vanished(self, limit: int) -> Sequence[int]:
        """The UIDs to tell as VANISHED, ascending; `limit` of them at most."""
        gone = self._gone[:limit]
        self._uids.remove(gone)
        self._told -= len(gone)
        del self._gone[:limit]
        return gone

    def arrivals(self) -> Sequence[int]:
        """The UIDs whose EXISTS is due."""
        return self._uids.slice(self._told, len(self._uids)) if self._told < len(self._uids) else ()

    def take_arrivals(self) -> Sequence[int]:
        """The UIDs whose EXISTS is sent now."""
        fresh = self.arrivals()
        self._told = len(self._uids)
        return fresh

    def take_flagged(self) -> Sequence[int]:
        """UIDs, ascending, whose flags are sent now; call it after `take_arrivals`."""
        uids = self.uids() if self._is_all_flagged else sorted(self._flagged)
        self._is_all_flagged = False
        self._flagged.clear()
        return uids

    def told_flags(self, uids: Iterable[int], up_to_seq: int, since_seq: int = -1) -> None:
        """The client knows these messages' flags as of event `up_to_seq`.

        With `since_seq` it knows only what the events after it did: an earlier change must still be sent.
        """
        for uid in uids:
            untold = self._flagged.get(uid)
            if untold is not None and since_seq < untold.first_seq and untold.last_seq <= up_to_seq:
                del self._flagged[uid]

    # ---- numbers

    @property
    def exists(self) -> int:
        """The number of messages that the client knows."""
        return self._told

    @property
    def recent_count(self) -> int:
        """The number of those that are `\\Recent`."""
        return self.recent.count_in(self._uids)

    @property
    def last_uid(self) -> int:
        return self._uids.last

    def uids(self) -> Sequence[int]:
        """The UIDs of the messages that the client knows, in order. It may be the shared array: do not change it."""
        return self._uids.slice(0, self._told)

    def all_uids(self) -> Sequence[int]:
        """The same with those that have not been announced yet."""
        return self._uids.slice(0, len(self._uids))

    def is_gone(self, uid: int) -> bool:
        return holds(self._gone, uid)

    def has_gone(self, uids: Sequence[int]) -> bool:
        """Whether one of these, which ascend, is gone."""
        return any(holds(uids, uid) for uid in self._gone)

    def number_of(self, uid: int) -> int:
        """The sequence number of a message that is known to be here."""
        return self._uids.below(uid) + 1

    def numbers_of(self, uids: Sequence[int]) -> Sequence[int]:
        """The sequence numbers of messages that are known to be here."""
        if uids and all(map(lt, uids, uids[1:])) and self.are_neighbours(uids):
            first = self.number_of(uids[0])
            return range(first, first + len(uids))
        return [self._uids.below(uid) + 1 for uid in uids]

    def are_neighbours(self, uids: Sequence[int]) -> bool:
        """Whether no other message of the mailbox lies between these, which ascend and are here."""
        return self._uids.below(uids[-1] + 1) - self._uids.below(uids[0]) == len(uids)

    def resolve(self, messages: MessageSet, *, is_uid: bool, is_search: bool = False) -> Sequence[int]:
        """The UIDs that a set names, ascending, those gone included.

        UIDs that are not here are passed over; a sequence number that is not here is MalformedRequest, but in a
        search a criterion that nothing meets. Callers must not change the answer.
        """
        if isinstance(messages, SavedResult):
            return array("I", (uid for uid in self.saved if self._is_told(uid)))
        spans = self._spans_by_uid(messages) if is_uid else self._spans_by_number(messages, is_search=is_search)
        if len(spans) == 1:
            return self._uids.slice(*spans[0])
        found = array("I")
        for first, last in spans:
            found += self._uids.slice(first, last)
        return found

    def _spans_by_number(self, messages: SequenceSet, *, is_search: bool) -> list[tuple[int, int]]:
        """Where in the list the messages of a set are, as indexes (first, after the last)."""
        ranges = messages.resolved(self._told).ranges
        if self._told == 0 and messages.from_last:
            return []
        if ranges and ranges[-1][1] > self._told and not is_search:
            raise MalformedRequest("There is no message with this number")
        return [(low - 1, min(high, self._told)) for low, high in ranges if low <= self._told]

    def _spans_by_uid(self, messages: SequenceSet) -> list[tuple[int, int]]:
        """The same of a set of UIDs."""
        known = self._uids.slice(self._told - 1, self._told)[0] if self._told else 0
        below, told = self._uids.below, self._told
        spans = ((below(low), min(below(high + 1), told)) for low, high in messages.resolved(known).ranges)
        return [(first, last) for first, last in spans if first < last]

    def _is_told(self, uid: int) -> bool:
        index = self._uids.index(uid)
        return index is not None and index < self._told
