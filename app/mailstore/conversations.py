"""Reads threads: the newest matching message of each, and the messages of some."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import BindParameter, ColumnElement, Subquery, bindparam, case, func, not_, select

from app.db.session import Database, Statement, is_one_of, json_list, value_of
from app.db.tables import MESSAGE, THREAD_ALIAS
from app.mail import filter as f
from app.mail.types import SEEN, AccountId, ThreadId
from app.mailstore.search import condition_of

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_OURS = (MESSAGE.c.account_id == _ACCOUNT, is_one_of(MESSAGE.c.thread_id, bindparam("threads")))
_ALIAS: Statement = select(THREAD_ALIAS.c.into_id).where(
    THREAD_ALIAS.c.account_id == _ACCOUNT, THREAD_ALIAS.c.thread_id == bindparam("thread_id")
)
_IS_UNREAD = not_(condition_of(f.HasFlag(SEEN)))


@dataclass(frozen=True, slots=True)
class Member:
    """A message of a thread. `count` and `unread` are of all matching messages in the thread."""

    thread_id: ThreadId
    id: str
    received_at_ms: int
    count: int
    unread: int
    summary: bytes


class Conversations:
    """Reads threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def resolve(self, account_id: AccountId, thread_id: str) -> ThreadId:
        """Return the thread that this one was merged into, or the same id if it was not merged or is unknown."""
        alias: str | None = value_of(await self._database.row(_ALIAS, account_id=account_id, thread_id=thread_id))
        return ThreadId(alias or thread_id)

    async def newest(self, account_id: AccountId, tree: f.Filter, thread_ids: Collection[str]) -> dict[str, str]:
        """Return by thread the id of its newest matching message."""
        members = await self.members(account_id, tree, thread_ids, limit=1)
        return {thread_id: newest[0].id for thread_id, newest in members.items()}

    async def count(self, account_id: AccountId, tree: f.Filter) -> int:
        """Return the number of threads with a matching message."""
        condition = condition_of(tree, has_placements=True)
        counted = select(func.count(MESSAGE.c.thread_id.distinct())).where(MESSAGE.c.account_id == _ACCOUNT, condition)
        ((count,),) = await self._database.rows(counted, is_long=True, account_id=account_id)
        return int(count)

    async def members(
        self, account_id: AccountId, tree: f.Filter, thread_ids: Collection[str], *, limit: int
    ) -> dict[str, list[Member]]:
        """Return by thread its newest matching messages, up to `limit`, newest first."""
        if not thread_ids:
            return {}
        ranked = _ranked(condition_of(tree, has_placements=True))
        chosen = select(*ranked.c).where(ranked.c.place <= limit).order_by(ranked.c.place)
        rows = await self._database.rows(
            chosen, is_long=True, account_id=account_id, threads=json_list(list(thread_ids))
        )
        by_thread: dict[str, list[Member]] = {}
        for thread_id, *member, _ in rows:
            by_thread.setdefault(thread_id, []).append(Member(thread_id, *member))
        return by_thread


def _ranked(condition: ColumnElement[bool]) -> Subquery:
    newest_first = (MESSAGE.c.received_at_ms.desc(), MESSAGE.c.uid.desc(), MESSAGE.c.id.desc())
    unread = func.sum(case((_IS_UNREAD, 1), else_=0))
    return (
        select(
            MESSAGE.c.thread_id,
            MESSAGE.c.id,
            MESSAGE.c.received_at_ms,
            func.count().over(partition_by=MESSAGE.c.thread_id).label("count"),
            unread.over(partition_by=MESSAGE.c.thread_id).label("unread"),
            MESSAGE.c.summary,
            func.row_number().over(partition_by=MESSAGE.c.thread_id, order_by=newest_first).label("place"),
        )
        .where(*_OURS, condition)
        .subquery()
    )
