"""Shapes of threads."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from app.api.schemas.base import AnswerModel, Sync, Time
from app.api.schemas.filters import ConditionsQuery, FilterInput
from app.api.schemas.messages import Address, CountText, CursorText, Message, SortText
from app.services.listing import ListOrder, sort_of
from app.services.threads import MEMBERS_LIMIT


class Thread(AnswerModel):
    """A conversation, made up of those of its messages that the token may see."""

    id: str
    account_id: str
    subject: str = Field(description="Of its oldest message")
    participants: list[Address] = Field(description="Who wrote in it, in the order of their first messages")
    message_ids: list[str] = Field(description=f"Oldest first; of more than {MEMBERS_LIMIT} the newest")
    message_count: int
    unread_count: int
    mailbox_ids: list[str] = Field(description="Where any of its messages is")
    keywords: list[str] = Field(description="What any of its messages has")
    has_attachments: bool
    preview: str | None = Field(description="Of its newest message")
    oldest_received_at: Time
    newest_received_at: Time


class ThreadPage(AnswerModel):
    """A page of threads."""

    items: list[Thread]
    next_cursor: str | None
    prev_cursor: str | None
    state: str = Field(description="The account's state before this was read: follow from here and nothing is missed")
    sync: Sync
    total: int | None = Field(None, description="With `count` alone")
    filter: FilterInput | None = Field(None, description="What `q` was understood as, and the other conditions")

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)


class ThreadWithMessages(Thread):
    """A thread and its messages."""

    messages: list[Message] = Field(description=f"Summaries, oldest first; of more than {MEMBERS_LIMIT} the newest")


class ThreadQuery(ConditionsQuery):
    """The query of a list of threads: conditions on a message, of which a thread has one that meets them all."""

    sort: SortText = Field("-received_at", description="There is no other order")
    limit: int = Field(50, ge=1, le=500)
    cursor: CursorText | None = None
    count: CountText | None = Field(None, description="Adds `total`; both are exact")

    def order(self, *, is_forced: bool) -> ListOrder:
        tree, is_anywhere = self.searched()
        return ListOrder(tree, sort_of(self.sort), self.limit, self.cursor, self.count, is_forced, is_anywhere)
