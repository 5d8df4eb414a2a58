"""Queries on tokens and stream tickets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, delete, insert, or_, select, update

from app.db import origins
from app.db.row_types import RowType
from app.db.session import Database, Statement, Transaction, is_one_of, json_list
from app.db.tables import TICKET, TOKEN


@dataclass(frozen=True, slots=True)
class StoredToken:
    """A token as stored. `account_ids` to `networks` are JSON lists; None means no limit."""

    id: str
    kind: str
    name: str
    scopes: str
    account_ids: str | None
    mailbox_ids: str | None
    senders: str | None
    origins: str | None
    networks: str | None
    family: str | None
    is_used: bool
    created_by: str | None
    created_at_ms: int
    expires_at_ms: int | None
    sub: str | None


@dataclass(frozen=True, slots=True)
class StoredTicket:
    """The token of a ticket, and when the ticket expires."""

    token_id: str
    expires_at_ms: int


_TOKENS = RowType(StoredToken, TOKEN)
_TICKETS = RowType(StoredTicket, TICKET)
_IS_LIVE = or_(TOKEN.c.expires_at_ms.is_(None), TOKEN.c.expires_at_ms > bindparam("now_ms"))
_BY_HASH: Statement = select(*_TOKENS.columns).where(TOKEN.c.secret_hash == bindparam("secret_hash"))
_BY_ID: Statement = select(*_TOKENS.columns).where(TOKEN.c.id == bindparam("token_id"))
_PAGE = (
    select(*_TOKENS.columns)
    .where(TOKEN.c.kind != "refresh", _IS_LIVE)
    .order_by(TOKEN.c.id.desc())
    .limit(bindparam("limit"))
)
_NEXT_PAGE: Statement = _PAGE.where(TOKEN.c.id < bindparam("below_id"))
_ADD: Statement = insert(TOKEN)
_USE: Statement = (
    update(TOKEN).where(TOKEN.c.id == bindparam("token_id"), TOKEN.c.is_used.is_(False)).values(is_used=True)
)
_BY_IDS: Statement = select(*_TOKENS.columns).where(is_one_of(TOKEN.c.id, bindparam("ids")))


_SIGN_IN: Statement = (
    select(*_TOKENS.columns)
    .where(TOKEN.c.family == bindparam("family_id"), TOKEN.c.created_by.is_(None))
    .order_by(TOKEN.c.expires_at_ms.desc())
    .limit(1)
)
_HOLD: Statement = select(TOKEN.c.id).where(TOKEN.c.id == bindparam("token_id")).with_for_update(read=True)


class _Ending:
    """Deletes the tokens that match a condition, with all tokens that they created, directly or indirectly."""

    def __init__(self, condition: ColumnElement[bool]) -> None:
        self._lock: Statement = select(TOKEN.c.id).where(condition).with_for_update()
        ended = select(TOKEN.c.id).where(condition).cte("ended", recursive=True)
        ended = ended.union(select(TOKEN.c.id).join(ended, TOKEN.c.created_by == ended.c.id))
        self._delete: Statement = delete(TOKEN).where(TOKEN.c.id.in_(select(ended.c.id))).returning(TOKEN.c.origins)

    async def run(self, transaction: Transaction, **values: object) -> int:
        """The lock waits for transactions that create more such tokens; the deletion then sees them."""
        await transaction.rows(self._lock, **values)
        ended = await transaction.rows(self._delete, **values)
        await origins.remember_ended(transaction, [allowed for (allowed,) in ended])
        return len(ended)


_ENDING = _Ending(TOKEN.c.id == bindparam("token_id"))
_ENDING_FAMILY = _Ending(TOKEN.c.family == bindparam("family_id"))
_ENDING_SIGN_INS = _Ending(and_(TOKEN.c.family.is_not(None), TOKEN.c.account_ids == bindparam("only_ids")))
_ENDING_ALL_OF_ACCOUNT = _Ending(
    and_(TOKEN.c.kind != "server", TOKEN.c.account_ids.like(bindparam("pattern"), escape="\\"))
)
_DELETE_EXPIRED: Statement = delete(TOKEN).where(
    and_(TOKEN.c.expires_at_ms.is_not(None), TOKEN.c.expires_at_ms < bindparam("before_ms"))
)
_ADD_TICKET: Statement = insert(TICKET)
_TAKE_TICKET: Statement = (
    delete(TICKET).where(TICKET.c.secret_hash == bindparam("ticket_hash")).returning(*_TICKETS.columns)
)
_DELETE_OLD_TICKETS: Statement = delete(TICKET).where(TICKET.c.expires_at_ms < bindparam("before_ms"))


async def find_by_hash(reader: Database | Transaction, secret_hash: str) -> StoredToken | None:
    return _TOKENS.read_optional(await reader.row(_BY_HASH, secret_hash=secret_hash))


async def find(database: Database, token_id: str) -> StoredToken | None:
    return _TOKENS.read_optional(await database.row(_BY_ID, token_id=token_id))


async def find_sign_in(database: Database, family: str) -> StoredToken | None:
    """Return the token of a sign-in session that expires last, without tokens that the session created."""
    return _TOKENS.read_optional(await database.row(_SIGN_IN, family_id=family))


async def hold(transaction: Transaction, token_id: str) -> bool:
    """Prevent a token from being deleted until the transaction ends. Return False if there is none."""
    return await transaction.row(_HOLD, token_id=token_id) is not None


async def find_all(database: Database, token_ids: Sequence[str]) -> list[StoredToken]:
    """Return those of the tokens that exist."""
    return _TOKENS.read_all(await database.rows(_BY_IDS, ids=json_list(token_ids)))


async def list_newest(database: Database, below_id: str | None, limit: int, now_ms: int) -> list[StoredToken]:
    """Return valid tokens below an id (None: from the newest), newest first, without refresh tokens."""
    if below_id is None:
        return _TOKENS.read_all(await database.rows(_PAGE, limit=limit, now_ms=now_ms))
    return _TOKENS.read_all(await database.rows(_NEXT_PAGE, below_id=below_id, limit=limit, now_ms=now_ms))


async def add(transaction: Transaction, values: Mapping[str, Any]) -> StoredToken:
    """Store a token: `values` are its columns."""
    await transaction.execute_many(_ADD, [values])
    return _TOKENS.read([values[column.name] for column in _TOKENS.columns])


async def mark_used(transaction: Transaction, token_id: str) -> bool:
    """Return False if it was used before."""
    return await transaction.execute(_USE, token_id=token_id) == 1


async def remove(transaction: Transaction, token_id: str) -> bool:
    """Delete a token with all tokens that it created, directly or indirectly."""
    return await _ENDING.run(transaction, token_id=token_id) > 0


async def remove_family(transaction: Transaction, family: str) -> None:
    await _ENDING_FAMILY.run(transaction, family_id=family)


async def remove_sign_ins(transaction: Transaction, account_id: str) -> None:
    """End every sign-in session of an account, with the tokens that they created."""
    await _ENDING_SIGN_INS.run(transaction, only_ids=json_list([account_id]))


async def remove_of_account(transaction: Transaction, account_id: str) -> None:
    """Delete every token, except server keys, that includes an account."""
    escaped = account_id.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
    await _ENDING_ALL_OF_ACCOUNT.run(transaction, pattern=f'%"{escaped}"%')


async def remove_expired(transaction: Transaction, before_ms: int) -> None:
    """Delete tokens and tickets that ended before then, and the origins of such tokens."""
    await transaction.execute(_DELETE_EXPIRED, before_ms=before_ms)
    await transaction.execute(_DELETE_OLD_TICKETS, before_ms=before_ms)
    await origins.forget_ended(transaction, before_ms)


async def add_ticket(transaction: Transaction, secret_hash: str, token_id: str, expires_at_ms: int) -> None:
    await transaction.execute_many(
        _ADD_TICKET, [{"secret_hash": secret_hash, "token_id": token_id, "expires_at_ms": expires_at_ms}]
    )


async def take_ticket(transaction: Transaction, secret_hash: str) -> StoredTicket | None:
    """Delete a ticket and return it: it can be redeemed once."""
    return _TICKETS.read_optional(await transaction.row(_TAKE_TICKET, ticket_hash=secret_hash))
