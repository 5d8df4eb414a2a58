"""Frames of the WebSocket stream: one JSON object each, distinguished by `type`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter, WithJsonSchema
from typing_extensions import TypeAliasType

from app.api.schemas.base import AnswerModel, Id, Integer, Problem, RequestModel, StateExpiredProblem, Time
from app.api.schemas.event_types import Event
from app.api.schemas.incomplete import AccountSync
from app.mail.events import EVENTS, PATTERNS
from app.mail.types import Role
from app.services.following.subscriptions import COUNTS

SubscriptionId = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Cursor = Annotated[str, StringConstraints(min_length=1, max_length=200)]
LIST_LIMIT = 1_000

# not an enum: Postgate's own check suggests the most similar name in its error
SubscribedType = TypeAliasType(
    "SubscribedType",
    Annotated[
        str,
        StringConstraints(max_length=64),
        WithJsonSchema(
            {
                "type": "string",
                "enum": [*EVENTS, *PATTERNS, COUNTS],
                "description": "An event type; a pattern such as `message.*` for all types that begin with "
                "`message.`; or `counts` for `counts` frames",
            }
        ),
    ],
)
RoleName = Annotated[
    str,
    StringConstraints(max_length=64),
    WithJsonSchema({"type": "string", "enum": [role.value for role in Role]}),
]

# ---- frames of the client


class SubscribeFrame(RequestModel):
    """Subscribe to accounts. Replaces a subscription with the same `sub_id`. The answer is `subscribed` or `error`."""

    type: Literal["subscribe"]
    sub_id: SubscriptionId = Field(description="A name of your choice; events list it in `sub_ids`")
    accounts: Annotated[list[Id], Field(max_length=LIST_LIMIT)] | Literal["*"] = Field(
        description="Ids, `me` for the account of the token, or `*` for all accounts of the token, including later ones"
    )
    mailboxes: Annotated[list[Id], Field(max_length=LIST_LIMIT)] | Literal["*"] | None = Field(
        None, description="Ids, or roles such as `inbox`; default: all"
    )
    roles: Annotated[list[RoleName], Field(max_length=20)] | None = Field(
        None, description="Also mailboxes with these roles, including mailboxes that get the role later"
    )
    types: Annotated[list[SubscribedType], Field(max_length=100)] | None = Field(
        None, description="The event types to receive; default: all, and `counts`"
    )
    view: Literal["ids", "summary"] = Field("summary", description="The view of the message in `message.created`")
    after: Cursor | dict[Id, Cursor] | None = Field(
        None, description="`now` (default), `earliest`, a cursor (one account), or a map account → cursor; exclusive"
    )
    consumer: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="Without `after`: resume after the last cursor that this consumer acknowledged"
    )


class UnsubscribeFrame(RequestModel):
    """End a subscription. It has no answer."""

    type: Literal["unsubscribe"]
    sub_id: SubscriptionId = Field(description="The subscription to end; an unknown one is ignored")


class AckFrame(RequestModel):
    """Acknowledge all events up to this cursor, for the subscription's `consumer`. It has no answer."""

    type: Literal["ack"]
    cursor: Cursor = Field(description="The `cursor` of the last processed event")
    account_id: Id | None = Field(
        None, description="The account of the cursor; required if the socket follows several accounts"
    )
    sub_id: SubscriptionId | None = Field(
        None, description="The subscription; required if several with a consumer follow the account"
    )


class AuthFrame(RequestModel):
    """Set the token of this connection, or replace it before it expires.

    The answer is `authenticated`. If the token is not valid, the socket is closed with 4401 or 4403.
    """

    type: Literal["auth"]
    token: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="A token with the scope `push`"
    )


class RequestFrame(RequestModel):
    """Call any operation of the REST API, without a preflight. The answer is `response`."""

    type: Literal["request"]
    id: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="A name of your choice; the `response` repeats it"
    )
    method: Literal["GET", "POST", "PATCH", "DELETE"] = Field(description="The method of the call")
    path: Annotated[str, StringConstraints(pattern=r"^/v1/", max_length=8192)] = Field(
        description="The path with its query"
    )
    headers: dict[str, str] = Field(
        default_factory=dict, max_length=20, description="Such as `Idempotency-Key`, `If-Match`, `Client-Id`"
    )
    body: Any = Field(None, description="The JSON body")


class PingFrame(RequestModel):
    """Check that the other side is alive. Both sides may send it. The answer is `pong`."""

    type: Literal["ping"]
    id: Annotated[str, StringConstraints(max_length=64)] | None = Field(None, description="The `pong` repeats it")


class PongFrame(RequestModel):
    """The answer to a `ping`. A client that misses two is disconnected with 4408."""

    type: Literal["pong"]
    id: Annotated[str, StringConstraints(max_length=64)] | None = Field(None, description="The `id` of the `ping`")


