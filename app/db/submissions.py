"""Queries on submissions: rows that are claimed and attempted, and that record the progress of an attempt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import BindParameter, and_, bindparam, insert, not_, or_, select, update

from app.db.claims import LEASE_END, is_free
from app.db.session import Database, Row, Statement, Transaction, is_one_of, json_list, value_of
from app.db.tables import SUBMISSION

COLUMNS = tuple(SUBMISSION.columns.keys())

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_THIS = (SUBMISSION.c.account_id == _ACCOUNT, SUBMISSION.c.id == bindparam("id"))
_ADD: Statement = insert(SUBMISSION)
_BY_ID = select(SUBMISSION).where(*_THIS)
_ONE: Statement = _BY_ID
_NEWEST = (SUBMISSION.c.created_at_ms.desc(), SUBMISSION.c.id.desc())
_FIRST = select(SUBMISSION).where(SUBMISSION.c.account_id == _ACCOUNT).order_by(*_NEWEST).limit(bindparam("limit"))
_WITH_HEADER: Statement = (
    select(SUBMISSION)
    .where(SUBMISSION.c.account_id == _ACCOUNT, SUBMISSION.c.message_id_header == bindparam("header"))
    .order_by(*_NEWEST)
    .limit(1)
    .with_for_update()
)
_LOCKED: Statement = _BY_ID.with_for_update()
_AFTER = (
    select(SUBMISSION)
    .where(
        SUBMISSION.c.account_id == _ACCOUNT,
        or_(
            SUBMISSION.c.created_at_ms < bindparam("created_at_ms"),
            and_(SUBMISSION.c.created_at_ms == bindparam("created_at_ms"), SUBMISSION.c.id < bindparam("id")),
        ),
    )
    .order_by(*_NEWEST)
    .limit(bindparam("limit"))
)
NEVER_MS = 2**62
"""`due_at_ms` of a final submission: later than any time that is queried."""
WAITING = ("held", "queued", "deferred")
"""States in which another attempt follows."""
_IS_WAITING = or_(*(SUBMISSION.c.status == status for status in WAITING))
_IS_DUE = and_(_IS_WAITING, SUBMISSION.c.due_at_ms <= bindparam("now_ms"))
_IS_ABANDONED = and_(SUBMISSION.c.status == "sending", is_free(SUBMISSION.c.lease_until_ms))
_IS_UNFILED = and_(
    SUBMISSION.c.status == "sent",
    SUBMISSION.c.phase != "done",
    SUBMISSION.c.due_at_ms <= bindparam("now_ms"),
    is_free(SUBMISSION.c.lease_until_ms),
)
_DUE: Statement = (
    select(SUBMISSION)
    .where(or_(_IS_DUE, _IS_ABANDONED, _IS_UNFILED), not_(is_one_of(SUBMISSION.c.account_id, bindparam("busy"))))
    .order_by(SUBMISSION.c.due_at_ms)
    .limit(bindparam("limit"))
)
_NEXT: Statement = select(SUBMISSION.c.due_at_ms).where(_IS_WAITING).order_by(SUBMISSION.c.due_at_ms).limit(1)
_RENEW: Statement = (
    update(SUBMISSION)
    .where(*_THIS, SUBMISSION.c.attempts == bindparam("held_attempts"))
    .values(lease_until_ms=LEASE_END)
)
_HELD_BY = ("status", "phase", "attempts")
_IS_KNOWN = tuple(SUBMISSION.c[name] == bindparam(f"known_{name}") for name in _HELD_BY)
_CLAIM: Statement = (
    update(SUBMISSION)
    .where(
        *_THIS,
        *_IS_KNOWN,
        SUBMISSION.c.lease_until_ms == bindparam("known_lease_until_ms"),
        SUBMISSION.c.due_at_ms == bindparam("known_due_at_ms"),
    )
    .values(
        status=bindparam("new_status"),
        phase=bindparam("new_phase"),
        attempts=SUBMISSION.c.attempts + 1,
        lease_until_ms=LEASE_END,
    )
    .returning(*SUBMISSION.c)
)
_RELEASE_ALL: Statement = update(SUBMISSION).where(SUBMISSION.c.lease_until_ms > 0).values(lease_until_ms=0)


@dataclass(frozen=True, slots=True)
class Submission:
    """A row of table `submission`; see there. `recipients` and `options` are JSON."""

    account_id: str
    id: str
    status: str
    phase: str
    sender: str
    recipients: str
    message_id_header: str
    blob: str | None
    size_bytes: int
    options: str
    attempts: int
    due_at_ms: int
    send_at_ms: int | None
    lease_until_ms: int
    is_filed: bool
    created_at_ms: int
    updated_at_ms: int


def _submission(row: Row) -> Submission:
    return Submission(*row)


async def add(transaction: Transaction, submission: Submission) -> None:
    await transaction.execute(_ADD, **{name: getattr(submission, name) for name in COLUMNS})


async def get(source: Database | Transaction, account_id: str, id_: str) -> Submission | None:
    row = await source.row(_ONE, account_id=account_id, id=id_)
    return None if row is None else _submission(row)


async def locked(transaction: Transaction, account_id: str, id_: str) -> Submission | None:
    """Return the row, locked until the transaction ends."""
    row = await transaction.row(_LOCKED, account_id=account_id, id=id_)
    return None if row is None else _submission(row)


async def with_header(transaction: Transaction, account_id: str, message_id_header: str) -> Submission | None:
    """Return the newest submission with this Message-ID, locked as by `locked`."""
    row = await transaction.row(_WITH_HEADER, account_id=account_id, header=message_id_header)
    return None if row is None else _submission(row)


async def page(
    database: Database,
    account_id: str,
    limit: int,
    after: tuple[int, str] | None = None,
    members: Sequence[str] = (),
) -> list[Submission]:
    """Return submissions, newest first, after (created_at_ms, id), whose `options` contain all `members`.

    Letters may be compared ignoring case: compare the results exactly.
    """
    if members:
        conditions = [SUBMISSION.c.options.contains(member, autoescape=True) for member in members]
        statement = (_FIRST if after is None else _AFTER).where(*conditions)
        place = {} if after is None else {"created_at_ms": after[0], "id": after[1]}
        found = await database.rows(statement, is_long=True, account_id=account_id, limit=limit, **place)
        return [_submission(row) for row in found]
    if after is None:
        rows = await database.rows(_FIRST, account_id=account_id, limit=limit)
    else:
        rows = await database.rows(_AFTER, account_id=account_id, created_at_ms=after[0], id=after[1], limit=limit)
    return [_submission(row) for row in rows]


async def due(
    database: Database, now_ms: int, busy: Sequence[str], limit: int, *, slack_ms: int = 0
) -> list[Submission]:
    """Return submissions to attempt now: due, abandoned by a dead worker, or sent without a stored copy yet.

    Without those of the `busy` accounts. `slack_ms`: see `app.db.claims.is_free`.
    """
    rows = await database.rows(_DUE, now_ms=now_ms, busy=json_list(busy), limit=limit, slack_ms=slack_ms)
    return [_submission(row) for row in rows]


async def next_due_ms(database: Database) -> int | None:
    """Return when the next attempt is due."""
    due_at_ms: int | None = value_of(await database.row(_NEXT))
    return due_at_ms


async def claim(transaction: Transaction, before: Submission) -> Submission | None:
    """Claim a submission that `due` has returned. Return its new row, or None if it is no longer as in `before`.

    Each claim increases `attempts`, which fences later writes of an earlier holder.
    """
    is_waiting = before.status in WAITING
    known = {f"known_{name}": getattr(before, name) for name in (*_HELD_BY, "lease_until_ms", "due_at_ms")}
    new = {"new_status": "sending", "new_phase": ""} if is_waiting else _state(before)
    row = await transaction.row(_CLAIM, account_id=before.account_id, id=before.id, **known, **new)
    return None if row is None else _submission(row)


def _state(submission: Submission) -> dict[str, str]:
    return {"new_status": submission.status, "new_phase": submission.phase}


async def change(transaction: Transaction, before: Submission, changes: Mapping[str, object]) -> bool:
    """Set columns. Return False if status, phase or attempts are no longer as in `before`."""
    known = {f"known_{name}": getattr(before, name) for name in _HELD_BY}
    new = {f"new_{name}": value for name, value in changes.items()}
    statement = _change_of(tuple(sorted(changes)))
    return await transaction.execute(statement, account_id=before.account_id, id=before.id, **known, **new) == 1


@lru_cache(maxsize=64)
def _change_of(names: tuple[str, ...]) -> Statement:
    """Return the statement that sets these columns, cached so that it is compiled once."""
    new = {name: bindparam(f"new_{name}", type_=SUBMISSION.c[name].type) for name in names}
    return update(SUBMISSION).where(*_THIS, *_IS_KNOWN).values(new)


async def renew(database: Database, submission: Submission) -> bool:
    """Extend the claim of a running attempt. Return False if it is lost."""

    async def work(transaction: Transaction) -> bool:
        values = {"account_id": submission.account_id, "id": submission.id, "held_attempts": submission.attempts}
        return await transaction.execute(_RENEW, **values) == 1

    return await database.write(work, is_durable=False)


async def release_all(database: Database) -> None:
    """End all leases: their holders are dead, as only this process uses the database."""

    async def work(transaction: Transaction) -> None:
        await transaction.execute(_RELEASE_ALL)

    await database.write(work)
