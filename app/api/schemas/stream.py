"""Frames of the stream: one JSON object each, told apart by `type`."""

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

# names are checked with a better error than that of an enumeration: it has the nearest known name
SubscribedType = TypeAliasType(
    "SubscribedType",
    Annotated[
        str,
        StringConstraints(max_length=64),
        WithJsonSchema(
            {
                "type": "string",
                "enum": [*EVENTS, *PATTERNS, COUNTS],
                "description": "A type of an event; a pattern, as `message.*`: all types that begin with `message.`; "
                "or `counts`: the frames with counts of mailboxes",
            }
        ),
    ],
)
RoleName = Annotated[
    str,
    StringConstraints(max_length=64),
    WithJsonSchema({"type": "string", "enum": [role.value for role in Role]}),
]

# ---- what clients send


class SubscribeFrame(RequestModel):
    """Follow accounts. A subscription of the same `sub_id` is replaced. The answer is `subscribed` or `error`."""

    type: Literal["subscribe"]
    sub_id: SubscriptionId = Field(description="A name of your choice; `sub_ids` of each event has those it is for")
    accounts: Annotated[list[Id], Field(max_length=LIST_LIMIT)] | Literal["*"] = Field(
        description="Ids, `me` for the account of the token, or `*`: all accounts of the token, later ones too"
    )
    mailboxes: Annotated[list[Id], Field(max_length=LIST_LIMIT)] | Literal["*"] | None = Field(
        None, description="Ids, or names of roles such as `inbox`; default: all"
    )
    roles: Annotated[list[RoleName], Field(max_length=20)] | None = Field(
        None, description="Mailboxes with these roles, beside `mailboxes`; also those that get a role later"
    )
    types: Annotated[list[SubscribedType], Field(max_length=100)] | None = Field(
        None, description="What to hear of; default: all events, and `counts`"
    )
    view: Literal["ids", "summary"] = Field("summary", description="How much `message.created` shows of its message")
    after: Cursor | dict[Id, Cursor] | None = Field(
        None, description="`now` (default), `earliest`, a cursor (one account), or a map account → cursor; exclusive"
    )
    consumer: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="Resume after what this name has acknowledged, where `after` is not given"
    )


class UnsubscribeFrame(RequestModel):
    """End a subscription. It has no answer."""

    type: Literal["unsubscribe"]
    sub_id: SubscriptionId = Field(description="The subscription to end; an unknown one is ignored")


class AckFrame(RequestModel):
    """Everything up to this cursor has been dealt with; kept for the subscription's `consumer`. It has no answer."""

    type: Literal["ack"]
    cursor: Cursor = Field(description="The `cursor` of the last event that has been dealt with")
    account_id: Id | None = Field(
        None, description="The account of the cursor; needed where the socket follows several accounts"
    )
    sub_id: SubscriptionId | None = Field(
        None, description="Whose `consumer` it is kept for; needed where several with a consumer follow the account"
    )


class AuthFrame(RequestModel):
    """The token of this connection: the first one, or a newer one before the old one ends.

    The answer is `authenticated`; the socket is closed with 4401 or 4403 if the token does not do.
    """

    type: Literal["auth"]
    token: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="A token with the scope `push`"
    )


class RequestFrame(RequestModel):
    """Any call of the REST API, without a preflight. The answer is `response`."""

    type: Literal["request"]
    id: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="A name of your choice, which the `response` has too"
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
    """Asks whether the other side is there; either side may send it. The answer is `pong`."""

    type: Literal["ping"]
    id: Annotated[str, StringConstraints(max_length=64)] | None = Field(None, description="The `pong` has it too")


class PongFrame(RequestModel):
    """The answer to a `ping`. A client that misses two is disconnected with 4408."""

    type: Literal["pong"]
    id: Annotated[str, StringConstraints(max_length=64)] | None = Field(None, description="The `id` of the `ping`")


ClientFrame = Annotated[
    SubscribeFrame | UnsubscribeFrame | AckFrame | AuthFrame | RequestFrame | PingFrame | PongFrame,
    Field(discriminator="type"),
]
CLIENT_FRAME: TypeAdapter[ClientFrame] = TypeAdapter(ClientFrame)

# ---- what clients get


