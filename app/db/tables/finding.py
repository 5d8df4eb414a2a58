"""How messages are found: their texts and their threads."""

from __future__ import annotations

from sqlalchemy import Column, Index, PrimaryKeyConstraint, UniqueConstraint
from sqlmodel import Field, SQLModel

from app.db.tables.columns import ROW_ID, big, key, octets, table_of, words


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

    id: int = Field(sa_column=Column(ROW_ID, primary_key=True, autoincrement=False))
    account_id: str
    message_id: str
    received_at_ms: int = Field(sa_column=big())
    size_bytes: int = Field(sa_column=big())
    shown: bytes | None = Field(sa_column=octets())
    header: str = Field(sa_column=words())
    body: str = Field(sa_column=words())


class ThreadLinkRow(SQLModel, table=True):
    """Which thread a Message-ID belongs to, whether or not that message is here: a reply may arrive before it."""

    __tablename__ = "thread_link"
    __table_args__ = (PrimaryKeyConstraint("account_id", "message_id_header"),)

    account_id: str
    message_id_header: str = Field(sa_column=key())
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


SEARCH_TEXT = table_of(SearchTextRow)
THREAD_LINK = table_of(ThreadLinkRow)
THREAD_ALIAS = table_of(ThreadAliasRow)
