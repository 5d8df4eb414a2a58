"""The log of each account, what is remembered of what is gone, and who follows the log."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint, Text
from sqlmodel import Field, SQLModel

from app.db.tables.columns import big, key, octets, table_of, words


class EventRow(SQLModel, table=True):
    """The log. `body` is the CloudEvents object as JSON; the columns before it are what the IMAP server replays."""

    __tablename__ = "event"
    __table_args__ = (PrimaryKeyConstraint("account_id", "seq"),)

    account_id: str
    seq: int = Field(sa_column=big())
    type: str
    subject: str
    mailbox_id: str | None = None
    uid: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    target_mailbox_id: str | None = None
    target_uid: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    at_ms: int = Field(sa_column=big())
    body: bytes = Field(sa_column=octets(nullable=False))


class TombstoneRow(SQLModel, table=True):
    """What is not where it was: a message that left mailboxes (for others, or for good), or a mailbox that is gone.

    `seq` is the number of its event. `mailbox_ids` (JSON) is where a message was before; None for a mailbox itself.
    """

    __tablename__ = "tombstone"
    __table_args__ = (PrimaryKeyConstraint("account_id", "seq", "subject"),)

    account_id: str
    seq: int = Field(sa_column=big())
    subject: str
    mailbox_ids: str | None = Field(sa_column=Column(Text, nullable=True))
    reason: str = Field(sa_column=words())
    at_ms: int = Field(sa_column=big())


class DepartedRow(SQLModel, table=True):
    """A message of another mail server that is here no more: under its `origin_id` it comes back as what it was."""

    __tablename__ = "departed"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "message_id"),
        Index("departed_by_origin", "account_id", "origin_id"),
        Index("departed_by_age", "account_id", "at_ms"),
    )

    account_id: str
    message_id: str
    origin_id: str = Field(sa_column=key())
    is_told: bool
    """Whether its end had an event of its own."""
    at_ms: int = Field(sa_column=big())


class ConsumerRow(SQLModel, table=True):
    """How far a named subscriber has acknowledged an account's log."""

    __tablename__ = "consumer"
    __table_args__ = (PrimaryKeyConstraint("account_id", "owner", "name"),)

    account_id: str
    owner: str
    name: str = Field(sa_column=key())
    seq: int = Field(sa_column=big())


EVENT = table_of(EventRow)
TOMBSTONE = table_of(TombstoneRow)
DEPARTED = table_of(DepartedRow)
CONSUMER = table_of(ConsumerRow)
