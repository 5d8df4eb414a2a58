"""Schemas of sending."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, InstanceOf, PlainValidator, StringConstraints, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticKnownError

from app.api.schemas.base import (
    AnswerModel,
    Boolean,
    GivenTime,
    Id,
    Integer,
    MetadataInput,
    MetadataOutput,
    Page,
    RequestModel,
    Sync,
    Time,
    time_of,
)
from app.errors import InvalidRequest
from app.mail.types import Address
from app.mime.addresses import parse_addresses, readable
from app.mime.validate import validate_address
from app.services.sending.composing import NewAttachment, NewMessage
from app.services.sending.submissions import SubmissionState

TEXT_LIMIT = 10_000_000
ADDRESSES_LIMIT = 1_000
ADDRESS_TEXT_LIMIT = 2_000
AddressText = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]


class AddressInput(RequestModel):
    """An address and, optionally, a name."""

    name: Annotated[str, StringConstraints(max_length=1_000)] = ""
    address: AddressText

    def value(self) -> Address:
        return Address(self.name, self.address)


def _address_of(value: object) -> object:
    """Parse `Bob <bob@example.org>` into an object. Raises ValueError if a text is not exactly one address."""
    if not isinstance(value, str):
        return value
    parsed = parse_addresses(value[:ADDRESS_TEXT_LIMIT], 2)
    addresses = readable(tuple(parsed))
    if len(value) > ADDRESS_TEXT_LIMIT or len(parsed) != 1 or not addresses or not addresses[0].address:
        raise ValueError("Must be one e-mail address, such as `bob@example.org` or `Bob <bob@example.org>`")
    try:
        validate_address(addresses[0].address, "", allow_utf8=True)
    except InvalidRequest as error:
        raise ValueError(error.detail) from None
    return {"name": addresses[0].name, "address": addresses[0].address}


GivenAddress = Annotated[
    AddressInput,
    BeforeValidator(
        _address_of, json_schema_input_type=AddressInput | Annotated[str, Field(max_length=ADDRESS_TEXT_LIMIT)]
    ),
]
"""An address as an object, or as a text with or without a name."""
Addresses = Annotated[list[GivenAddress], Field(max_length=ADDRESSES_LIMIT)]


def _long_text(value: object) -> str:
    """A text of up to TEXT_LIMIT characters.

    Pydantic's own validator copies each text: 10 MB that are not ASCII would block the event loop for 45 ms.
    """
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    if len(value) > TEXT_LIMIT:
        raise PydanticKnownError("string_too_long", {"max_length": TEXT_LIMIT})
    return value


LongText = Annotated[str, PlainValidator(_long_text), WithJsonSchema({"type": "string", "maxLength": TEXT_LIMIT})]


class AttachmentInput(RequestModel):
    """An attachment: its content, a part of another message, or an upload."""

    filename: Annotated[str, StringConstraints(max_length=1_000)] | None = None
    content_type: Annotated[str, StringConstraints(max_length=1_000)] | None = None
    content_base64: str | SkipJsonSchema[InstanceOf[memoryview]] | None = None
    content_id: Annotated[str, StringConstraints(max_length=200)] | None = None
    upload_id: Id | None = None
    message_id: Id | None = None
    attachment_id: Id | None = None


class HeaderInput(RequestModel):
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    value: Annotated[str, StringConstraints(max_length=10_000)]


class MessageInput(RequestModel):
    """A message as JSON."""

    mode: Literal["new", "reply", "reply_all", "forward"] = "new"
    from_: GivenAddress | None = Field(None, alias="from", description="Default: the account's own address")
    to: Addresses = Field(default_factory=list)
    cc: Addresses = Field(default_factory=list)
    bcc: Addresses = Field(default_factory=list)
    reply_to: Addresses = Field(default_factory=list)
    subject: Annotated[str, StringConstraints(max_length=10_000)] | None = None
    text: LongText | None = None
    html: LongText | None = None
    attachments: list[AttachmentInput] = Field(default_factory=list, max_length=500)
    headers: list[HeaderInput] = Field(default_factory=list, max_length=100)
    reply_to_message_id: Id | None = Field(None, description="The message to reply to or to forward")
    quote: Boolean = Field(True, description="Whether a reply or a forward quotes the original's text")

    def value(self) -> NewMessage:
        return NewMessage(
            mode=self.mode,
            from_=self.from_.value() if self.from_ else None,
            to=_values(self.to),
            cc=_values(self.cc),
            bcc=_values(self.bcc),
            reply_to=_values(self.reply_to),
            subject=self.subject,
            text=self.text,
            html=self.html,
            attachments=tuple(NewAttachment(**dict(attachment_input)) for attachment_input in self.attachments),
            headers=tuple((header_input.name, header_input.value) for header_input in self.headers),
            reply_to_message_id=self.reply_to_message_id,
            is_quoted=self.quote,
        )


class SendRequest(MessageInput):
    """A message to send, with options."""

    send_at: GivenTime | None = Field(None, description="When to send it, at the earliest")
    undo_seconds: Integer = Field(0, ge=0, le=3600, description="How many seconds the submission can be cancelled")
    save_to: Id | None = Field(None, description="The mailbox for the copy; default: the mailbox with the role `sent`")
    save: Boolean = Field(True, description="Whether a copy is saved")
    on_uncertain: Literal["report", "retry"] = Field(
        "report",
        description="What to do if it is unknown whether the server accepted the message: report it, or send again",
    )
    metadata: MetadataInput = Field(default_factory=dict)
    dsn: list[str] | None = Field(None, description="Not supported yet")

    def value(self) -> NewMessage:
        return replace(
            super().value(),
            save_to=self.save_to,
            is_saved=self.save,
            is_retried_when_uncertain=self.on_uncertain == "retry",
            send_at_ms=round(self.send_at.timestamp() * 1000) if self.send_at else None,
            undo_seconds=self.undo_seconds,
            metadata=self.metadata,
        )


class RescheduleRequest(RequestModel):
    send_at: GivenTime


SubmissionStatus = Literal["held", "queued", "sending", "sent", "deferred", "failed", "uncertain", "cancelled"]
DeliveryStatus = Literal["pending", "accepted", "deferred", "refused", "uncertain", "delivered", "bounced"]


class RecipientStatus(AnswerModel):
    """A recipient of a submission."""

    address: str = Field(description="The e-mail address")
    status: DeliveryStatus = Field(
        description="`pending`: not tried yet; `accepted`: the next mail server accepted the message; `deferred`: "
        "refused for now and retried; `refused`: permanently; `uncertain`: no reply came after the message was sent; "
        "`delivered`, `bounced`: by a delivery report"
    )
    enhanced_code: str | None = Field(description="The enhanced status code (RFC 3463) of the last reply")
    response: str | None = Field(description="The last reply; null before the first attempt")


class Submission(AnswerModel):
    """A message being sent, or sent."""

    id: str = Field(description="The id of the submission")
    status: SubmissionStatus = Field(
        description="`held`: waits for `send_at` or can be undone; `queued`: is sent next; `sending`; `sent`: to every "
        "recipient that was not refused; `deferred`: retried later; `failed`: refused or abandoned; `uncertain`: "
        "no reply came after the message was sent; `cancelled`"
    )
    message_id_header: str = Field(description="The Message-ID header, fixed when the message is accepted")
    recipients: list[RecipientStatus] = Field(description="The recipients, with the state of each")
    send_at: Time | None = Field(description="When to send it; null: at once")
    created_at: Time = Field(description="When the message was accepted")
    metadata: MetadataOutput

    @classmethod
    def of(cls, state: SubmissionState) -> Submission:
        recipients = [
            {
                "address": recipient.address,
                "status": recipient.status,
                "enhanced_code": recipient.enhanced_code,
                "response": recipient.response,
            }
            for recipient in state.recipients
        ]
        return cls.model_validate(
            {
                "id": state.id,
                "status": state.status,
                "message_id_header": state.message_id_header,
                "recipients": recipients,
                "send_at": time_of(state.send_at_ms) if state.send_at_ms is not None else None,
                "created_at": time_of(state.created_at_ms),
                "metadata": dict(state.options.metadata),
            }
        )


class SubmissionList(Page[Submission]):
    """A page of the account's submissions, newest first."""

    state: str = Field(
        description="The account's state before the read; `/changes` since this state has all later changes"
    )
    sync: Sync


def _values(addresses: list[AddressInput]) -> tuple[Address, ...]:
    return tuple(address_input.value() for address_input in addresses)
