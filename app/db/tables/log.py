"""The event log of each account, tombstones, and the consumers of the log."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint, Text
from sqlmodel import Field, SQLModel

from app.db.tables.columns import big, key, octets, table_of, words


class EventRow(SQLModel, table=True):
    """The log.

    `body` is the CloudEvents object as JSON; the columns before it are those that the IMAP server replays.
    """

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
    """The removal of a message from mailboxes (by a move or a deletion), or of a mailbox.

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
    """A removed message of an external account: if its `origin_id` comes back, it keeps its message id."""

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
    """Whether its removal had an event of its own."""
    at_ms: int = Field(sa_column=big())


class ConsumerRow(SQLModel, table=True):
    """The last event of an account's log that a named consumer has acknowledged."""

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
