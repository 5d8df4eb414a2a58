"""Schemas of keywords."""

from __future__ import annotations

from pydantic import Field

from app.api.schemas.base import AnswerModel, Sync
from app.services.changing import keywords


class KeywordUse(AnswerModel):
    """A keyword that messages of the account have."""

    keyword: str = Field(description="`$seen`, `$flagged` … or a custom keyword, in lower case")
    total: int = Field(description="Messages that have it")
    unread: int = Field(description="How many of them are unread")

    @classmethod
    def of(cls, use: keywords.KeywordUse) -> KeywordUse:
        return cls(keyword=use.keyword, total=use.total, unread=use.unread)


class KeywordList(AnswerModel):
    """Keywords by name; all of them unless `limit` is set."""

    items: list[KeywordUse]
    next_cursor: str | None
    prev_cursor: str | None = None
    state: str = Field(description="The account's state before the read; also the ETag")
    sync: Sync
