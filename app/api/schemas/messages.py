"""Shapes of messages: read, listed, changed one by one or by the hundred."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from app.api.schemas.base import AnswerModel, GivenTime, Id, PatchModel, RequestModel, Sync, Time
from app.api.schemas.filters import (
    IN_FIELD,
    ConditionsQuery,
    FilterInput,
    FilterTree,
    Keyword,
    SearchTextInput,
    with_search_text,
)
from app.api.schemas.submissions import MessageInput
from app.mail.search_text import ANYWHERE
from app.mail.types import Flags, flag_of
from app.services.listing import ListOrder, sort_of
from app.services.messages import KEYWORDS_LIMIT, Change
from app.services.searching import ACCOUNTS_LIMIT
from app.services.views import View, ViewName, view_of

IDS_LIMIT = 1_000
SortText = Annotated[str, StringConstraints(pattern=r"^-?(received_at|date|size|subject|from)$")]
CursorText = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
CountText = Literal["exact", "estimate"]
FieldsText = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=IDS_LIMIT)]
Keywords = Annotated[list[Keyword], Field(max_length=KEYWORDS_LIMIT)]


# ---- what callers get


class Address(AnswerModel):
    name: str
    address: str


class Attachment(AnswerModel):
    """Something attached, or a file inside winmail.dat. `size_bytes` is exact, or null where only reading it tells."""

    id: str
    part: str
    filename: str | None
    content_type: str
    size_bytes: int | None
    disposition: Literal["inline", "attachment"]
    content_id: str | None


class Attendee(AnswerModel):
    """Somebody who is invited."""

    name: str
    address: str
    status: str = Field(description="`needs_action`, `accepted`, `declined`, `tentative` or `delegated`")
    is_optional: bool


class Invitation(AnswerModel):
    """The first event of a message's calendar part (RFC 5545), for example an invitation or an answer to one."""

    method: str = Field(description="`request`, `cancel`, `reply`, `publish` or another of RFC 5546")
    uid: str
    sequence: int
    status: str | None = Field(description="`confirmed`, `tentative`, `cancelled`; null where it is not given")
    summary: str
    description: str
    location: str
    organizer: Address | None
    attendees: list[Attendee]
    starts_at: Time | None = Field(description="In UTC; of an event that takes all day, midnight of its first day")
    ends_at: Time | None
    is_all_day: bool
    time_zone: str | None = Field(description="The zone the times were written in; null for UTC or none")
    recurrence: str | None = Field(description="An RRULE, for example `FREQ=WEEKLY;COUNT=3`")


class Location(AnswerModel):
    mailbox_id: str
    uid: int
    uid_validity: int


class Thread(AnswerModel):
    id: str
    message_ids: list[str]


class Piece(AnswerModel):
    text: str
    is_match: bool


class Highlight(AnswerModel):
    """Where terms of a search stand: a stretch of `subject`, `from`, `to`, `cc` or `body`, as plain text in pieces."""

    field: str
    pieces: list[Piece]


class Message(AnswerModel):
    """A message. `view=summary` has all fields up to `references`, `view=full` those up to `problems` too.

    `view=ids` and `fields` leave out what was not asked for; `include` adds the last two.
    """

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    id: str
    account_id: str = ""
    mailbox_ids: list[str] = Field([])
    thread_id: str = ""
    subject: str = Field("", description="Empty where there is none")
    from_: list[Address] = Field([], alias="from")
    to: list[Address] = Field([])
    cc: list[Address] = Field([])
    reply_to: list[Address] = Field([])
    date: Time | None = Field(None, description="Of the Date header; null where absent or unreadable")
    received_at: Time | None = None
    preview: str | None = Field(None, description="200 characters of text; null until it has been read")
    keywords: list[str] = Field([])
    size_bytes: int = 0
    has_attachments: bool = False
    message_id_header: str | None = None
    in_reply_to: list[str] = Field([])
    references: list[str] = Field([])
    bcc: list[Address] = Field([])
    text: str = Field("", description="From the HTML where there is no text")
    html: str | None = Field(None, description="Sanitised; null where there is none")
    invitation: Invitation | None = Field(None, description="From a calendar part; null where there is none")
    attachments: list[Attachment] = Field([])
    locations: list[Location] = Field([])
    on_server: bool | None = Field(None, description="Of mail that came by POP3: whether the server holds it still")
    problems: list[str] = Field([], description="What could not be read as it should")
    headers: dict[str, list[str]] = Field({}, description="Decoded values of the headers that were asked for")
    thread: Thread | None = None
    highlights: list[Highlight] = Field([], description="Of a search, where they were asked for")


