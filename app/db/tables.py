"""The whole schema on one page. Every hot table's key begins with account_id.

Times are ms since 1970 UTC (`_ms`). Flags are IMAP flags in one string, separated by spaces, sorted.
Columns that hold JSON are text or bytes: they are written and read as they are, never queried.
"""

from __future__ import annotations

from typing import cast

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlmodel import Field, SQLModel

UNINDEXED = "text_state <> 1"
"""What the partial index of messages outside of the full-text index holds; its queries must say it literally."""
_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")
"""On SQLite the rowid itself."""


def _big() -> Column[int]:
    return Column(BigInteger, nullable=False, server_default="0")


def _text() -> Column[str]:
    return Column(Text, nullable=False, server_default="")


def _bytes(*, nullable: bool = True) -> Column[bytes]:
    return Column(LargeBinary, nullable=nullable)


class AccountRow(SQLModel, table=True):
    """An account. `last_seq` numbers its log; its row is the lock under which the account's mail changes."""

    __tablename__ = "account"

    id: str = Field(primary_key=True)
    kind: str
    email: str = Field(sa_column=_text())
    address: str | None = Field(sa_column=Column(Text, nullable=True, unique=True))
    """The e-mail address in lower case, for embedded accounts alone: unique among them."""
    name: str = Field(sa_column=_text())
    status: str = "connecting"
    sync_status: str = "initial"
    sync_mode: str = "poll"
    checked_at_ms: int = Field(sa_column=_big())
    last_seq: int = Field(sa_column=_big())
    first_seq: int = Field(sa_column=_big())
    """Events up to this number have been trimmed."""
    first_event_ms: int = Field(sa_column=_big())
    last_event_ms: int = Field(sa_column=_big())
    """Times of the events `first_seq` and `last_seq`; they never decrease within a log."""
    last_uid_validity: int = Field(sa_column=_big())
    """The highest UIDVALIDITY ever given here; never given again, whatever becomes of its mailbox."""
    servers: str = Field(sa_column=_text())
    """JSON: host, port, security, username of imap, pop3, smtp; never a password."""
    secrets: bytes | None = Field(sa_column=_bytes())
    """Encrypted JSON: the passwords, SCRAM verifiers."""
    password_hash: str | None = Field(sa_column=Column(Text, nullable=True))
    settings: str = Field(sa_column=_text())
    quotas: str = Field(sa_column=_text())
    """JSON: what was last told of its limits by quota.changed."""
    created_at_ms: int = Field(sa_column=_big())
    has_placements: bool | None = None
    """True once a message of it was in several mailboxes: then table placement takes part in what is read."""


class MailboxRow(SQLModel, table=True):
    """A mailbox. `recent_from_uid`: messages from this UID on have not been shown to any session as recent."""

    __tablename__ = "mailbox"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "id"),
        UniqueConstraint("account_id", "origin_name"),
    )

    account_id: str
    id: str
    path: str = Field(sa_column=_text())
    origin_name: str = Field(sa_column=_text())
    delimiter: str | None = None
    role: str | None = None
    uid_validity: int = Field(sa_column=_big())
    uid_next: int = Field(sa_column=_big())
    highest_modseq: int = Field(sa_column=_big())
    recent_from_uid: int = Field(sa_column=_big())
    total: int = Field(sa_column=_big())
    unread: int = Field(sa_column=_big())
    is_subscribed: bool = True
    is_selectable: bool = True
    is_complete: bool = False
    is_newcomer: bool = False
    """It appeared when its account's mail was known: until it is complete it may hold what was moved there."""
    created_seq: int = Field(sa_column=_big())
    changed_seq: int = Field(sa_column=_big())
    reset_seq: int = Field(sa_column=_big())
    """When its UIDVALIDITY last changed."""
    forgotten_seq: int = Field(sa_column=_big())
    """Tombstones of its messages up to this number have been trimmed."""


class SubscribedNameRow(SQLModel, table=True):
    """A name that an account is subscribed to and that is no mailbox; a mailbox keeps its own subscription."""

    __tablename__ = "subscribed_name"
    __table_args__ = (PrimaryKeyConstraint("account_id", "path"),)

    account_id: str
    path: str = Field(sa_column=Column(Text, nullable=False))


