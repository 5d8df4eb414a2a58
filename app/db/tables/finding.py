"""Search and threading: the texts of messages and their threads."""

from __future__ import annotations

from sqlalchemy import Column, Index, PrimaryKeyConstraint, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.db.tables.columns import ROW_ID, big, key, octets, table_of, words


class SearchTextRow(SQLModel, table=True):
    """The text of a message, folded for search, as long as its row in `message` exists.

    On SQLite it is indexed by `search_trigram`, which triggers maintain; on PostgreSQL by trigram indexes of pg_trgm,
    if available. `id` is in the account's range of numbers (`search_range`), so that the index finds an account's
    rows together. `shown` is compressed: the readable text, for highlights.
    """

    __tablename__ = "search_text"
    __table_args__ = (
        UniqueConstraint("account_id", "message_id"),
        Index("search_text_by_age", "account_id", "received_at_ms", "size_bytes"),
    )

    id: int = Field(sa_column=Column(ROW_ID, primary_key=True, autoincrement=False))
    account_id: str
    message_id: str
    received_at_ms: int = Field(sa_column=big())
    size_bytes: int = Field(sa_column=big())
    shown: bytes | None = Field(sa_column=octets())
    header: str = Field(sa_column=words())
    body: str = Field(sa_column=words())


class ThreadLinkRow(SQLModel, table=True):
    """The thread of a Message-ID, whether or not the message is in the index: a reply may arrive before it."""

    __tablename__ = "thread_link"
    __table_args__ = (PrimaryKeyConstraint("account_id", "message_id_header"),)

    account_id: str
    message_id_header: str = Field(sa_column=key())
    thread_id: str


class ThreadAliasRow(SQLModel, table=True):
    """A thread that was merged into another. `into_id` never has an alias itself."""

    __tablename__ = "thread_alias"
    __table_args__ = (
        PrimaryKeyConstraint("account_id", "thread_id"),
        Index("thread_alias_by_into", "account_id", "into_id"),
    )

    account_id: str
    thread_id: str
    into_id: str


SEARCH_TEXT = table_of(SearchTextRow)
THREAD_LINK = table_of(ThreadLinkRow)
THREAD_ALIAS = table_of(ThreadAliasRow)
