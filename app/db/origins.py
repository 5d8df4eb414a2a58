"""Queries on the web origins of tokens."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from sqlalchemy import bindparam, delete, func, or_, select

from app.db.session import Database, Statement, Transaction, insert_or
from app.db.tables import ENDED_ORIGIN, TOKEN
from app.mail.identifiers import now_ms

_OF_TOKENS: Statement = (
    select(TOKEN.c.origins)
    .where(
        TOKEN.c.origins.is_not(None),
        or_(TOKEN.c.expires_at_ms.is_(None), TOKEN.c.expires_at_ms > bindparam("ended_after_ms")),
    )
    .group_by(TOKEN.c.origins)
    .order_by(func.max(TOKEN.c.id).desc())
    .limit(bindparam("limit"))
)
_ENDED: Statement = (
    select(ENDED_ORIGIN.c.origin)
    .where(ENDED_ORIGIN.c.ended_at_ms > bindparam("ended_after_ms"))
    .order_by(ENDED_ORIGIN.c.ended_at_ms.desc())
    .limit(bindparam("limit"))
)
_INSERT = insert_or(ENDED_ORIGIN)
_REMEMBER: Statement = _INSERT.on_conflict_do_update(
    index_elements=["origin"], set_={"ended_at_ms": _INSERT.excluded.ended_at_ms}
)
_FORGET: Statement = delete(ENDED_ORIGIN).where(ENDED_ORIGIN.c.ended_at_ms < bindparam("before_ms"))


async def known(database: Database, ended_after_ms: int, limit: int) -> frozenset[str]:
    """Return the origins of tokens that are valid, or ended after then.

    They come from the `limit` newest distinct lists of origins, and the `limit` origins that ended last.
    """
    lists = await database.rows(_OF_TOKENS, ended_after_ms=ended_after_ms, limit=limit)
    ended = await database.rows(_ENDED, ended_after_ms=ended_after_ms, limit=limit)
    return frozenset([origin for (text,) in lists for origin in orjson.loads(text)] + [origin for (origin,) in ended])


async def remember_ended(transaction: Transaction, lists: Iterable[str | None]) -> None:
    """Store the origins of tokens that end now; `lists` are JSON."""
    ended = sorted({origin for text in lists if text is not None for origin in orjson.loads(text)})
    if ended:
        now = now_ms()
        await transaction.execute_many(_REMEMBER, [{"origin": origin, "ended_at_ms": now} for origin in ended])


async def forget_ended(transaction: Transaction, before_ms: int) -> None:
    """Delete the origins that ended before then."""
    await transaction.execute(_FORGET, before_ms=before_ms)
