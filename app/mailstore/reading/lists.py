"""Lists of messages: the first page of a mailbox, and the messages that a filter matches, counted and sorted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select

from app.db.session import Database, Row, Statement, in_code_order, value_of
from app.db.tables import MESSAGE
from app.mail.filter import Filter, names_mailbox
from app.mail.types import AccountId, MessageId
from app.mailstore.placed import HAS_PLACEMENTS, newest_further
from app.mailstore.reading.columns import IN_MAILBOX, OF_ACCOUNT
from app.mailstore.search import condition_of

_LISTED = (MESSAGE.c.received_at_ms, MESSAGE.c.uid, MESSAGE.c.id, MESSAGE.c.summary)
_NEWEST_FIRST = (MESSAGE.c.received_at_ms.desc(), MESSAGE.c.uid.desc(), MESSAGE.c.id.desc())
_FIRST_PAGE: Statement = (
    select(*_LISTED).where(OF_ACCOUNT, IN_MAILBOX).order_by(*_NEWEST_FIRST).limit(bindparam("limit"))
)
_FIRST_PLACED = newest_further(_LISTED)


@dataclass(frozen=True, slots=True, order=True)
class Anchor:
    """A place in a sorted list: the key of the message there."""

    sort_value: int | str
    uid: int
    id: str


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a list: its place, and its prepared summary."""

    anchor: Anchor
    summary: bytes


@dataclass(frozen=True, slots=True)
class Sort:
    """The column to sort by: received_at, date, size, subject or from."""

    key: str = "received_at"
    is_descending: bool = True


SORTED_CHARS = 200
"""The most characters of a text by which a list is sorted, so that an anchor stays short."""
_SORT_COLUMNS: dict[str, ColumnElement[Any]] = {
    "received_at": MESSAGE.c.received_at_ms,
    "date": func.coalesce(MESSAGE.c.date_ms, MESSAGE.c.received_at_ms),
    "size": MESSAGE.c.size_bytes,
    "subject": in_code_order(func.substr(MESSAGE.c.subject_folded, 1, SORTED_CHARS)),
    "from": in_code_order(func.substr(MESSAGE.c.from_folded, 1, SORTED_CHARS)),
}
NEWEST_FIRST = Sort()


def _beyond(column: ColumnElement[Any], anchor: Anchor, *, is_descending: bool) -> ColumnElement[bool]:
    """The condition that a message comes after `anchor`, spelled out so that both databases use their index."""
    uid, id_ = MESSAGE.c.uid, MESSAGE.c.id
    is_tied = column == anchor.sort_value
    if is_descending:
        first, second, third = column < anchor.sort_value, uid < anchor.uid, id_ < anchor.id
    else:
        first, second, third = column > anchor.sort_value, uid > anchor.uid, id_ > anchor.id
    return or_(first, and_(is_tied, second), and_(is_tied, uid == anchor.uid, third))


def _listed(rows: Sequence[Row]) -> list[Listed]:
    return [Listed(Anchor(sort_value, uid, id_), summary) for sort_value, uid, id_, summary in rows]


class ListReader:
    """Reads pages of messages, and counts what a filter matches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def first_page(
        self, account_id: AccountId, mailbox_id: str, limit: int, *, has_placements: bool | None = False
    ) -> list[Listed]:
        """Return the newest messages of a mailbox, the most frequent list, by one prepared query.

        `has_placements` (see IndexStatus): by two queries, because messages may have a further placement in it.
        """
        rows = await self._database.rows(_FIRST_PAGE, account_id=account_id, mailbox_id=mailbox_id, limit=limit)
        if has_placements:
            placed = await self._database.rows(_FIRST_PLACED, account_id=account_id, mailbox_id=mailbox_id, limit=limit)
            by_id = {listed.anchor.id: listed for listed in _listed([*rows, *placed])}
            return sorted(by_id.values(), key=lambda listed: listed.anchor, reverse=True)[:limit]
        return _listed(rows)

    async def search(
        self,
        account_id: AccountId,
        tree: Filter,
        *,
        sort: Sort = NEWEST_FIRST,
        limit: int,
        after: Anchor | None = None,
        before: Anchor | None = None,
    ) -> list[Listed]:
        """Return up to `limit` matching messages, sorted, after an anchor; with `before`, those nearest before it.

        Ties are sorted by highest UID, then id. The tree must not have Text leaves.
        """
        condition = await self._condition(account_id, tree)
        column = _SORT_COLUMNS[sort.key]
        is_descending = sort.is_descending == (before is None)
        order = [item.desc() if is_descending else item.asc() for item in (column, MESSAGE.c.uid, MESSAGE.c.id)]
        statement = select(column, *_LISTED[1:]).where(OF_ACCOUNT, condition).order_by(*order).limit(limit)
        anchor = before or after
        if anchor is not None:
            statement = statement.where(_beyond(column, anchor, is_descending=is_descending))
        rows = await self._database.rows(statement, is_long=True, account_id=account_id)
        listed = _listed(rows)
        return listed[::-1] if before is not None else listed

    async def count(self, account_id: AccountId, tree: Filter) -> int:
        """Return the number of matching messages."""
        condition = await self._condition(account_id, tree)
        statement = select(func.count()).select_from(MESSAGE).where(OF_ACCOUNT, condition)
        ((count,),) = await self._database.rows(statement, is_long=True, account_id=account_id)
        return int(count)

    async def flag_counts(self, account_id: AccountId, tree: Filter) -> list[tuple[str, int]]:
        """Return each distinct set of flags of the matching messages, as stored, with the number of messages."""
        condition = await self._condition(account_id, tree)
        statement = (
            select(MESSAGE.c.flags, func.count())
            .select_from(MESSAGE)
            .where(OF_ACCOUNT, condition)
            .group_by(MESSAGE.c.flags)
        )
        rows = await self._database.rows(statement, is_long=True, account_id=account_id)
        return [(flags, int(count)) for flags, count in rows]

    async def matching_ids(self, account_id: AccountId, tree: Filter, limit: int) -> list[MessageId]:
        """Return the ids of matching messages, newest first."""
        condition = await self._condition(account_id, tree)
        statement = select(MESSAGE.c.id).where(OF_ACCOUNT, condition).order_by(*_NEWEST_FIRST).limit(limit)
        rows = await self._database.rows(statement, is_long=True, account_id=account_id)
        return [MessageId(id_) for (id_,) in rows]

    async def _condition(self, account_id: AccountId, tree: Filter) -> ColumnElement[bool]:
        row = await self._database.row(HAS_PLACEMENTS, account_id=account_id) if names_mailbox(tree) else None
        return condition_of(tree, has_placements=bool(value_of(row)))
