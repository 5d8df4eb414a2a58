"""Schemas of messages in responses, in four views."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, create_model
from pydantic.fields import FieldInfo
from typing_extensions import TypeAliasType

from app.api.schemas.base import AnswerModel, Problem, ProblemCode, Sync, Time
from app.api.schemas.filters import FilterInput

MessageId = Annotated[str, Field(description="The id of a message; it stays the same when the message moves")]


class Address(AnswerModel):
    """A person or group: a name and an e-mail address."""

    name: str = Field(description="The decoded display name; empty if there is none")
    address: str = Field(description="The e-mail address, as written in the message")


class Attachment(AnswerModel):
    """An attachment of a message, or a file inside winmail.dat."""

    id: str = Field(description="The id for `/attachments/{attachment_id}`")
    part: str = Field(description="Its IMAP section number, for `/parts/{part}`")
    filename: str | None = Field(description="The decoded file name; null if it has none")
    content_type: str = Field(description="Its media type, as the message states it")
    size_bytes: int | None = Field(
        description="The exact size of the decoded content; null if it is known only after reading the content"
    )
    disposition: Literal["inline", "attachment"] = Field(description="Where a mail program shows it")
    content_id: str | None = Field(description="Its Content-ID without angle brackets, which `cid:` links name")


class Attendee(AnswerModel):
    """An invited person."""

    name: str = Field(description="The name; empty if there is none")
    address: str = Field(description="The e-mail address")
    status: str = Field(description="`needs_action`, `accepted`, `declined`, `tentative` or `delegated`")
    is_optional: bool = Field(description="Whether the person is optional")


class Invitation(AnswerModel):
    """The first event of a message's calendar part (RFC 5545), for example an invitation or an answer to one."""

    method: str = Field(description="`request`, `cancel`, `reply`, `publish` or another of RFC 5546")
    uid: str = Field(description="The UID of the event")
    sequence: int = Field(description="The number of the revision")
    status: str | None = Field(description="`confirmed`, `tentative`, `cancelled`; null if not given")
    summary: str = Field(description="The title of the event")
    description: str = Field(description="The description of the event")
    location: str = Field(description="Where the event takes place")
    organizer: Address | None = Field(description="The organizer")
    attendees: list[Attendee] = Field(description="The invited people")
    starts_at: Time | None = Field(description="In UTC; for an all-day event, midnight of its first day")
    ends_at: Time | None = Field(description="In UTC; null if not given")
    is_all_day: bool = Field(description="Whether it is an all-day event")
    time_zone: str | None = Field(description="The zone the times were written in; null for UTC or none")
    recurrence: str | None = Field(description="An RRULE, for example `FREQ=WEEKLY;COUNT=3`")


class Location(AnswerModel):
    """Where a message is on its mail server (IMAP)."""

    mailbox_id: str = Field(description="The mailbox")
    uid: int = Field(description="The UID of the message in the mailbox")
    uid_validity: int = Field(description="The UIDVALIDITY of the mailbox")


class MessageThread(AnswerModel):
    """The thread of a message."""

    id: str = Field(description="The id of the thread")
    message_ids: list[str] = Field(description="Its messages that the token may see, oldest first")


class Piece(AnswerModel):
    """A piece of text that does or does not match the search."""

    text: str = Field(description="Plain text")
    is_match: bool = Field(description="Whether it matches a term of the search")


class Highlight(AnswerModel):
    """A part of a message that matches a search, as plain text."""

    field: Literal["subject", "from", "to", "cc", "body"] = Field(description="The part of the message")
    pieces: list[Piece] = Field(description="The text around the matches, in order")


class _Included(AnswerModel):
    """Fields that `include` adds; absent unless requested."""

    headers: dict[str, list[str]] = Field({}, description="With `include=headers:Name`: the decoded values by name")
    thread: MessageThread | None = Field(None, description="With `include=thread`: the thread")
    highlights: list[Highlight] = Field([], description="With `include=highlights`: where the search matched")

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)


class MessageIds(_Included):
    """A message with `view=ids`."""

    view: Literal["ids"] = Field(description="The view of this object")
    id: MessageId


class MessageSummary(_Included):
    """A message with `view=summary`: what a list shows."""

    view: Literal["summary"] = Field(description="The view of this object")
    id: MessageId
    account_id: str = Field(description="The account that holds the message")
    mailbox_ids: list[str] = Field(description="The mailboxes that hold the message")
    thread_id: str = Field(description="The thread of the message")
    subject: str = Field(description="The decoded subject; empty if there is none")
    from_: list[Address] = Field(alias="from", description="The authors")
    to: list[Address] = Field(description="The recipients")
    cc: list[Address] = Field(description="The recipients of a copy")
    reply_to: list[Address] = Field(description="Addresses for replies, if not the authors")
    date: Time | None = Field(description="The Date header; null if it is absent or invalid")
    received_at: Time = Field(description="When the mail server received the message")
    preview: str | None = Field(description="The first 200 characters of text; null until the text has been read")
    keywords: list[str] = Field(description="Keywords as in JMAP: `$seen`, `$flagged`, `$answered` … and custom ones")
    size_bytes: int = Field(description="The size of the whole message")
    has_attachments: bool = Field(description="Whether the message has attachments")
    message_id_header: str | None = Field(description="The Message-ID header with its angle brackets")
    in_reply_to: list[str] = Field(description="The Message-IDs that the message replies to")
    references: list[str] = Field(description="The Message-IDs of the thread, oldest first")
    on_server: bool | None = Field(
        description="Whether the POP3 server still has the message; null for mail that did not come over POP3"
    )


