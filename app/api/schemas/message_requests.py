"""Schemas of requests about messages: list, search, change, bulk operations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from app.api.schemas.base import GivenTime, Id, PatchModel, RequestModel
from app.api.schemas.filters import (
    IN_FIELD,
    ConditionsQuery,
    FilterInput,
    FilterTree,
    Keyword,
    SearchScope,
    SearchTextInput,
    with_search_text,
)
from app.api.schemas.submissions import MessageInput
from app.mail.types import Flags, flag_of
from app.services.changing.messages import KEYWORDS_LIMIT, MessageChange
from app.services.reading.listing import ListOrder, sort_of
from app.services.reading.searching import ACCOUNTS_LIMIT
from app.services.reading.views import ImagesName, QuotesName, View, ViewName, view_of

IDS_LIMIT = 1_000
SortText = Annotated[
    str,
    StringConstraints(max_length=20),
    WithJsonSchema({"type": "string", "pattern": "^-?(received_at|date|size|subject|from)$"}),
]
"""`sort_of` parses it and lists the valid keys in its error."""
CursorText = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
CountText = Literal["exact", "estimate"]
FieldsText = Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=IDS_LIMIT)]
IMAGES = (
    "Remote images in HTML: blocked, left unchanged, or replaced by links with which Postgate fetches them. "
    "Pictures of the message itself are links; with `inline`, a response with one message contains up to 2 MB of them"
)
QUOTES = "Quoted history in HTML: unchanged, or each quote in a closed `<details>`"
Keywords = Annotated[list[Keyword], Field(max_length=KEYWORDS_LIMIT)]


class ViewFields(RequestModel):
    """The fields of a message to return."""

    view: ViewName = Field("summary", description="Which fields of a message are returned")
    fields_: FieldsText | None = Field(None, alias="fields", description="Dotted paths, separated by commas")
    include: FieldsText | None = Field(
        None, description="`thread`, `headers:Name` and, in lists and searches, `highlights`; separated by commas"
    )
    images: ImagesName = Field("block", description=IMAGES)
    quotes: QuotesName = Field("keep", description=QUOTES)

    def requested_view(self) -> View:
        return view_of(self.view, self.fields_, self.include, self.images, self.quotes)


class ListQuery(ViewFields, ConditionsQuery):
    """The query of a list: conditions, which must all match, and the fields to return."""

    sort: SortText = Field(
        "-received_at", description="A minus sign sorts in descending order; ties are sorted by UID, highest first"
    )
    limit: int = Field(50, ge=1, le=500)
    cursor: CursorText | None = None
    count: CountText | None = Field(None, description="Adds `total`")

    def order(self, *, is_forced: bool) -> ListOrder:
        tree, is_anywhere = self.searched()
        return ListOrder(tree, sort_of(self.sort), self.limit, self.cursor, self.count, is_forced, is_anywhere)


class GetQuery(ViewFields):
    """The fields of one message to return."""


class SearchRequest(ViewFields):
    """A search: a filter, a search text or both (both must match), with sort order and page."""

    filter: FilterTree = FilterInput()
    q: SearchTextInput | None = None
    in_: SearchScope | None = IN_FIELD
    sort: list[SortText] = Field(["-received_at"], min_length=1, max_length=1)
    limit: Annotated[int, Field(ge=1, le=500, strict=True)] = 50
    cursor: CursorText | None = None

    def order(self, count: CountText | None, *, is_forced: bool) -> ListOrder:
        tree, is_anywhere = with_search_text(self.filter.value(), self.q)
        is_anywhere = is_anywhere or self.in_ is SearchScope.ANYWHERE
        return ListOrder(tree, sort_of(self.sort[0]), self.limit, self.cursor, count, is_forced, is_anywhere)


class AccountsSearchRequest(SearchRequest):
    """A search over several accounts. `cursor` continues after the last message returned."""

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
    mailbox_id: Id | None = Field(None, description="The mailbox to move it to")

    def change(self) -> MessageChange:
        return MessageChange(_flags(self.keywords.add), _flags(self.keywords.remove), self.mailbox_id)


class ChangeRequest(PatchModel, _MessageChanges):
    """Changes to a message. Absent fields do not change."""


class TransferRequest(RequestModel):
    """Messages, and the target mailbox."""

    message_ids: Ids
    mailbox_id: Id


def _deletion(value: object) -> object:
    """Accept `true` of version 0.1 as `trash`."""
    return "trash" if value is True else value


class BatchRequest(_MessageChanges):
    """One change to many messages, by id or by filter."""

    message_ids: Ids | None = None
    filter: FilterTree | None = None
    delete: Annotated[Literal["trash", "permanent"], BeforeValidator(_deletion)] | None = Field(
        None,
        description="`trash`: move to Trash, or delete permanently if already there; `permanent`: delete permanently",
    )

    @model_validator(mode="after")
    def _is_one_thing(self) -> BatchRequest:
        if (self.message_ids is None) == (self.filter is None):
            raise ValueError("Give either message_ids or filter")
        has_change = bool(self.keywords.add or self.keywords.remove or self.mailbox_id)
        if has_change == (self.delete is not None):
            raise ValueError("Give either a change or delete")
        return self


class BatchGetRequest(ViewFields):
    """The messages to return."""

    message_ids: Ids


class ImportQuery(RequestModel):
    """The target of an imported message."""

    mailbox_id: Id
    keywords: Annotated[str, StringConstraints(max_length=2_000)] = Field("", description="Separated by commas")
    received_at: GivenTime | None = Field(None, description="Default: now")


ImportedMessage = MessageInput
"""A message to import, in the same JSON as for sending."""


def _flags(keywords: list[str]) -> Flags:
    return frozenset(flag_of(keyword) for keyword in keywords)
