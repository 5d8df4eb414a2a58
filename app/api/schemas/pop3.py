"""Schemas of POP3 accounts."""

from __future__ import annotations

from pydantic import Field

from app.api.schemas.base import AnswerModel, Sync
from app.api.schemas.messages import MessageSummary


class Fetched(AnswerModel):
    """The result of a poll."""

    is_done: bool = Field(description="Whether the mail server answered within the time to wait")
    created: list[MessageSummary] = Field(description="The new messages")
    state: str = Field(
        description="The account's state before the poll; `/changes` since this state has all new messages"
    )
    sync: Sync = Field(description="How fresh the account's mail is")