class Indexed(AnswerModel):
    """How much of an account's mail is in the full-text index; what is not is looked for where the mail lives."""

    messages: int
    of: int


class MessagePage(AnswerModel):
    """A page of a list."""

    items: list[Message]
    next_cursor: str | None
    prev_cursor: str | None
    state: str = Field(description="The account's state before this was read: follow from here and nothing is missed")
    sync: Sync
    total: int | None = Field(None, description="With `count` alone")
    indexed: Indexed | None = Field(None, description="Where the filter looks for texts, for tokens of all mailboxes")
    filter: FilterInput | None = Field(None, description="What `q` was understood as, and the other conditions")

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)


class BulkItem(AnswerModel):
    """What became of one message."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    id: str
    status: int = Field(description="As an HTTP status")
    new_id: str | None = Field(None, description="Of the copy")
    message: Message | None = Field(None, description="When it was asked for")
    problem: dict[str, Any] | None = None


class BulkSummary(AnswerModel):
    ok: int
    failed: int


class BulkAnswer(AnswerModel):
    """Results in the order asked for."""

    results: list[BulkItem]
    summary: BulkSummary
    state: str


class HeaderField(AnswerModel):
    name: str
    value: str = Field(description="Decoded, on one line")


class HeaderList(AnswerModel):
    """All header fields, in order."""

    items: list[HeaderField]


# ---- what callers send


class ListQuery(ConditionsQuery):
    """The query of a list: conditions, all of which must hold, and what to show of it."""

    sort: SortText = Field("-received_at", description="A minus is descending; ties go by highest UID")
    limit: int = Field(50, ge=1, le=500)
    cursor: CursorText | None = None
    count: CountText | None = Field(None, description="Adds `total`")
    view: ViewName = "summary"
    fields_: FieldsText | None = Field(None, alias="fields", description="Dotted paths, separated by commas")
    include: FieldsText | None = Field(
        None, description="`thread`, `highlights` and `headers:Name`, separated by commas"
    )

    def shown(self) -> View:
        return view_of(self.view, self.fields_, self.include)

    def order(self, *, is_forced: bool) -> ListOrder:
        tree, is_anywhere = self.searched()
        return ListOrder(tree, sort_of(self.sort), self.limit, self.cursor, self.count, is_forced, is_anywhere)


class GetQuery(RequestModel):
    """What to show of a message."""

    view: ViewName = "summary"
    fields_: FieldsText | None = Field(None, alias="fields", description="Dotted paths, separated by commas")
    include: FieldsText | None = Field(None, description="`thread` and `headers:Name`, separated by commas")

    def shown(self) -> View:
        return view_of(self.view, self.fields_, self.include)


class SearchRequest(RequestModel):
    """A search: a filter tree or a search text (both must hold), an order, a page."""

    filter: FilterTree = FilterInput()
    q: SearchTextInput | None = None
    in_: Literal["anywhere"] | None = IN_FIELD
    sort: list[SortText] = Field(["-received_at"], min_length=1, max_length=1)
    limit: Annotated[int, Field(ge=1, le=500, strict=True)] = 50
    cursor: CursorText | None = None
    view: ViewName = "summary"
    fields_: FieldsText | None = Field(None, alias="fields")
    include: FieldsText | None = None

    def shown(self) -> View:
        return view_of(self.view, self.fields_, self.include)

    def order(self, count: CountText | None, *, is_forced: bool) -> ListOrder:
        tree, is_anywhere = with_search_text(self.filter.value(), self.q)
        is_anywhere = is_anywhere or self.in_ == ANYWHERE
        return ListOrder(tree, sort_of(self.sort[0]), self.limit, self.cursor, count, is_forced, is_anywhere)


class AccountSearch(AnswerModel):
    """What became of a search in one account. `sync` and `state` are null where it did not answer in time."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    account_id: str
    is_complete: bool = Field(description="Whether all that matches was found; the others were not held up for it")
    state: str | None = None
    sync: Sync | None = None
    indexed: Indexed | None = None
    code: str | None = Field(None, description="Why it is not complete, where it was an error: a problem's code")


