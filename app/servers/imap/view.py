"""One session's view of its selected mailbox: sequence numbers, and changes that have not been sent yet. Pure.

A message has a sequence number from its EXISTS until its EXPUNGE is sent (RFC 9051 §2.3.1.2), so the view notes changes
by other sessions, and they are sent when the protocol allows it.

Sessions with the same mailbox selected share the array of its UIDs; a view has only its differences. It has no flags:
they are read from the index when they are sent.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import lt

from app.errors import MalformedRequest
from app.mail.types import MailboxId
from app.mailstore.views import LoggedChange
from app.servers.imap.uids import UidList, UidRanges, holds
from app.wire.imap.request import MessageSet
from app.wire.imap.search import SavedResult
from app.wire.imap.sets import SequenceSet


@dataclass(slots=True, eq=False, weakref_slot=True)
class SharedUids:
    """The UIDs of a mailbox as of event `seq` of the account's log; later events may already be included.

    It is never changed: any number of views share it.
    """

    uids: array[int]
    seq: int


@dataclass(slots=True)
class _PendingFlags:
    """The first and the last event that changed a message's flags since they were sent."""

    first_seq: int
    last_seq: int


class MailboxView:
    """The messages by sequence number in this session.

    `is_lost` is set when the mailbox is deleted or its UIDVALIDITY changes. `saved` is the search result `$` (RFC
    5182), and `recent` the UIDs that are `\\Recent` in this session.
    """

    def __init__(self, mailbox_id: MailboxId, shared: SharedUids, *, is_read_only: bool) -> None:
        self.mailbox_id = mailbox_id
        self.is_read_only = is_read_only
        self.is_lost = False
        self.saved: Sequence[int] = ()
        self.recent = UidRanges()
        self.keywords: set[str] = set()
        """Keywords in the last FLAGS response."""
        self._shared = shared
        self._uids = UidList(shared.uids)
        self._announced = len(self._uids)
        self._gone = array("I")
        self._flagged: dict[int, _PendingFlags] = {}
        self._is_all_flagged = False
        self.fresh: list[int] = []
        """UIDs whose EXISTS was sent and whose items NOTIFY must still send."""

    @property
    def shared(self) -> SharedUids:
        """Return the shared array that this view was opened on, held so that later sessions find it."""
        return self._shared

    @property
    def own_bytes(self) -> int:
        """Return approximately the memory that this view uses in addition to the shared array."""
        own_base = self._uids.base if self._uids.base is not self._shared.uids else ()
        own_count = len(own_base) + len(self._gone) + len(self.saved)
        return self._uids.own_bytes + own_count * self._gone.itemsize

    # ---- noted changes

    def note(self, change: LoggedChange) -> None:
        """Note an entry of the account's log, which may arrive more than once."""
        if change.type in ("mailbox.deleted", "mailbox.reset"):
            self.is_lost = self.is_lost or change.subject == self.mailbox_id
        elif change.mailbox_id == self.mailbox_id and change.uid is not None:
            self._note_here(change, change.uid)
        if change.target_mailbox_id == self.mailbox_id and change.target_uid is not None:
            self.arrive(change.target_uid)

    def _note_here(self, change: LoggedChange, uid: int) -> None:
        match change.type:
            case "message.created":
                self.arrive(uid)
            case "message.updated":
                self.flag(uid, change.seq)
            case "message.moved" | "message.deleted":
                self.remove(uid)

    def arrive(self, uid: int) -> bool:
        """Add a message; return whether it is new in this view."""
        if uid <= self._uids.last:
            return False
        self._uids.append(uid)
        return True

    def remove(self, uid: int) -> None:
        """Note that a message was removed. If it was never announced, nothing is sent."""
        index = self._uids.index(uid)
        if index is None or self.is_gone(uid):
            return
        if index >= self._announced:
            self._uids.remove((uid,))
        else:
            insort(self._gone, uid)
        self._flagged.pop(uid, None)

    def flag(self, uid: int, seq: int) -> None:
        """Note that event `seq` changed a message's flags."""
        if self._uids.index(uid) is None or self.is_gone(uid):
            return
        pending = self._flagged.get(uid)
        if pending is None:
            self._flagged[uid] = _PendingFlags(seq, seq)
        else:
            pending.last_seq = seq

    def flag_all(self) -> None:
        """Note that any message's flags may have changed."""
        self._is_all_flagged = True
        self._flagged.clear()

    def flag_again(self, uids: Iterable[int], seq: int) -> None:
        """Note that sending the flags of these messages failed: they changed at some time up to `seq`."""
        for uid in uids:
            self.flag(uid, seq)
            if uid in self._flagged:
                self._flagged[uid].first_seq = 0

    def settle(self) -> None:
        """Apply noted changes without responses: no message has been announced to the client yet."""
        self._uids.remove(self._gone)
        self._announced = len(self._uids)
        self._gone = array("I")
        self._flagged.clear()

    # ---- pending responses

    def take_expunged(self, limit: int) -> list[int]:
        """Return sequence numbers for EXPUNGE, at most `limit`, each as it is after the EXPUNGEs before it."""
        numbers = [self._uids.below(uid) + 1 - place for place, uid in enumerate(self._gone[:limit])]
        self.take_vanished(limit)
        return numbers

    def take_vanished(self, limit: int) -> Sequence[int]:
        """Return the UIDs for VANISHED, ascending, at most `limit`."""
        gone = self._gone[:limit]
        self._uids.remove(gone)
        self._announced -= len(gone)
        del self._gone[:limit]
        return gone

    def arrivals(self) -> Sequence[int]:
        """Return the UIDs whose EXISTS is pending."""
        return self._uids.slice(self._announced, len(self._uids)) if self._announced < len(self._uids) else ()

    def take_arrivals(self) -> Sequence[int]:
        """Return the UIDs whose EXISTS is pending, and mark them as announced."""
        fresh = self.arrivals()
        self._announced = len(self._uids)
        return fresh

    def take_flagged(self) -> Sequence[int]:
        """Return the ascending UIDs whose flags must be sent now; call it after `take_arrivals`."""
        uids = self.uids() if self._is_all_flagged else sorted(self._flagged)
        self._is_all_flagged = False
        self._flagged.clear()
        return uids

    def mark_flags_sent(self, uids: Iterable[int], up_to_seq: int, since_seq: int = -1) -> None:
        """Mark these messages' flags as sent, as of event `up_to_seq`.

        With `since_seq` the client has only the changes of events after it: an earlier change must still be sent.
        """
        for uid in uids:
            pending = self._flagged.get(uid)
            if pending is not None and since_seq < pending.first_seq and pending.last_seq <= up_to_seq:
                del self._flagged[uid]

    # ---- numbers

    @property
    def exists(self) -> int:
        """Return the number of announced messages."""
        return self._announced

    @property
    def recent_count(self) -> int:
        """Return the number of `\\Recent` messages."""
        return self.recent.count_in(self._uids)

    @property
    def last_uid(self) -> int:
        return self._uids.last

    def uids(self) -> Sequence[int]:
        """Return the UIDs of announced messages, in order. It may be the shared array: do not change it."""
        return self._uids.slice(0, self._announced)

    def all_uids(self) -> Sequence[int]:
        """Return the UIDs of all messages, including messages that have not been announced yet."""
        return self._uids.slice(0, len(self._uids))

    def is_gone(self, uid: int) -> bool:
        return holds(self._gone, uid)

    def has_gone(self, uids: Sequence[int]) -> bool:
        """Whether one of these ascending UIDs is gone."""
        return any(holds(uids, uid) for uid in self._gone)

    def number_of(self, uid: int) -> int:
        """Return the sequence number of a message in the view."""
        return self._uids.below(uid) + 1

    def numbers_of(self, uids: Sequence[int]) -> Sequence[int]:
        """Return the sequence numbers of messages in the view."""
        if uids and all(map(lt, uids, uids[1:])) and self.are_neighbours(uids):
            first = self.number_of(uids[0])
            return range(first, first + len(uids))
        return [self._uids.below(uid) + 1 for uid in uids]

    def are_neighbours(self, uids: Sequence[int]) -> bool:
        """Whether these ascending UIDs of the view are adjacent, without other messages between them."""
        return self._uids.below(uids[-1] + 1) - self._uids.below(uids[0]) == len(uids)

    def resolve(self, messages: MessageSet, *, is_uid: bool, is_search: bool = False) -> Sequence[int]:
        """Return the UIDs that a set names, ascending, including messages that are gone.

        Unknown UIDs are ignored. An unknown sequence number raises MalformedRequest, but in a search it matches
        nothing. Callers must not change the result.
        """
        if isinstance(messages, SavedResult):
            return array("I", (uid for uid in self.saved if self._is_announced(uid)))
        spans = self._spans_by_uid(messages) if is_uid else self._spans_by_number(messages, is_search=is_search)
        if len(spans) == 1:
            return self._uids.slice(*spans[0])
        uids = array("I")
        for first, last in spans:
            uids += self._uids.slice(first, last)
        return uids

    def _spans_by_number(self, messages: SequenceSet, *, is_search: bool) -> list[tuple[int, int]]:
        """Return the indexes (first, after the last) of a set of sequence numbers."""
        ranges = messages.resolved(self._announced).ranges
        if self._announced == 0 and messages.from_last:
            return []
        if ranges and ranges[-1][1] > self._announced and not is_search:
            raise MalformedRequest("No message has this sequence number")
        return [(low - 1, min(high, self._announced)) for low, high in ranges if low <= self._announced]

    def _spans_by_uid(self, messages: SequenceSet) -> list[tuple[int, int]]:
        """Return the indexes (first, after the last) of a set of UIDs."""
        known = self._uids.slice(self._announced - 1, self._announced)[0] if self._announced else 0
        below, announced = self._uids.below, self._announced
        spans = ((below(low), min(below(high + 1), announced)) for low, high in messages.resolved(known).ranges)
        return [(first, last) for first, last in spans if first < last]

    def _is_announced(self, uid: int) -> bool:
        index = self._uids.index(uid)
        return index is not None and index < self._announced