ClientFrame = Annotated[
    SubscribeFrame | UnsubscribeFrame | AckFrame | AuthFrame | RequestFrame | PingFrame | PongFrame,
    Field(discriminator="type"),
]
CLIENT_FRAME: TypeAdapter[ClientFrame] = TypeAdapter(ClientFrame)

# ---- frames of the server


class HelloFrame(AnswerModel):
    """The first frame of every connection."""

    type: Literal["hello"] = "hello"
    session_id: str = Field(description="The id of the connection")
    heartbeat_seconds: Integer = Field(description="How often the server sends a `ping`")
    limits: dict[str, int] = Field(
        description="The largest number of `subscriptions`, and of concurrent `calls`, of a socket"
    )
    server_time: Time = Field(description="The clock of the server")


class SubscribedFrame(AnswerModel):
    """The answer to a `subscribe` frame. Events after `cursor` follow."""

    type: Literal["subscribed"] = "subscribed"
    sub_id: str = Field(description="The `sub_id` of the `subscribe` frame")
    cursor: dict[str, str] = Field(description="Account → the cursor at which the subscription begins")
    state: dict[str, str] = Field(description="Account → the same position, for `since` of `/changes`")
    sync: dict[str, AccountSync] = Field(description="Account → how fresh its mail is, and what could not be read")


class AuthenticatedFrame(AnswerModel):
    """The answer to an `auth` frame. The connection now uses the token."""

    type: Literal["authenticated"] = "authenticated"
    expires_at: Time | None = Field(description="When the token expires; null: never")


class EventFrame(AnswerModel):
    """An event of an account. Events of one account arrive in order, each at least once."""

    type: Literal["event"] = "event"
    sub_ids: list[str] = Field(description="The subscriptions that the event is for")
    seq: int = Field(description="The number of the event in its account")
    cursor: str = Field(description="Subscribe with `after` this cursor to continue after the event")
    event: Event = Field(description="The event, a CloudEvents 1.0 object")


class StateFrame(AnswerModel):
    """The subscription is more than 10,000 events behind: call `/changes`. Events after this state follow."""

    type: Literal["state"] = "state"
    states: dict[str, str] = Field(description="Account → its newest state")


class GapFrame(AnswerModel):
    """Events between these cursors are no longer stored: call `/changes`."""

    type: Literal["gap"] = "gap"
    account_id: str = Field(description="The account whose events are missing")
    from_: str = Field(alias="from", description="The events after this cursor are missing; `since` of `/changes`")
    to: str = Field(description="The events after this cursor follow")
    reason: str = Field(description="Why they are missing, in words")


class MailboxCounts(AnswerModel):
    """The counts of a mailbox."""

    mailbox_id: str = Field(description="The mailbox")
    unread: int = Field(description="Messages without the keyword $seen")
    total: int = Field(description="Messages in the mailbox")


class CountsFrame(AnswerModel):
    """Counts for badges: all visible mailboxes after `subscribe` and `auth`, then those that changed.

    At most one frame a second for each account. It has no cursor: the next subscription begins with all counts.
    """

    type: Literal["counts"] = "counts"
    account_id: str = Field(description="The account of the mailboxes")
    mailboxes: list[MailboxCounts] = Field(description="The mailboxes whose counts are sent")


class ResponseFrame(AnswerModel):
    """The answer to a `request` frame."""

    type: Literal["response"] = "response"
    id: str = Field(description="The `id` of the `request` frame")
    status: int = Field(description="The HTTP status")
    headers: dict[str, str] = Field(description="The headers of the answer, with names in lower case")
    body: Any = Field(description="The JSON body; null if the answer has none")


class LifecycleFrame(AnswerModel):
    """A notice about the connection."""

    type: Literal["lifecycle"] = "lifecycle"
    event: str = Field(description="`token.expiring`: send the next token in an `auth` frame")
    expires_at: Time | None = Field(description="When the token expires")


class ErrorFrame(AnswerModel):
    """A frame of the client was refused, with the problem that HTTP would return."""

    type: Literal["error"] = "error"
    problem: StateExpiredProblem | Problem = Field(description="The problem; `errors` points at invalid members")
    sub_id: str | None = Field(None, description="The `sub_id` of the frame, if it had one")
    id: str | None = Field(None, description="The `id` of the frame, if it had one; no `response` follows")


class ByeFrame(AnswerModel):
    """The last frame before the server closes the connection."""

    type: Literal["bye"] = "bye"
    code: int = Field(description="The close code")
    reason: str = Field(description="Why, in words")
    reconnect_after: int | None = Field(description="Seconds to wait before the next connection; null: none")
    cursor: dict[str, str] = Field(description="Account → the last event that was sent, for `after`")