class MessageRow(SQLModel, table=True):
    """A message in a mailbox: what lists, searches and the IMAP server read by the hundred. The rest is in detail."""

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
    uid: int = Field(sa_column=_big())
    modseq: int = Field(sa_column=_big())
    version: int = Field(sa_column=_big())
    created_seq: int = Field(sa_column=_big())
    moved_seq: int = Field(sa_column=_big())
    flags_seq: int = Field(sa_column=_big())
    other_seq: int = Field(sa_column=_big())
    changed_seq: int = Field(sa_column=_big())
    """When it came, last moved, last changed its flags, anything else, and anything at all."""
    flags: str = Field(sa_column=_text())
    received_at_ms: int = Field(sa_column=_big())
    size_bytes: int = Field(sa_column=_big())
    thread_id: str
    has_attachments: bool = False
    date_ms: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    message_id_header: str | None = Field(sa_column=Column(Text, nullable=True))
    origin_id: str | None = None
    blob: str | None = None
    preview: str | None = Field(sa_column=Column(Text, nullable=True))
    text_state: int = Field(0, sa_column=_big())
    """TextState: how far its text has come into `search_text`."""
    subject_folded: str = Field(sa_column=_text())
    from_folded: str = Field(sa_column=_text())
    to_folded: str = Field(sa_column=_text())
    cc_folded: str = Field(sa_column=_text())
    bcc_folded: str = Field(sa_column=_text())
    summary: bytes = Field(sa_column=_bytes(nullable=False))
    further: int = Field(sa_column=_big())
    """How many rows of placement are this message's."""


class PlacementRow(SQLModel, table=True):
    """A further place of a message that is in several mailboxes at once, as on Gmail; its own row tells the first."""

    __tablename__ = "placement"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "mailbox_id", "uid"),
        Index("placement_by_message", "account_id", "message_id"),
        Index("placement_by_mailbox", "account_id", "mailbox_id", "received_at_ms"),
    )

    account_id: str
    mailbox_id: str
    uid: int = Field(sa_column=_big())
    message_id: str
    modseq: int = Field(sa_column=_big())
    received_at_ms: int = Field(sa_column=_big())


class DetailRow(SQLModel, table=True):
    """The rest of a message, read one at a time. The `imap_` columns are what our own IMAP server answers."""

    __tablename__ = "detail"
    __table_args__ = (PrimaryKeyConstraint("account_id", "id"),)

    account_id: str
    id: str
    structure: bytes | None = Field(sa_column=_bytes())
    extra: bytes | None = Field(sa_column=_bytes())
    """JSON: bcc, problems."""
    header: bytes | None = Field(sa_column=_bytes())
    imap_envelope: bytes | None = Field(sa_column=_bytes())
    imap_body_structure: bytes | None = Field(sa_column=_bytes())
    digest: str | None = None
    """Of its bytes, once they were read: what proves that a message found elsewhere is this one."""


class SearchTextRow(SQLModel, table=True):
    """The text of a message, folded for search, as long as its row in `message` is there.

    On SQLite the trigram index `search_trigram` stands on it, kept by triggers; on PostgreSQL trigram indexes of
    pg_trgm, where that is to be had. `id` is the account's stretch of numbers (`search_range`) and a count, so that
    the index finds an account's rows together. `shown` is compressed: what a reader sees, for highlights.
    """

    __tablename__ = "search_text"
    __table_args__ = (
        UniqueConstraint("account_id", "message_id"),
        Index("search_text_by_age", "account_id", "received_at_ms", "size_bytes"),
    )

    id: int = Field(sa_column=Column(_ROW_ID, primary_key=True, autoincrement=False))
    account_id: str
    message_id: str
    received_at_ms: int = Field(sa_column=_big())
    size_bytes: int = Field(sa_column=_big())
    shown: bytes | None = Field(sa_column=_bytes())
    header: str = Field(sa_column=_text())
    body: str = Field(sa_column=_text())


class ThreadLinkRow(SQLModel, table=True):
    """Which thread a Message-ID belongs to, whether or not that message is here: a reply may arrive before it."""

    __tablename__ = "thread_link"
    __table_args__ = (PrimaryKeyConstraint("account_id", "message_id_header"),)

    account_id: str
    message_id_header: str = Field(sa_column=Column(Text, nullable=False))
    thread_id: str


class ThreadAliasRow(SQLModel, table=True):
    """A thread that turned out to be another one. `into_id` never has an alias itself."""

    __tablename__ = "thread_alias"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "thread_id"),
        Index("thread_alias_by_into", "account_id", "into_id"),
    )

    account_id: str
    thread_id: str
    into_id: str


class EventRow(SQLModel, table=True):
    """The log. `body` is the CloudEvents object as JSON; the columns before it are what the IMAP server replays."""

    __tablename__ = "event"
    __table_args__ = (PrimaryKeyConstraint("account_id", "seq"),)

    account_id: str
    seq: int = Field(sa_column=_big())
    type: str
    subject: str
    mailbox_id: str | None = None
    uid: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    target_mailbox_id: str | None = None
    target_uid: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    at_ms: int = Field(sa_column=_big())
    body: bytes = Field(sa_column=_bytes(nullable=False))


