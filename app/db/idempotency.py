"""Requests with an idempotency key that are running or were answered, by scope and key.

A running request is held by a claim: a lease on the database's clock, and the number of the claim, which each
take-over increases. A write of a claim succeeds only while its number is the row's and no answer is stored, so later
writes of an overtaken process are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import bindparam, delete, select, update

from app.db.claims import FOR_EVER_MS, LEASE_END, is_free
from app.db.clock import clock_ms
from app.db.row_types import RowType
from app.db.session import Database, Statement, Transaction, insert_or
from app.db.tables import IDEMPOTENCY


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A request that is running (`status` and `answer` are None) or was answered. `is_encrypted`: `answer` is."""

    payload_hash: str
    status: int | None
    answer: bytes | None = field(repr=False)
    is_encrypted: bool


@dataclass(frozen=True, slots=True)
class TakenRequest:
    """A request that was just claimed: the number of the claim, and the notes of earlier attempts (JSON, or "")."""

    claim: int
    payload_hash: str
    facts: str
    created_at_ms: int


_ANSWERS = RowType(StoredAnswer, IDEMPOTENCY)
_TAKEN = RowType(TakenRequest, IDEMPOTENCY)
_THIS = (IDEMPOTENCY.c.scope == bindparam("of_scope"), IDEMPOTENCY.c.key == bindparam("of_key"))
_HELD = (*_THIS, IDEMPOTENCY.c.claim == bindparam("of_claim"), IDEMPOTENCY.c.status.is_(None))
_FIND: Statement = select(*_ANSWERS.columns).where(*_THIS)
_TAKE: Statement = (
    insert_or(IDEMPOTENCY)
    .values(
        scope=bindparam("new_scope"),
        key=bindparam("new_key"),
        payload_hash=bindparam("new_payload_hash"),
        is_encrypted=False,
        facts="",
        claim=1,
        lease_until_ms=LEASE_END,
        created_at_ms=clock_ms(),
    )
    .on_conflict_do_update(
        index_elements=[IDEMPOTENCY.c.scope, IDEMPOTENCY.c.key],
        set_={"claim": IDEMPOTENCY.c.claim + 1, "lease_until_ms": LEASE_END},
        where=IDEMPOTENCY.c.status.is_(None) & is_free(IDEMPOTENCY.c.lease_until_ms),
    )
    .returning(*_TAKEN.columns)
)
_RENEW: Statement = update(IDEMPOTENCY).where(*_HELD).values(lease_until_ms=LEASE_END)
_RELEASE: Statement = update(IDEMPOTENCY).where(*_HELD).values(lease_until_ms=0)
_NOTE: Statement = update(IDEMPOTENCY).where(*_HELD).values(facts=bindparam("new_facts"), lease_until_ms=LEASE_END)
_ANSWER: Statement = (
    update(IDEMPOTENCY)
    .where(*_HELD)
    .values(status=bindparam("new_status"), answer=bindparam("new_answer"), is_encrypted=bindparam("new_is_encrypted"))
)
_DELETE: Statement = delete(IDEMPOTENCY).where(*_HELD)
_DELETE_OLD: Statement = delete(IDEMPOTENCY).where(IDEMPOTENCY.c.created_at_ms < bindparam("before_ms"))


@dataclass(frozen=True, slots=True)
class Claim:
    """One process's claim on a request. `number` is 1 for the first attempt, and grows with each take-over."""

    scope: str
    key: str
    number: int

    def values(self) -> dict[str, object]:
        return {"of_scope": self.scope, "of_key": self.key, "of_claim": self.number}


async def take(
    transaction: Transaction, scope: str, key: str, payload_hash: str, *, is_alone: bool = False
) -> TakenRequest | None:
    """Claim a request that is new, or whose process is dead.

    Returns None if it was answered or is running elsewhere; only one of several processes gets it. `is_alone`: no
    other process shares the database, so an unexpired lease belongs to an earlier run of this process.
    """
    slack_ms = FOR_EVER_MS if is_alone else 0
    values = {"new_scope": scope, "new_key": key, "new_payload_hash": payload_hash, "slack_ms": slack_ms}
    return _TAKEN.read_optional(await transaction.row(_TAKE, **values))


async def find(reader: Database | Transaction, scope: str, key: str) -> StoredAnswer | None:
    return _ANSWERS.read_optional(await reader.row(_FIND, of_scope=scope, of_key=key))


async def renew(transaction: Transaction, claim: Claim) -> bool:
    """Extend a claim. Return False if it is lost."""
    return await transaction.execute(_RENEW, **claim.values()) == 1


async def release(transaction: Transaction, claim: Claim) -> None:
    """End a claim: the next attempt may begin at once."""
    await transaction.execute(_RELEASE, **claim.values())


async def set_facts(transaction: Transaction, claim: Claim, facts: str) -> bool:
    """Return False if the claim is lost."""
    return await transaction.execute(_NOTE, **claim.values(), new_facts=facts) == 1


async def set_answer(transaction: Transaction, claim: Claim, status: int, answer: bytes, *, is_encrypted: bool) -> bool:
    """Return False if the claim is lost."""
    values = {"new_status": status, "new_answer": answer, "new_is_encrypted": is_encrypted}
    return await transaction.execute(_ANSWER, **claim.values(), **values) == 1


async def remove(transaction: Transaction, claim: Claim) -> None:
    """Delete a request that was not answered."""
    await transaction.execute(_DELETE, **claim.values())


async def remove_old(transaction: Transaction, before_ms: int) -> None:
    await transaction.execute(_DELETE_OLD, before_ms=before_ms)
