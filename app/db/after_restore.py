"""Changes a restored database so that numbers and states of the lost time are never mistaken for later ones.

Clients have log positions, states, UIDVALIDITYs and submissions of that time, which the database lacks. All changes
are made in one transaction of an SQLAlchemy connection, on SQLite or PostgreSQL.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import orjson
from sqlalchemy import BigInteger, Connection, bindparam, case, delete, func, insert, select, update

from app.db.installation import ID
from app.db.submissions import NEVER_MS, WAITING
from app.db.tables import (
    ACCOUNT,
    EVENT,
    IDEMPOTENCY,
    INSTALLATION,
    LEASE,
    MAILBOX,
    SUBMISSION,
    TICKET,
    TOMBSTONE,
)

UID_VALIDITY_MARGIN = 100_000
"""How far UIDVALIDITYs may be ahead of the clock, from which they are made: one second per created mailbox."""
UID_VALIDITY_SPREAD = 1 << 20
"""Restores of one backup at the same time, on different machines, differ by a random part of this."""
KEPT_HERE = ("embedded", "pop3")
"""Kinds of accounts whose mailboxes this installation numbers."""
LOST_RESPONSE = "The database was restored from a backup: the message may have been sent after the backup was made"
_LOST_ANSWER = {
    "type": "/v1/problems/conflict",
    "title": "It is unknown whether this request took effect",
    "status": 409,
    "detail": "The database was restored from a backup that was made while this request was running",
    "code": "conflict",
    "retryable": False,
    "origin": None,
    "errors": [],
}
_SENDING = (*WAITING, "sending")
_OPEN = ("pending", "deferred")


@dataclass(frozen=True, slots=True)
class RestoreCounts:
    """The changes of a restore."""

    accounts: int
    mailboxes: int
    uncertain: int
    uid_validity: int
    """The highest UIDVALIDITY assigned."""


def begin_epoch(connection: Connection, epoch: str, now_ms: int, uid_validity_floor: int = 0) -> RestoreCounts:
    """Begin another epoch in a restored database. New UIDVALIDITYs are above the floor."""
    _begin_logs(connection, now_ms)
    mailboxes, highest = _number_mailboxes(connection, now_ms // 1000, uid_validity_floor)
    uncertain = _doubt_submissions(connection, now_ms)
    _answer_requests(connection)
    connection.execute(delete(TICKET))
    connection.execute(delete(LEASE))
    connection.execute(delete(INSTALLATION).where(INSTALLATION.c.id == ID))
    connection.execute(insert(INSTALLATION).values(id=ID, epoch=epoch, tick=0, restored_at_ms=now_ms, key_id=""))
    accounts = connection.scalar(select(func.count()).select_from(ACCOUNT)) or 0
    return RestoreCounts(accounts, mailboxes, uncertain, max(highest, uid_validity_floor))


def _begin_logs(connection: Connection, now_ms: int) -> None:
    """Empty every log, and continue numbering from the time in ms, which no log has reached and which only grows."""
    now = bindparam("now", now_ms, type_=BigInteger)
    first = case((ACCOUNT.c.last_seq >= now, ACCOUNT.c.last_seq + 1), else_=now)
    at = case((ACCOUNT.c.last_event_ms > now, ACCOUNT.c.last_event_ms), else_=now)
    connection.execute(update(ACCOUNT).values(last_seq=first, last_event_ms=at))
    connection.execute(update(ACCOUNT).values(first_seq=ACCOUNT.c.last_seq, first_event_ms=ACCOUNT.c.last_event_ms))
    connection.execute(delete(EVENT))
    connection.execute(delete(TOMBSTONE))
    last_seq = select(ACCOUNT.c.last_seq).where(ACCOUNT.c.id == MAILBOX.c.account_id).scalar_subquery()
    connection.execute(update(MAILBOX).values(forgotten_seq=func.coalesce(last_seq, 0)))


def _number_mailboxes(connection: Connection, now_seconds: int, floor: int) -> tuple[int, int]:
    """Assign a new UIDVALIDITY to each mailbox that is numbered here, and keep the old one for UIDLs.

    Returns the number of mailboxes, and the highest UIDVALIDITY.
    """
    rows = connection.execute(
        select(MAILBOX.c.account_id, MAILBOX.c.id, MAILBOX.c.uid_validity, MAILBOX.c.uid_next, MAILBOX.c.uidl_eras)
        .join_from(MAILBOX, ACCOUNT, MAILBOX.c.account_id == ACCOUNT.c.id)
        .where(ACCOUNT.c.kind.in_(KEPT_HERE))
        .order_by(MAILBOX.c.account_id, MAILBOX.c.id)
    ).all()
    given = connection.scalar(select(func.max(ACCOUNT.c.last_uid_validity))) or 0
    base = max(now_seconds, floor, given, *(row.uid_validity for row in rows), 0)
    base += UID_VALIDITY_MARGIN + secrets.randbelow(UID_VALIDITY_SPREAD)
    change = (
        update(MAILBOX)
        .where(MAILBOX.c.account_id == bindparam("of_account"), MAILBOX.c.id == bindparam("of_id"))
        .values(
            uid_validity=bindparam("new_validity"),
            uidl_eras=bindparam("new_eras"),
            reset_seq=MAILBOX.c.forgotten_seq,
            changed_seq=MAILBOX.c.forgotten_seq,
        )
    )
    values = [
        {
            "of_account": row.account_id,
            "of_id": row.id,
            "new_validity": base + number,
            "new_eras": _with_era(row.uidl_eras, row.uid_next, row.uid_validity),
        }
        for number, row in enumerate(rows)
    ]
    if values:
        connection.execute(change, values)
    highest = base + len(rows)
    connection.execute(update(ACCOUNT).where(ACCOUNT.c.kind.in_(KEPT_HERE)).values(last_uid_validity=highest))
    return len(rows), highest


def _with_era(eras: str | None, uid_next: int, uid_validity: int) -> str:
    return orjson.dumps([*(orjson.loads(eras) if eras else []), [uid_next, uid_validity]]).decode()


def _doubt_submissions(connection: Connection, now_ms: int) -> int:
    """Mark unsent submissions as uncertain, because they may have been sent since. Return how many."""
    rows = connection.execute(
        select(SUBMISSION.c.account_id, SUBMISSION.c.id, SUBMISSION.c.recipients).where(
            SUBMISSION.c.status.in_(_SENDING)
        )
    ).all()
    change = (
        update(SUBMISSION)
        .where(SUBMISSION.c.account_id == bindparam("of_account"), SUBMISSION.c.id == bindparam("of_id"))
        .values(
            status="uncertain",
            phase="done",
            recipients=bindparam("new_recipients"),
            due_at_ms=NEVER_MS,
            lease_until_ms=0,
            updated_at_ms=now_ms,
        )
    )
    values = [
        {"of_account": account_id, "of_id": id_, "new_recipients": _doubted(recipients)}
        for account_id, id_, recipients in rows
    ]
    if values:
        connection.execute(change, values)
    return len(rows)


def _doubted(recipients: str) -> str:
    """Return recipients as in the column `submission.recipients`: (address, status, enhanced code, response)."""
    return orjson.dumps(
        [
            [address, "uncertain", None, LOST_RESPONSE] if status in _OPEN else [address, status, code, response]
            for address, status, code, response in orjson.loads(recipients)
        ]
    ).decode()


def _answer_requests(connection: Connection) -> None:
    """Answer the requests that were running, so that none is executed twice."""
    headers = {"content-type": "application/problem+json"}
    answer = orjson.dumps([headers, orjson.dumps(_LOST_ANSWER).decode()])
    change = update(IDEMPOTENCY).where(IDEMPOTENCY.c.status.is_(None))
    connection.execute(change.values(status=409, answer=answer, is_encrypted=False))
