"""Removed messages, remembered by their origin's id: one that comes back is the same message.

A move is an arrival and a removal in two mailboxes. A sync that reads one mailbox after the other may see the removal
first, or be killed in between. The origin's id (EMAILID, X-GM-MSGID) identifies the message when it arrives.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, BindParameter, Boolean, ColumnElement, bindparam, delete, select

from app.db.session import Statement, insert_or, is_one_of, json_list
from app.db.tables import DEPARTED, MESSAGE
from app.mail.delta import Arrived, Location
from app.mail.types import MailboxId, MessageId
from app.mailstore.changes.context import ChangeContext

REMEMBERED_AT_ONCE = 10_000
"""The most messages that are remembered of a deleted or reset mailbox: its newest."""

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_OURS = DEPARTED.c.account_id == _ACCOUNT


def _remember(*which: ColumnElement[bool]) -> Statement:
    is_told, at = bindparam("is_told", type_=Boolean), bindparam("at_ms", type_=BigInteger)
    departed = (
        select(MESSAGE.c.account_id, MESSAGE.c.id, MESSAGE.c.origin_id, is_told, at)
        .where(MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.origin_id.is_not(None), *which)
        .order_by(MESSAGE.c.uid.desc())
        .limit(REMEMBERED_AT_ONCE)
    )
    columns = ["account_id", "message_id", "origin_id", "is_told", "at_ms"]
    return insert_or(DEPARTED).from_select(columns, departed).on_conflict_do_nothing()


_REMEMBER: Statement = _remember(is_one_of(MESSAGE.c.id, bindparam("ids")))
_REMEMBER_ALL: Statement = _remember(MESSAGE.c.mailbox_id == bindparam("mailbox_id"))
_KNOWN: Statement = (
    select(DEPARTED.c.origin_id, DEPARTED.c.message_id, DEPARTED.c.is_told)
    .where(_OURS, is_one_of(DEPARTED.c.origin_id, bindparam("origin_ids")))
    .order_by(DEPARTED.c.at_ms, DEPARTED.c.message_id)
)
_FORGET: Statement = delete(DEPARTED).where(_OURS, is_one_of(DEPARTED.c.message_id, bindparam("ids")))


@dataclass(frozen=True, slots=True)
class Departed:
    """`is_told`: its removal had its own event."""

    id: MessageId
    is_told: bool


class Departures:
    """Records removed messages in the transaction of their removal. Not used for embedded accounts."""

    def __init__(self, ledger: ChangeContext) -> None:
        self._ledger = ledger

    async def remember(self, ids: Collection[str]) -> None:
        """Record messages that are removed now, each with an event. Call it before their rows are deleted."""
        await self._keep(_REMEMBER, is_told=True, ids=json_list(list(ids)))

    async def remember_all(self, mailbox_id: MailboxId) -> None:
        """Record the messages of a mailbox that is removed, without their own events.

        Call it before their rows are deleted.
        """
        await self._keep(_REMEMBER_ALL, is_told=False, mailbox_id=mailbox_id)

    async def returning(self, arrived: Sequence[Arrived]) -> dict[Location, Departed]:
        """Return the arrivals that were in the index before.

        If messages share an origin id, and so have equal bytes, the last that was removed comes back first.
        """
        origin_ids = [arrival.origin_id for arrival in arrived if arrival.origin_id is not None]
        if not origin_ids or self._ledger.is_origin:
            return {}
        rows = await self._ledger.rows(_KNOWN, origin_ids=json_list(origin_ids))
        known: dict[str | None, list[Departed]] = {}
        for origin_id, message_id, is_told in rows:
            known.setdefault(origin_id, []).append(Departed(MessageId(message_id), bool(is_told)))
        return {
            Location(arrival.mailbox_id, arrival.uid): known[arrival.origin_id].pop()
            for arrival in arrived
            if known.get(arrival.origin_id)
        }

    async def forget(self, ids: Collection[str]) -> None:
        """Delete the records of messages that are back."""
        if ids:
            await self._ledger.execute(_FORGET, ids=json_list(list(ids)))

    async def _keep(self, statement: Statement, *, is_told: bool, **which: object) -> None:
        if not self._ledger.is_origin:
            await self._ledger.execute(statement, at_ms=self._ledger.at_ms, is_told=is_told, **which)
