"""Shapes of changes and of the long poll."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from app.api.schemas.base import AnswerModel
from app.api.schemas.event_types import Event


class UpdatedMessage(AnswerModel):
    id: str
    changed: list[str] = Field(description="keywords, or other: read the message anew")
    keywords: list[str]


class MovedMessage(AnswerModel):
    id: str
    from_: list[str] = Field(alias="from")
    to: list[str]


class RemovedMessage(AnswerModel):
    id: str
    reason: str = Field(description="expunged, moved (out of sight) or merged; may name what the caller never knew")


class RemovedMailbox(AnswerModel):
    id: str


class ChangedMailboxes(AnswerModel):
    created: list[dict[str, Any]] = Field(description="Mailbox objects")
    updated: list[dict[str, Any]] = Field(description="Mailbox objects; also of those whose messages changed")
    removed: list[RemovedMailbox] = Field(description="Their messages went with them and are not listed one by one")


class ChangesAnswer(AnswerModel):
    """What to do to mail as it was at `since` so that it is as it is now; safe to do twice."""

    created: list[dict[str, Any]] = Field(description="Messages in the view asked for; `{id}` by default")
    updated: list[UpdatedMessage]
    moved: list[MovedMessage]
    removed: list[RemovedMessage]
    mailboxes: ChangedMailboxes
    new_state: str
    has_more: bool


class EventsAnswer(AnswerModel):
    """Events after a cursor, in order. `cursor` is where to go on."""

    items: list[Event]
    cursor: str
    has_more: bool
