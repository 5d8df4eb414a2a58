"""Mailboxes, messages, and their details: every key begins with account_id."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, PrimaryKeyConstraint, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from app.db.tables.columns import big, key, octets, table_of, words

UNINDEXED = "text_state <> 1"
"""The condition of the partial index of messages outside the full-text index; queries must repeat it literally."""


class MailboxRow(SQLModel, table=True):
    """A mailbox. `recent_from_uid`: messages from this UID on have not been shown to any session as recent."""

    __tablename__ = "mailbox"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "id"),
        UniqueConstraint("account_id", "origin_name"),
    )

    account_id: str
    id: str
    path: str = Field(sa_column=words())
    origin_name: str = Field(sa_column=words())
    delimiter: str | None = None
    role: str | None = None
    uid_validity: int = Field(sa_column=big())
    uid_next: int = Field(sa_column=big())
    highest_modseq: int = Field(sa_column=big())
    recent_from_uid: int = Field(sa_column=big())
    total: int = Field(sa_column=big())
    unread: int = Field(sa_column=big())
    is_subscribed: bool = True
    is_selectable: bool = True
    is_complete: bool = False
    is_newcomer: bool = False
    """It appeared after its account was synced: until it is complete, it may contain moved messages."""
    origin_id: str | None = None
    """Its MAILBOXID (RFC 8474) if the server supports it; it survives a rename."""
    problem: str | None = Field(sa_column=Column(Text, nullable=True))
    """Why part of it cannot be read from its server."""
    created_seq: int = Field(sa_column=big())
    changed_seq: int = Field(sa_column=big())
    reset_seq: int = Field(sa_column=big())
    """When its UIDVALIDITY last changed."""
    forgotten_seq: int = Field(sa_column=big())
    """Tombstones of its messages up to this number have been trimmed."""
    uidl_eras: str | None = Field(sa_column=Column(Text, nullable=True))
    """JSON: [UIDNEXT, UIDVALIDITY] at each restore; UIDLs of earlier messages use that UIDVALIDITY."""


class SubscribedNameRow(SQLModel, table=True):
    """A subscribed name without a mailbox; a mailbox has its own subscription column."""

    __tablename__ = "subscribed_name"
    __table_args__ = (PrimaryKeyConstraint("account_id", "path"),)

    account_id: str
    path: str = Field(sa_column=Column(Text, nullable=False))


class MessageRow(SQLModel, table=True):
    """A message in a mailbox: the columns that lists, searches and the IMAP server read by the hundred.

    Others are in detail.
    """

    __tablename__ = "message"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "id"),
        UniqueConstraint("account_id", "mailbox_id", "uid"),
        Index("message_by_mailbox", "account_id", "mailbox_id", "received_at_ms", "uid"),
        Index("message_by_time", "account_id", "received_at_ms", "uid"),
        Index("message_by_thread", "account_id", "thread_id"),
        Index("message_by_header", "account_id", "message_id_header"),
        Index("message_by_change", "account_id", "changed_seq"),
        Index("message_by_blob", "blob"),
        Index(
            "message_by_origin",
            "account_id",
            "origin_id",
            sqlite_where=text("origin_id IS NOT NULL"),
            postgresql_where=text("origin_id IS NOT NULL"),
        ),
        Index(
            "message_unindexed",
            "account_id",
            "text_state",
            "received_at_ms",
            sqlite_where=text(UNINDEXED),
            postgresql_where=text(UNINDEXED),
        ),
    )

    account_id: str
    id: str
    mailbox_id: str
    uid: int = Field(sa_column=big())
    modseq: int = Field(sa_column=big())
    version: int = Field(sa_column=big())
    created_seq: int = Field(sa_column=big())
    moved_seq: int = Field(sa_column=big())
    flags_seq: int = Field(sa_column=big())
    other_seq: int = Field(sa_column=big())
    changed_seq: int = Field(sa_column=big())
    """The numbers of the events that created it, moved it, changed its flags, other data, and anything at all."""
    flags: str = Field(sa_column=words())
    received_at_ms: int = Field(sa_column=big())
    size_bytes: int = Field(sa_column=big())
    thread_id: str
    has_attachments: bool = False
    date_ms: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    message_id_header: str | None = Field(sa_column=key(nullable=True))
    origin_id: str | None = Field(sa_column=key(nullable=True))
    blob: str | None = None
    preview: str | None = Field(sa_column=Column(Text, nullable=True))
    text_state: int = Field(0, sa_column=big())
    """TextState: whether its text is in `search_text`."""
    subject_folded: str = Field(sa_column=words())
    from_folded: str = Field(sa_column=words())
    to_folded: str = Field(sa_column=words())
    cc_folded: str = Field(sa_column=words())
    bcc_folded: str = Field(sa_column=words())
    summary: bytes = Field(sa_column=octets(nullable=False))
    further: int = Field(sa_column=big())
    """The number of its rows in placement."""
    saved_at_ms: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    """When it was saved to its mailbox; None for external accounts, or if unknown."""


class PlacementRow(SQLModel, table=True):
    """A further place of a message that is in several mailboxes at once, as on Gmail; its own row has the first."""

    __tablename__ = "placement"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "mailbox_id", "uid"),
        Index("placement_by_message", "account_id", "message_id"),
        Index("placement_by_mailbox", "account_id", "mailbox_id", "received_at_ms"),
    )

    account_id: str
    mailbox_id: str
    uid: int = Field(sa_column=big())
    message_id: str
    modseq: int = Field(sa_column=big())
    received_at_ms: int = Field(sa_column=big())


class DetailRow(SQLModel, table=True):
    """Further data of a message, read for one at a time.

    The `imap_` columns are responses of the embedded IMAP server.
    """

    __tablename__ = "detail"
    __table_args__ = (PrimaryKeyConstraint("account_id", "id"),)

    account_id: str
    id: str
    structure: bytes | None = Field(sa_column=octets())
    extra: bytes | None = Field(sa_column=octets())
    """JSON: bcc, problems."""
    header: bytes | None = Field(sa_column=octets())
    imap_envelope: bytes | None = Field(sa_column=octets())
    imap_body_structure: bytes | None = Field(sa_column=octets())
    digest: str | None = None
    """The digest of its bytes, if they were read: it proves that a message found elsewhere is the same."""


class Pop3MessageRow(SQLModel, table=True):
    """The ledger of a POP3 account: the messages that its server has or had, by unique id.

    Message numbers are not stored. `ordinal` counts messages that share a unique id or, if the server has none, a
    header. Hashes are SHA-256 in hex; `content_hash` names the blob. `stored_at_ms` is 0 until the message is stored
    in Postgate.
    """

    __tablename__ = "pop3_message"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "uidl", "ordinal"),
        Index("pop3_message_by_message", "account_id", "message_id"),
    )

    account_id: str
    uidl: str = Field(sa_column=key())
    ordinal: int = Field(sa_column=big())
    size_bytes: int = Field(sa_column=big())
    header_hash: str | None = None
    content_hash: str | None = None
    message_id: str | None = None
    state: str
    stored_at_ms: int = Field(sa_column=big())
    changed_at_ms: int = Field(sa_column=big())


MAILBOX = table_of(MailboxRow)
SUBSCRIBED_NAME = table_of(SubscribedNameRow)
MESSAGE = table_of(MessageRow)
PLACEMENT = table_of(PlacementRow)
DETAIL = table_of(DetailRow)
POP3_MESSAGE = table_of(Pop3MessageRow)