class SearchAnswer(AnswerModel):
    """A page of what was found in several accounts, in one order."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    items: list[Message]
    next_cursor: str | None
    accounts: list[AccountSearch]
    total: int | None = Field(None, description="With `count` alone: of the accounts that answered")


class AccountsSearchRequest(SearchRequest):
    """A search over several accounts. `cursor` goes on from the last message that was shown."""

    account_ids: Annotated[list[Id], Field(min_length=1, max_length=ACCOUNTS_LIMIT)] | None = Field(
        None, description="Default: all accounts of the token"
    )
    sort: list[Annotated[str, StringConstraints(pattern=r"^-?(received_at|date|size)$")]] = Field(
        ["-received_at"], min_length=1, max_length=1
    )


class KeywordChanges(RequestModel):
    add: Keywords = Field([])
    remove: Keywords = Field([])


class _MessageChanges(RequestModel):
    keywords: KeywordChanges = KeywordChanges()
    mailbox_id: Id | None = Field(None, description="Moves it there")

    def change(self) -> Change:
        return Change(_flags(self.keywords.add), _flags(self.keywords.remove), self.mailbox_id)


class ChangeRequest(PatchModel, _MessageChanges):
    """What to change of a message; what is left out stays."""


class TransferRequest(RequestModel):
    """Messages, and the mailbox that they go to."""

    message_ids: Ids
    mailbox_id: Id


def _deletion(given: object) -> object:
    """`true`, as version 0.1 had it, is `trash`."""
    return "trash" if given is True else given


class BatchRequest(_MessageChanges):
    """One change of many messages: by id, or all that a filter finds."""

    message_ids: Ids | None = None
    filter: FilterTree | None = None
    delete: Annotated[Literal["trash", "permanent"], BeforeValidator(_deletion)] | None = Field(
        None, description="`trash` moves to Trash, and removes for good what is there already; `permanent` removes"
    )

    @model_validator(mode="after")
    def _is_one_thing(self) -> BatchRequest:
        if (self.message_ids is None) == (self.filter is None):
            raise ValueError("Give message_ids or filter, one of them")
        has_change = bool(self.keywords.add or self.keywords.remove or self.mailbox_id)
        if has_change == (self.delete is not None):
            raise ValueError("Give a change or delete, one of them")
        return self


class BatchGetRequest(RequestModel):
    """Messages to show."""

    message_ids: Ids
    view: ViewName = "summary"
    fields_: FieldsText | None = Field(None, alias="fields")
    include: FieldsText | None = None

    def shown(self) -> View:
        return view_of(self.view, self.fields_, self.include)


class ImportQuery(RequestModel):
    """Where an imported message goes."""

    mailbox_id: Id
    keywords: Annotated[str, StringConstraints(max_length=2_000)] = Field("", description="Separated by commas")
    received_at: GivenTime | None = Field(None, description="Default: now")


ImportedMessage = MessageInput
"""A message to put into a mailbox, written as for sending."""


def _flags(keywords: list[str]) -> Flags:
    return frozenset(flag_of(one) for one in keywords)
