"""Queries on idempotent answers."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, select, update

from app.db.session import Database, Row, Statement, Transaction, insert_or
from app.db.tables import IDEMPOTENCY

_THIS = (IDEMPOTENCY.c.scope == bindparam("of_scope"), IDEMPOTENCY.c.key == bindparam("of_key"))
_FIND: Statement = select(
    IDEMPOTENCY.c.payload_hash,
    IDEMPOTENCY.c.status,
    IDEMPOTENCY.c.answer,
    IDEMPOTENCY.c.is_encrypted,
    IDEMPOTENCY.c.facts,
    IDEMPOTENCY.c.created_at_ms,
).where(*_THIS)
_ADD: Statement = insert_or(IDEMPOTENCY).on_conflict_do_nothing()
_RENEW: Statement = update(IDEMPOTENCY).where(*_THIS).values(created_at_ms=bindparam("now_ms"))
_NOTE: Statement = update(IDEMPOTENCY).where(*_THIS).values(facts=bindparam("new_facts"))
_ANSWER: Statement = (
    update(IDEMPOTENCY)
    .where(*_THIS)
    .values(status=bindparam("new_status"), answer=bindparam("new_answer"), is_encrypted=bindparam("new_is_encrypted"))
)
_DELETE: Statement = delete(IDEMPOTENCY).where(*_THIS)
_DELETE_OLD: Statement = delete(IDEMPOTENCY).where(IDEMPOTENCY.c.created_at_ms < bindparam("before_ms"))


async def find(reader: Database | Transaction, scope: str, key: str) -> Row | None:
    """(payload_hash, status, answer, is_encrypted, facts, created_at_ms)"""
    return await reader.row(_FIND, of_scope=scope, of_key=key)


async def add_running(transaction: Transaction, scope: str, key: str, payload_hash: str, now_ms: int) -> bool:
    """False where there is a row of this key already."""
    values = {
        "scope": scope,
        "key": key,
        "payload_hash": payload_hash,
        "status": None,
        "answer": None,
        "is_encrypted": False,
        "facts": "",
        "created_at_ms": now_ms,
    }
    return await transaction.execute(_ADD, **values) == 1


async def renew(transaction: Transaction, scope: str, key: str, now_ms: int) -> None:
    """The request runs again from now."""
    await transaction.execute(_RENEW, of_scope=scope, of_key=key, now_ms=now_ms)


async def set_facts(transaction: Transaction, scope: str, key: str, facts: str) -> None:
    await transaction.execute(_NOTE, of_scope=scope, of_key=key, new_facts=facts)


async def set_answer(
    transaction: Transaction, scope: str, key: str, status: int, answer: bytes, *, is_encrypted: bool
) -> None:
    await transaction.execute(
        _ANSWER, of_scope=scope, of_key=key, new_status=status, new_answer=answer, new_is_encrypted=is_encrypted
    )


async def remove(transaction: Transaction, scope: str, key: str) -> None:
    await transaction.execute(_DELETE, of_scope=scope, of_key=key)


async def remove_old(transaction: Transaction, before_ms: int) -> None:
    await transaction.execute(_DELETE_OLD, before_ms=before_ms)
