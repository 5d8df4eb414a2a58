"""The event log: the rows that are written, and reads from a position on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import and_, bindparam, insert, select

from app.cause import Cause
from app.db.session import Database, Statement, is_one_of, json_list, value_of
from app.db.tables import ACCOUNT, EVENT
from app.mail.event_log import Batch, Event, Span
from app.mail.events import EventData, MessageCreated
from app.mail.identifiers import new_id
from app.mail.storable import json_bytes
from app.mail.summaries import iso
from app.mail.types import AccountId, Position

_UNTYPED = b'"message":{'
_TYPED = _UNTYPED + b'"view":'
_SUMMARY = _TYPED + b'"summary",'
"""How a message in an event begins. A JSON text cannot contain a bare quote, so it is never mistaken for this."""
ADD_EVENTS: Statement = insert(EVENT)
_COLUMNS = (
    EVENT.c.account_id,
    EVENT.c.seq,
    EVENT.c.type,
    EVENT.c.subject,
    EVENT.c.mailbox_id,
    EVENT.c.uid,
    EVENT.c.target_mailbox_id,
    EVENT.c.target_uid,
    EVENT.c.at_ms,
    EVENT.c.body,
)
_AFTER = (
    select(*_COLUMNS)
    .where(EVENT.c.account_id == bindparam("account_id"), EVENT.c.seq > bindparam("seq"))
    .order_by(EVENT.c.seq)
    .limit(bindparam("limit"))
)
_SPAN_COLUMNS = (ACCOUNT.c.first_seq, ACCOUNT.c.first_event_ms, ACCOUNT.c.last_seq, ACCOUNT.c.last_event_ms)
_FROM: Statement = (
    select(*_SPAN_COLUMNS, *_COLUMNS)
    .select_from(
        ACCOUNT.outerjoin(EVENT, and_(EVENT.c.account_id == bindparam("account_id"), EVENT.c.seq >= bindparam("seq")))
    )
    .where(ACCOUNT.c.id == bindparam("account_id"))
    .order_by(EVENT.c.seq)
    .limit(bindparam("limit"))
)
_LAST: Statement = select(ACCOUNT.c.id, ACCOUNT.c.last_seq).where(is_one_of(ACCOUNT.c.id, bindparam("ids")))
_AT = select(EVENT.c.at_ms).where(EVENT.c.account_id == bindparam("account_id"), EVENT.c.seq == bindparam("seq"))
_SPAN = select(*_SPAN_COLUMNS).where(ACCOUNT.c.id == bindparam("account_id"))


def event_values(
    account_id: AccountId,
    seq: int,
    at_ms: int,
    event: EventData,
    subject: str,
    *,
    cause: Cause | None = None,
    mailbox_id: str | None = None,
    uid: int | None = None,
    target: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """Return the row of an event, including its CloudEvents 1.0 object."""
    id_ = new_id("evt")
    body = {
        "specversion": "1.0",
        "id": id_,
        "source": f"/v1/accounts/{account_id}",
        "type": event.type,
        "subject": subject,
        "time": iso(at_ms),
        "datacontenttype": "application/json",
        "data": {"account_id": account_id, **event.facts(), **_caused_by(cause)},
    }
    return {
        "account_id": account_id,
        "seq": seq,
        "type": event.type,
        "subject": subject,
        "mailbox_id": mailbox_id,
        "uid": uid,
        "target_mailbox_id": target[0] if target else None,
        "target_uid": target[1] if target else None,
        "at_ms": at_ms,
        "body": json_bytes(body),
    }


def _caused_by(cause: Cause | None) -> dict[str, object]:
    """Return the caller whose request made the change; empty for a change on the mail server."""
    if cause is None:
        return {}
    return {"caused_by": {"request_id": cause.request_id, "client_id": cause.client_id}}


def _event(row: Sequence[Any]) -> Event:
    """Return an event from its columns. A message that was logged before views had names gets the name of its view."""
    event = Event(*row)
    if event.type == MessageCreated.type and _TYPED not in event.body:
        return replace(event, body=event.body.replace(_UNTYPED, _SUMMARY, 1))
    return event


class EventLog:
    """Reads the log. `Index` writes it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def after(self, account_id: AccountId, seq: int, limit: int) -> list[Event]:
        """Return up to `limit` events after `seq`, in order."""
        rows = await self._database.rows(_AFTER, account_id=account_id, seq=seq, limit=limit)
        return [_event(row) for row in rows]

    async def starting_at(self, account_id: AccountId, seq: int, limit: int) -> Batch | None:
        """Return up to `limit` events from `seq` on, with the span; None if the account does not exist."""
        rows = await self._database.rows(_FROM, account_id=account_id, seq=seq, limit=limit)
        if not rows:
            return None
        span = _span_of(*rows[0][:4])
        return Batch(span, [_event(row[4:]) for row in rows if row[5] is not None])

    async def last_numbers(self, account_ids: Sequence[str]) -> dict[str, int]:
        """Return the number of the last event of each of these accounts that exists."""
        return dict(await self._database.rows(_LAST, ids=json_list(account_ids)))

    async def span(self, account_id: AccountId) -> Span | None:
        """None if the account does not exist."""
        row = await self._database.row(_SPAN, account_id=account_id)
        return None if row is None else _span_of(*row)

    async def at_ms(self, account_id: AccountId, seq: int) -> int | None:
        """Return the time of an event; None if it is not stored."""
        at_ms: int | None = value_of(await self._database.row(_AT, account_id=account_id, seq=seq))
        return at_ms


def _span_of(first_seq: int, first_ms: int, last_seq: int, last_ms: int) -> Span:
    return Span(Position(first_seq, first_ms), Position(last_seq, last_ms))