class TombstoneRow(SQLModel, table=True):
    """What is not where it was: a message that left mailboxes (for others, or for good), or a mailbox that is gone.

    `seq` is the number of its event. `mailbox_ids` (JSON) is where a message was before; None for a mailbox itself.
    """

    __tablename__ = "tombstone"
    __table_args__ = (PrimaryKeyConstraint("account_id", "seq", "subject"),)

    account_id: str
    seq: int = Field(sa_column=_big())
    subject: str
    mailbox_ids: str | None = Field(sa_column=Column(Text, nullable=True))
    reason: str = Field(sa_column=_text())
    at_ms: int = Field(sa_column=_big())


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
    origin_id: str
    is_told: bool
    """Whether its end had an event of its own."""
    at_ms: int = Field(sa_column=_big())


class SubmissionRow(SQLModel, table=True):
    """A message to send. `recipients` is JSON; `phase` says how far the running attempt came (a crash reads it)."""

    __tablename__ = "submission"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "id"),
        Index("submission_due", "status", "due_at_ms"),
    )

    account_id: str
    id: str
    status: str
    phase: str = ""
    sender: str = Field(sa_column=_text())
    recipients: str = Field(sa_column=_text())
    message_id_header: str = Field(sa_column=_text())
    blob: str | None = None
    size_bytes: int = Field(sa_column=_big())
    options: str = Field(sa_column=_text())
    """JSON: mode, save_to, reply_to_message_id, on_uncertain, the queue of an MX message …"""
    attempts: int = 0
    due_at_ms: int = Field(sa_column=_big())
    send_at_ms: int | None = Field(sa_column=Column(BigInteger, nullable=True))
    lease_until_ms: int = Field(sa_column=_big())
    is_filed: bool = False
    created_at_ms: int = Field(sa_column=_big())
    updated_at_ms: int = Field(sa_column=_big())


class IdempotencyRow(SQLModel, table=True):
    """The answer to a request that must not be done twice. `scope` is caller, method and path."""

    __tablename__ = "idempotency"
    __table_args__ = (PrimaryKeyConstraint("scope", "key"), Index("idempotency_by_age", "created_at_ms"))

    scope: str = Field(sa_column=Column(Text, nullable=False))
    key: str = Field(sa_column=Column(Text, nullable=False))
    payload_hash: str
    status: int | None = None
    """HTTP status of the stored answer; None while the request runs."""
    answer: bytes | None = Field(sa_column=_bytes())
    is_encrypted: bool = False
    facts: str = Field(sa_column=_text())
    """JSON: what a retry after a crash must look for (Message-ID, size, mailbox)."""
    created_at_ms: int = Field(sa_column=_big())


class TokenRow(SQLModel, table=True):
    """A key or token; only the SHA-256 of its secret. JSON lists: None means unlimited."""

    __tablename__ = "token"

    id: str = Field(primary_key=True)
    kind: str
    name: str = Field(sa_column=_text())
    secret_hash: str = Field(unique=True)
    scopes: str = Field(sa_column=_text())
    account_ids: str | None = Field(sa_column=Column(Text, nullable=True))
    mailbox_ids: str | None = Field(sa_column=Column(Text, nullable=True))
    senders: str | None = Field(sa_column=Column(Text, nullable=True))
    origins: str | None = Field(sa_column=Column(Text, nullable=True))
    networks: str | None = Field(sa_column=Column(Text, nullable=True))
    family: str | None = None
    """Tokens of one sign-in: revoked together when a used refresh token comes again."""
    is_used: bool = False
    created_by: str | None = None
    created_at_ms: int = Field(sa_column=_big())
    expires_at_ms: int | None = Field(sa_column=Column(BigInteger, nullable=True))


class TicketRow(SQLModel, table=True):
    """A stream ticket: one use, short-lived, stands for its token."""

    __tablename__ = "ticket"

    secret_hash: str = Field(primary_key=True)
    token_id: str
    expires_at_ms: int = Field(sa_column=_big())


class ConsumerRow(SQLModel, table=True):
    """How far a named subscriber has acknowledged an account's log."""

    __tablename__ = "consumer"
    __table_args__ = (PrimaryKeyConstraint("account_id", "owner", "name"),)

    account_id: str
    owner: str
    name: str
    seq: int = Field(sa_column=_big())


class Pop3MessageRow(SQLModel, table=True):
    """The ledger of a POP3 account: what its server holds or held, by unique id; message numbers mean nothing here.

    `ordinal` counts messages that share a unique id, or, where the server gives none, a header. Hashes are SHA-256
    in hex; `content_hash` names the blob. `stored_at_ms` is 0 until the message is stored here.
    """

    __tablename__ = "pop3_message"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "uidl", "ordinal"),
        Index("pop3_message_by_message", "account_id", "message_id"),
    )

    account_id: str
    uidl: str = Field(sa_column=Column(Text, nullable=False))
    ordinal: int = Field(sa_column=_big())
    size_bytes: int = Field(sa_column=_big())
    header_hash: str | None = None
    content_hash: str | None = None
    message_id: str | None = None
    state: str
    stored_at_ms: int = Field(sa_column=_big())
    changed_at_ms: int = Field(sa_column=_big())


