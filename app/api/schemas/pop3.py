"""Shapes of accounts over POP3."""

from __future__ import annotations

from pydantic import Field

from app.api.schemas.base import AnswerModel, Sync
from app.api.schemas.messages import Message


class Fetched(AnswerModel):
    """What a poll brought."""

    is_done: bool = Field(description="Whether the server was asked within the time to wait")
    created: list[Message]
    state: str = Field(description="The account's state before: `/changes` since then tells all that came")
    sync: Sync
