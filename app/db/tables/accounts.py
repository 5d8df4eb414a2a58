"""Accounts, and the lease of the worker that follows each."""

from __future__ import annotations

from sqlalchemy import Column, Text
from sqlmodel import Field, SQLModel

from app.db.tables.columns import big, octets, table_of, words


class AccountRow(SQLModel, table=True):
    """An account. `last_seq` numbers its log; its row is the lock for changes of the account's mail."""

    __tablename__ = "account"

    id: str = Field(primary_key=True)
    kind: str
    email: str = Field(sa_column=words())
    address: str | None = Field(sa_column=Column(Text, nullable=True, unique=True))
    """The e-mail address in lower case, only for embedded accounts: unique among them."""
    name: str = Field(sa_column=words())
    status: str = "connecting"
    sync_status: str = "initial"
    sync_mode: str = "poll"
    checked_at_ms: int = Field(sa_column=big())
    last_seq: int = Field(sa_column=big())
    first_seq: int = Field(sa_column=big())
    """Events up to this number have been trimmed."""
    first_event_ms: int = Field(sa_column=big())
    last_event_ms: int = Field(sa_column=big())
    """Times of the events `first_seq` and `last_seq`; they never decrease within a log."""
    last_uid_validity: int = Field(sa_column=big())
    """The highest UIDVALIDITY ever used in the account; never used again, even after the mailbox is deleted."""
    servers: str = Field(sa_column=words())
    """JSON: host, port, security, username of imap, pop3, smtp; never a password."""
    secrets: bytes | None = Field(sa_column=octets())
    """Encrypted JSON: the passwords, SCRAM verifiers."""
    password_hash: str | None = Field(sa_column=Column(Text, nullable=True))
    credentials_version: int = Field(sa_column=big())
    """Grows with each change of a password, host or login: sessions of an earlier version have ended."""
    settings: str = Field(sa_column=words())
    """JSON: `metadata`, set by the app; `files_sent`: whether its server stores sent mail by itself."""
    quotas: str = Field(sa_column=words())
    """JSON: the limits last reported by quota.changed."""
    created_at_ms: int = Field(sa_column=big())
    has_placements: bool | None = None
    """True once a message was in several mailboxes: from then on, reads include table placement."""


class LeaseRow(SQLModel, table=True):
    """The holder of an account. `epoch` grows with each holder and fences writes of earlier ones."""

    __tablename__ = "lease"

    account_id: str = Field(primary_key=True)
    worker: str
    epoch: int = Field(sa_column=big())
    expires_at_ms: int = Field(sa_column=big())


ACCOUNT = table_of(AccountRow)
LEASE = table_of(LeaseRow)
