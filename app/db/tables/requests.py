"""Requests of callers: submissions, and stored answers."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint
from sqlmodel import Field, SQLModel

from app.db.tables.columns import big, octets, table_of, words
from app.db.tables.columns import key as key_column


class SubmissionRow(SQLModel, table=True):
    """A message to send.

    `recipients` is JSON; `phase` is the progress of the running attempt, for use after a crash.
    """

    __tablename__ = "submission"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "id"),
        Index("submission_due", "status", "due_at_ms"),
    )

    account_id: str
    id: str
    status: str
    phase: str = ""
    sender: str = Field(sa_column=words())
    recipients: str = Field(sa_column=words())
    message_id_header: str = Field(sa_column=words())
    blob: str | None = None
    size_bytes: int = Field(sa_column=big())
    options: str = Field(sa_column=words())
    """JSON: mode, save_to, reply_to_message_id, on_uncertain, the queue of an MX message …"""
    attempts: int = 0
    due_at_ms: int = Field(sa_column=big())
    send_at_ms: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    lease_until_ms: int = Field(sa_column=big())
    is_filed: bool = False
    created_at_ms: int = Field(sa_column=big())
    updated_at_ms: int = Field(sa_column=big())


class IdempotencyRow(SQLModel, table=True):
    """The answer to a request that must not be executed twice. `scope` is the caller, method and path.

    `claim` and `lease_until_ms`: the running attempt, and until when its process counts as alive.
    """

    __tablename__ = "idempotency"
    __table_args__ = (PrimaryKeyConstraint("scope", "key"), Index("idempotency_by_age", "created_at_ms"))

    scope: str = Field(sa_column=key_column())
    key: str = Field(sa_column=key_column())
    payload_hash: str
    status: int | None = None
    """HTTP status of the stored answer; None while the request is running."""
    answer: bytes | None = Field(sa_column=octets())
    is_encrypted: bool = False
    facts: str = Field(sa_column=words())
    """JSON: the facts that a retry after a crash needs."""
    claim: int = Field(sa_column=big())
    lease_until_ms: int = Field(sa_column=big())
    created_at_ms: int = Field(sa_column=big())


class CommitMarkRow(SQLModel, table=True):
    """A durable transaction on PostgreSQL: its row proves that it is committed if the answer to COMMIT was lost.

    `id` begins with the time in ms, in 13 digits.
    """

    __tablename__ = "commit_mark"
    __table_args__ = (PrimaryKeyConstraint("id"),)

    id: str


SUBMISSION = table_of(SubmissionRow)
IDEMPOTENCY = table_of(IdempotencyRow)
COMMIT_MARK = table_of(CommitMarkRow)
