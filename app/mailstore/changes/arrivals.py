"""Arriving messages: a row, a thread and an event each, except for messages of the initial sync."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import BindParameter, bindparam, insert, select, union_all

from app.db.session import Statement, is_one_of, json_list
from app.db.tables import DETAIL, MESSAGE, PLACEMENT
from app.mail.delta import Arrived, Flagged, Location, Placed
from app.mail.events import MessageCreated
from app.mail.identifiers import derived_id, new_id
from app.mail.summaries import shown_summary
from app.mail.types import MailboxId, MessageId
from app.mailstore.changes.context import ChangeContext, MailboxState
from app.mailstore.changes.departures import Departures
from app.mailstore.changes.places import Places
from app.mailstore.changes.threads import ThreadAssignment
from app.mailstore.rows import detail_values, message_values

_ACCOUNT: BindParameter[str] = bindparam("account_id")
ADD_MESSAGE: Statement = insert(MESSAGE)
ADD_DETAIL: Statement = insert(DETAIL)
_UIDS: Statement = union_all(
    *(
        select(table.c.uid).where(
            table.c.account_id == _ACCOUNT,
            table.c.mailbox_id == bindparam("mailbox_id"),
            is_one_of(table.c.uid, bindparam("uids")),
        )
        for table in (MESSAGE, PLACEMENT)
    )
)


class Arrivals:
    """Applies arrivals. `flagged` has the flags of arrivals that were already stored."""

    def __init__(self, ledger: ChangeContext, places: Places, threads: ThreadAssignment) -> None:
        self.flagged: list[Flagged] = []
        self._ledger = ledger
        self._places = places
        self._threads = threads
        self._departures = Departures(ledger)

    async def arrive(self, arrived: Sequence[Arrived]) -> None:
        fresh = await self._unknown(arrived)
        repeated: list[Arrived] = []
        if fresh and fresh[0].is_shared:
            fresh, repeated = _first_of_each(await self._new_among(fresh))
        if not fresh:
            return
        threads = await self._threads.assign(fresh)
        returning = await self._departures.returning(fresh)
        messages, details = [], []
        for arrival, thread_id in zip(fresh, threads, strict=True):
            mailbox = await self._ledger.mailbox(arrival.mailbox_id)
            if mailbox is None or arrival.uid_validity not in (None, mailbox.uid_validity):
                continue
            before = returning.get(Location(arrival.mailbox_id, arrival.uid))
            message_id = before.id if before else self._new_id(arrival)
            values = message_values(self._ledger.account_id, message_id, thread_id, arrival)
            values["uid"] = self._ledger.number(mailbox, arrival.uid)
            values["saved_at_ms"] = self._ledger.saved_at_ms
            location = Location(mailbox.id, values["uid"])
            is_announced = arrival.is_announced or (before is not None and before.is_told)
            self._announce(mailbox, arrival, values, location, is_announced=is_announced)
            messages.append(values)
            details.append(detail_values(self._ledger.account_id, message_id, arrival))
            self._ledger.applied.message_ids[location] = message_id
            self._ledger.applied.arrivals.append((arrival, message_id))
        await self._ledger.tx.execute_many(ADD_MESSAGE, messages)
        await self._ledger.tx.execute_many(ADD_DETAIL, details)
        ids = {values["id"] for values in messages}
        await self._departures.forget([departed.id for departed in returning.values() if departed.id in ids])
        if repeated:
            await self._new_among(repeated)

    def _new_id(self, arrival: Arrived) -> MessageId:
        """Return the message's id. A lasting origin id determines it, so that a message that returns keeps its id."""
        if arrival.is_shared and arrival.origin_id is not None:
            return MessageId(derived_id("msg", self._ledger.account_id, arrival.origin_id))
        return MessageId(new_id("msg"))

    async def _new_among(self, arrived: Sequence[Arrived]) -> list[Arrived]:
        """Return those that are new messages. One whose origin id is in the index gets a further placement."""
        ids = await self._places.ids_of(arrival.origin_id for arrival in arrived if arrival.origin_id is not None)
        for arrival in arrived:
            if arrival.origin_id in ids:
                await self._place(arrival, ids[arrival.origin_id])
        return [arrival for arrival in arrived if arrival.origin_id not in ids]

    async def place(self, placed: Sequence[Placed]) -> None:
        """Add placements of existing messages."""
        ids = await self._places.ids_of(item.origin_id for item in placed) if placed else {}
        for item in placed:
            if item.origin_id in ids:
                await self._place(item, ids[item.origin_id])

    async def _place(self, arrival: Arrived | Placed, id_: MessageId) -> None:
        mailbox = await self._ledger.mailbox(arrival.mailbox_id)
        if mailbox is not None and arrival.uid_validity in (None, mailbox.uid_validity):
            at = Location(mailbox.id, arrival.uid)
            await self._places.add(id_, at, arrival.modseq, is_announced=arrival.is_announced)
            self.flagged.append(Flagged(at, arrival.flags, arrival.modseq))

    def _announce(
        self, mailbox: MailboxState, arrival: Arrived, values: dict[str, Any], location: Location, *, is_announced: bool
    ) -> None:
        if is_announced:
            event = MessageCreated(mailbox.id, orjson.Fragment(shown_summary(values["summary"])))
            self._ledger.event(event, values["id"], at=location)
            self._ledger.entered(mailbox, arrival.flags)
            self._ledger.thread_touched(values["thread_id"])
        values["version"] = self._ledger.seq
        values["created_seq"] = values["changed_seq"] = self._ledger.change_seq
        values["modseq"] = arrival.modseq or (self._ledger.seq if self._ledger.is_origin else 0)

    async def _unknown(self, arrived: Sequence[Arrived]) -> list[Arrived]:
        """Return those that have no row yet. A message that is numbered here is always new."""
        by_mailbox: dict[MailboxId, list[int]] = {}
        for arrival in arrived:
            if arrival.uid:
                by_mailbox.setdefault(arrival.mailbox_id, []).append(arrival.uid)
        known: set[tuple[str, int]] = set()
        for mailbox_id, uids in by_mailbox.items():
            rows = await self._ledger.rows(_UIDS, mailbox_id=mailbox_id, uids=json_list(uids))
            known |= {(mailbox_id, uid) for (uid,) in rows}
        fresh: list[Arrived] = []
        for arrival in arrived:
            if (arrival.mailbox_id, arrival.uid) in known:
                continue
            fresh.append(arrival)
            if arrival.uid:
                known.add((arrival.mailbox_id, arrival.uid))
        return fresh


def _first_of_each(arrived: Sequence[Arrived]) -> tuple[list[Arrived], list[Arrived]]:
    """Return the first arrival of each message, and the others: further placements of the same messages."""
    firsts = {arrival.origin_id: arrival for arrival in reversed(arrived)}
    return list(firsts.values())[::-1], [arrival for arrival in arrived if firsts[arrival.origin_id] is not arrival]
