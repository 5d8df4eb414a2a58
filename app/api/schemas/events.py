"""Schemas of changes and of the long poll."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.api.schemas.base import AnswerModel
from app.api.schemas.event_types import Event
from app.api.schemas.mailboxes import Mailbox
from app.api.schemas.messages import Message


class UpdatedMessage(AnswerModel):
    """A message whose keywords or content changed."""

    id: str = Field(description="The message")
    changed: list[Literal["keywords", "other"]] = Field(
        description="The parts that changed; `other`: read the message again"
    )
    keywords: list[str] = Field(description="Its keywords now")


class MovedMessage(AnswerModel):
    """A message that is in other mailboxes than before."""

    id: str = Field(description="The message")
    from_: list[str] = Field(alias="from", description="Its mailboxes before")
    to: list[str] = Field(description="Its mailboxes now")


class RemovedMessage(AnswerModel):
    """A deleted message, possibly one that the caller has never received."""

    id: str = Field(description="The message")
    reason: Literal["expunged", "moved", "merged"] = Field(
        description="`expunged`: deleted; `moved`: to a mailbox that the token cannot see; "
        "`merged`: into another message"
    )


class RemovedMailbox(AnswerModel):
    """A deleted mailbox. Its messages are deleted too, and not listed individually."""

    id: str = Field(description="The mailbox")


class ChangedMailboxes(AnswerModel):
    """Mailboxes that changed."""

    created: list[Mailbox] = Field(description="New mailboxes")
    updated: list[Mailbox] = Field(description="Mailboxes that changed, or whose messages changed")
    removed: list[RemovedMailbox] = Field(description="Deleted mailboxes")


class ChangesAnswer(AnswerModel):
    """The differences between the mail at `since` and now. Applying them again has no effect."""

    created: list[Message] = Field(description="New messages, in the requested view")
    updated: list[UpdatedMessage] = Field(description="Messages whose keywords or content changed")
    moved: list[MovedMessage] = Field(description="Messages that are in other mailboxes")
    removed: list[RemovedMessage] = Field(description="Deleted messages")
    mailboxes: ChangedMailboxes = Field(description="Mailboxes that changed")
    new_state: str = Field(description="The state after these changes: `since` of the next request")
    has_more: bool = Field(description="Whether there are more changes: repeat the call with `new_state`")


class EventsAnswer(AnswerModel):
    """Events after a cursor, in order."""

    items: list[Event] = Field(description="The events")
    cursor: str = Field(description="`after` of the next request")
    has_more: bool = Field(description="Whether there are more events: repeat the call")