class HelloFrame(AnswerModel):
    """The first frame of every connection."""

    type: Literal["hello"] = "hello"
    session_id: str = Field(description="Names the connection")
    heartbeat_seconds: Integer = Field(description="How often the server sends a `ping`")
    limits: dict[str, int] = Field(description="The most `subscriptions`, and `calls` at the same time, of a socket")
    server_time: Time = Field(description="The clock of the server")


class SubscribedFrame(AnswerModel):
    """The answer to a `subscribe` frame. Events after `cursor` follow."""

    type: Literal["subscribed"] = "subscribed"
    sub_id: str = Field(description="The `sub_id` of the `subscribe` frame")
    cursor: dict[str, str] = Field(description="Account → where the subscription begins")
    state: dict[str, str] = Field(description="The same, for `since` of `/changes`")
    sync: dict[str, AccountSync] = Field(
        description="Account → how fresh its mail is, and what of it could not be read"
    )


class AuthenticatedFrame(AnswerModel):
    """The answer to an `auth` frame: the token is now that of the connection."""

    type: Literal["authenticated"] = "authenticated"
    expires_at: Time | None = Field(description="When the token ends; null if it does not")


class EventFrame(AnswerModel):
    """An event of an account. Those of one account come in order, each at least once."""

    type: Literal["event"] = "event"
    sub_ids: list[str] = Field(description="The subscriptions that the event is for")
    seq: int = Field(description="The number of the event in its account")
    cursor: str = Field(description="Subscribe with `after` this cursor to go on after the event")
    event: Event = Field(description="The event, a CloudEvents 1.0 object")


class StateFrame(AnswerModel):
    """The subscription is more than 10,000 events behind: call `/changes`. Events after this state follow."""

    type: Literal["state"] = "state"
    states: dict[str, str] = Field(description="Account → its newest state")


class GapFrame(AnswerModel):
    """Events between these cursors are not kept any more: call `/changes`."""

    type: Literal["gap"] = "gap"
    account_id: str = Field(description="The account whose events are missing")
    from_: str = Field(alias="from", description="The events after this cursor are missing; `since` of `/changes`")
    to: str = Field(description="The events after this cursor follow")
    reason: str = Field(description="Why they are missing, in words")


class MailboxCounts(AnswerModel):
    """The counts of a mailbox."""

    mailbox_id: str = Field(description="The mailbox")
    unread: int = Field(description="Messages without the keyword $seen")
    total: int = Field(description="Messages in it")


class CountsFrame(AnswerModel):
    """Numbers for badges: all mailboxes in sight after `subscribe` and `auth`, then those that changed.

    At most one frame a second and account. It has no cursor: counts that were missed come whole with the next
    subscription.
    """

    type: Literal["counts"] = "counts"
    account_id: str = Field(description="The account of the mailboxes")
    mailboxes: list[MailboxCounts] = Field(description="The mailboxes whose counts are sent")


class ResponseFrame(AnswerModel):
    """The answer to a `request` frame."""

    type: Literal["response"] = "response"
    id: str = Field(description="The `id` of the `request` frame")
    status: int = Field(description="The HTTP status")
    headers: dict[str, str] = Field(description="The headers of the answer, their names in lower case")
    body: Any = Field(description="The JSON body; null where the answer has none")


class LifecycleFrame(AnswerModel):
    """Something about the connection itself."""

    type: Literal["lifecycle"] = "lifecycle"
    event: str = Field(description="`token.expiring`: send the next token in an `auth` frame")
    expires_at: Time | None = Field(description="When the token ends")


class ErrorFrame(AnswerModel):
    """What a frame of the client's was refused with: the problem that HTTP answers."""

    type: Literal["error"] = "error"
    problem: StateExpiredProblem | Problem = Field(description="`errors` points at the members that are wrong")
    sub_id: str | None = Field(None, description="The `sub_id` of the frame, where it had one")
    id: str | None = Field(None, description="The `id` of the frame, where it had one: no `response` follows")


class ByeFrame(AnswerModel):
    """The last frame before the server closes the connection."""

    type: Literal["bye"] = "bye"
    code: int = Field(description="The close code")
    reason: str = Field(description="Why, in words")
    reconnect_after: int | None = Field(description="Seconds to wait before the next connection; null: none")
    cursor: dict[str, str] = Field(description="Account → the last event that was sent, for `after`")
