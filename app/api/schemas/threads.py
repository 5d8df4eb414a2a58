"""Schemas of threads."""

from __future__ import annotations

from pydantic import Field

from app.api.schemas.base import AnswerModel, Sync, Time
from app.api.schemas.filters import ConditionsQuery, FilterInput
from app.api.schemas.message_requests import CountText, CursorText, SortText
from app.api.schemas.messages import Address, Indexed, MessageSummary
from app.services.changing.threads import MEMBERS_LIMIT
from app.services.reading.listing import ListOrder, sort_of


class Thread(AnswerModel):
    """A thread with the messages that the token can see."""

    id: str = Field(description="The id of the thread")
    account_id: str = Field(description="The account that holds the thread")
    subject: str = Field(description="The subject of its oldest message")
    participants: list[Address] = Field(description="The authors, in the order of their first messages")
    message_ids: list[str] = Field(description=f"Its messages, oldest first; of more than {MEMBERS_LIMIT} the newest")
    message_count: int = Field(description="The number of its messages")
    unread_count: int = Field(description="The number of its messages without `$seen`")
    mailbox_ids: list[str] = Field(description="The mailboxes that hold any of its messages")
    keywords: list[str] = Field(description="The keywords that any of its messages has")
    has_attachments: bool = Field(description="Whether any of its messages has attachments")
    preview: str | None = Field(description="The preview of its newest message")
    oldest_received_at: Time = Field(description="When its oldest message was received")
    newest_received_at: Time = Field(description="When its newest message was received")


class ThreadPage(AnswerModel):
    """A page of threads."""

    items: list[Thread] = Field(description="The threads, by their newest matching messages")
    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last page")
    prev_cursor: str | None = Field(description="The `cursor` of the previous page; null on the first page")
    state: str = Field(
        description="The account's state before the read; `/changes` since this state has all later changes"
    )
    sync: Sync = Field(description="How fresh the list is")
    total: int | None = Field(None, description="The number of matching threads; null without `count`")
    indexed: Indexed | None = Field(
        None, description="For text searches by tokens that can see all mailboxes; otherwise null"
    )
    filter: FilterInput | None = Field(
        None, description="The filter made from `q` and the other conditions; null without `q`"
    )


class ThreadWithMessages(Thread):
    """A thread and its messages."""

    messages: list[MessageSummary] = Field(
        description=f"The summaries, oldest first; of more than {MEMBERS_LIMIT} the newest"
    )


class ThreadQuery(ConditionsQuery):
    """The query of a list of threads that have a message which meets all conditions."""

    sort: SortText = Field("-received_at", description="`-received_at`; no other order is supported")
    limit: int = Field(50, ge=1, le=500, description="The largest number of threads")
    cursor: CursorText | None = Field(None, description="A `next_cursor` or `prev_cursor` of this list")
    count: CountText | None = Field(None, description="Fills `total`; both values are exact")

    def order(self, *, is_forced: bool) -> ListOrder:
        tree, is_anywhere = self.searched()
        return ListOrder(tree, sort_of(self.sort), self.limit, self.cursor, self.count, is_forced, is_anywhere)