class LeaseRow(SQLModel, table=True):
    """Who holds an account. `epoch` grows with each holder and fences what an earlier one still writes."""

    __tablename__ = "lease"

    account_id: str = Field(primary_key=True)
    worker: str
    epoch: int = Field(sa_column=_big())
    expires_at_ms: int = Field(sa_column=_big())


class OAuthAppRow(SQLModel, table=True):
    """A client registered at an authorization server (RFC 6749 §2). `scopes` are separated by spaces."""

    __tablename__ = "oauth_app"

    id: str = Field(primary_key=True)
    provider: str
    name: str = Field(sa_column=_text())
    endpoints: str = Field(sa_column=_text())
    """JSON: tenant, authorization_url, token_url, issuer, client_auth."""
    scopes: str = Field(sa_column=_text())
    client_id: str = Field(sa_column=_text())
    secret: bytes | None = Field(sa_column=_bytes())
    """The client secret, encrypted."""
    servers: str = Field(sa_column=_text())
    """JSON: host, port, security of imap, pop3, smtp."""
    redirect_urls: str = Field(sa_column=_text())
    """JSON: where a connect session may send a browser back to."""
    created_at_ms: int = Field(sa_column=_big())


class OAuthGrantRow(SQLModel, table=True):
    """What an account's owner consented to. `version` grows with each renewal; `lease_until_ms`: someone renews it."""

    __tablename__ = "oauth_grant"
    __table_args__ = (Index("oauth_grant_by_account", "account_id"), Index("oauth_grant_by_app", "oauth_app_id"))

    id: str = Field(primary_key=True)
    oauth_app_id: str
    account_id: str | None = None
    """None as long as its first login is being tried."""
    scopes: str = Field(sa_column=_text())
    secrets: bytes = Field(sa_column=_bytes(nullable=False))
    """Encrypted JSON: refresh_token, access_token."""
    access_expires_at_ms: int = Field(sa_column=_big())
    is_over: bool = False
    version: int = Field(sa_column=_big())
    lease_until_ms: int = Field(sa_column=_big())
    updated_at_ms: int = Field(sa_column=_big())


class ConnectSessionRow(SQLModel, table=True):
    """A visit to the hosted page that adds an account. Its secrets are kept as hashes; the PKCE verifier encrypted."""

    __tablename__ = "connect_session"

    id: str = Field(primary_key=True)
    secret_hash: str = Field(unique=True)
    state_hash: str | None = Field(sa_column=Column(Text, nullable=True, unique=True))
    """Of the state parameter that an authorization server is to give back (RFC 6749 §4.1.1)."""
    browser_hash: str | None = Field(sa_column=Column(Text, nullable=True))
    """Of the cookie of the browser that opened the page."""
    verifier: bytes | None = Field(sa_column=_bytes())
    facts: str = Field(sa_column=_text())
    """JSON: email, account_id, oauth_app_id, redirect_url, state, base_url."""
    expires_at_ms: int = Field(sa_column=_big())


def _table(model: type[SQLModel]) -> Table:
    return cast("Table", model.__dict__["__table__"])


ACCOUNT = _table(AccountRow)
MAILBOX = _table(MailboxRow)
SUBSCRIBED_NAME = _table(SubscribedNameRow)
MESSAGE = _table(MessageRow)
PLACEMENT = _table(PlacementRow)
DETAIL = _table(DetailRow)
SEARCH_TEXT = _table(SearchTextRow)
THREAD_LINK = _table(ThreadLinkRow)
THREAD_ALIAS = _table(ThreadAliasRow)
EVENT = _table(EventRow)
TOMBSTONE = _table(TombstoneRow)
DEPARTED = _table(DepartedRow)
SUBMISSION = _table(SubmissionRow)
IDEMPOTENCY = _table(IdempotencyRow)
TOKEN = _table(TokenRow)
TICKET = _table(TicketRow)
CONSUMER = _table(ConsumerRow)
LEASE = _table(LeaseRow)
POP3_MESSAGE = _table(Pop3MessageRow)
OAUTH_APP = _table(OAuthAppRow)
OAUTH_GRANT = _table(OAuthGrantRow)
CONNECT_SESSION = _table(ConnectSessionRow)
"""The tables as SQLAlchemy Core knows them: what statements are built from (`MESSAGE.c.uid`)."""