class MessageFull(MessageSummary):
    """A message with `view=full`: the summary, the text and the list of attachments."""

    view: Literal["full"] = Field(description="The view of this object")  # type: ignore[assignment]  # the discriminator
    bcc: list[Address] = Field(description="The recipients of a blind copy, in messages that the account sent")
    text: str = Field(description="The plain text; made from the HTML if the message has none")
    html: str | None = Field(description="The sanitised HTML; null if the message has none")
    invitation: Invitation | None = Field(description="The event of a calendar part; null if there is none")
    attachments: list[Attachment] = Field(description="The attachments and inline pictures")
    locations: list[Location] = Field(description="Where the message is on the mail server")
    problems: list[str] = Field(description="Descriptions of parts that could not be read completely")


def _optional(model: type[AnswerModel]) -> dict[str, Any]:
    """Return the fields of a model, each optional."""
    return {name: _absent(field) for name, field in model.model_fields.items() if name != "view"}


def _absent(field: FieldInfo) -> tuple[Any, Any]:
    shape = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return shape, Field(default_factory=lambda: None, alias=field.alias, description=field.description)


class _Partial(_Included):
    """A message with the fields named by `fields`. Other fields are absent, also in nested objects."""

    view: Literal["partial"] = Field(description="The view of this object")


if TYPE_CHECKING:
    MessagePartial = _Partial  # mypy cannot read a model that is created at run time
else:
    MessagePartial = create_model(
        "MessagePartial", __base__=_Partial, __doc__=_Partial.__doc__, **_optional(MessageFull)
    )


if TYPE_CHECKING:
    Message = MessageIds | MessageSummary | MessageFull | MessagePartial
else:
    Message = TypeAliasType(
        "Message",
        Annotated[MessageIds | MessageSummary | MessageFull | MessagePartial, Field(discriminator="view")],
    )


class Indexed(AnswerModel):
    """How much of the account's mail is in the full-text index. The mail server searches the rest."""

    messages: int = Field(description="Messages in the index")
    of: int = Field(description="Messages of the account")


class MessagePage(AnswerModel):
    """A page of a list of messages."""

    items: list[Message] = Field(description="The messages, in the requested view")
    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last page")
    prev_cursor: str | None = Field(description="The `cursor` of the previous page; null on the first page")
    state: str = Field(
        description="The account's state before the read; `/changes` since this state has all later changes"
    )
    sync: Sync = Field(description="How fresh the list is")
    total: int | None = Field(None, description="The number of matching messages; null without `count`")
    indexed: Indexed | None = Field(
        None, description="For text searches by tokens that can see all mailboxes; otherwise null"
    )
    filter: FilterInput | None = Field(
        None, description="The filter made from `q` and the other conditions; null without `q`"
    )


class BulkItem(AnswerModel):
    """The result for one message."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    id: str = Field(description="The message that the request named")
    status: int = Field(description="The result as an HTTP status")
    new_id: str | None = Field(None, description="The id of the copy, if the message was copied")
    message: Message | None = Field(None, description="The message, if it was requested")
    problem: Problem | None = Field(None, description="Why it failed, if it failed")


class BulkSummary(AnswerModel):
    """How many messages succeeded and failed."""

    ok: int = Field(description="Results without a problem")
    failed: int = Field(description="Results with a problem")


class BulkAnswer(AnswerModel):
    """The results, in the order of the request."""

    results: list[BulkItem] = Field(description="One result for each message")
    summary: BulkSummary = Field(description="The numbers of results")
    state: str = Field(description="The account's state; pass it to `/changes` as `since`")


class HeaderField(AnswerModel):
    """A header field."""

    name: str = Field(description="The name, as written in the message")
    value: str = Field(description="The value, decoded and unfolded to one line")


class HeaderList(AnswerModel):
    """All header fields, in order."""

    items: list[HeaderField] = Field(description="The fields")


class AccountSearch(AnswerModel):
    """The result of one account in a search over several. `sync` and `state` are null if it did not answer in time."""

    account_id: str = Field(description="The account")
    is_complete: bool = Field(description="Whether every match was found; an incomplete account does not delay others")
    state: str | None = Field(None, description="The account's state before it was searched")
    sync: Sync | None = Field(None, description="How fresh its mail is")
    indexed: Indexed | None = Field(
        None, description="For text searches by tokens that can see all mailboxes; otherwise null"
    )
    code: ProblemCode | None = Field(None, description="The problem that made the result incomplete; otherwise null")


class SearchAnswer(AnswerModel):
    """A page of results from several accounts, sorted together."""

    items: list[Message] = Field(description="The messages, in the requested view")
    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last page")
    accounts: list[AccountSearch] = Field(description="The result of each account")
    total: int | None = Field(
        None, description="The number of matching messages in the accounts that answered; null without `count`"
    )
