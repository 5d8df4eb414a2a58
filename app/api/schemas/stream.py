"""Frames of the stream: one JSON object each, told apart by `type`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter, WithJsonSchema
from typing_extensions import TypeAliasType

from app.api.schemas.base import AnswerModel, Id, Integer, Problem, RequestModel, StateExpiredProblem, Sync, Time
from app.api.schemas.event_types import Event
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
    """Begin to hear of accounts; a `sub_id` that is in use is replaced."""

    type: Literal["subscribe"]
    sub_id: SubscriptionId
    accounts: Annotated[list[Id], Field(max_length=LIST_LIMIT)] | Literal["*"]
    mailboxes: Annotated[list[Id], Field(max_length=LIST_LIMIT)] | Literal["*"] | None = Field(
        None, description="Ids, or names of roles such as `inbox`; default: all"
    )
    roles: Annotated[list[RoleName], Field(max_length=20)] | None = Field(
        None, description="Mailboxes with these roles, beside `mailboxes`; also those that get a role later"
    )
    types: Annotated[list[SubscribedType], Field(max_length=100)] | None = Field(
        None, description="What to hear of; default: all events, and `counts`"
    )
    view: Literal["ids", "summary"] = "summary"
    after: Cursor | dict[Id, Cursor] | None = Field(
        None, description="`now` (default), `earliest`, a cursor (one account), or a map account → cursor; exclusive"
    )
    consumer: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = Field(
        None, description="Resume after what this name has acknowledged, where `after` is not given"
    )


class UnsubscribeFrame(RequestModel):
    type: Literal["unsubscribe"]
    sub_id: SubscriptionId


class AckFrame(RequestModel):
    """Everything up to this cursor has been dealt with; kept for the subscription's `consumer`."""

    type: Literal["ack"]
    cursor: Cursor
    account_id: Id | None = None
    sub_id: SubscriptionId | None = Field(
        None, description="Whose `consumer` it is kept for; needed where several with a consumer follow the account"
    )


class AuthFrame(RequestModel):
    """The token of this connection: the first one, or a newer one before the old one ends."""

    type: Literal["auth"]
    token: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class RequestFrame(RequestModel):
    """Any call of the REST API."""

    type: Literal["request"]
    id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: Annotated[str, StringConstraints(pattern=r"^/v1/", max_length=8192)]
    headers: dict[str, str] = Field(default_factory=dict, max_length=20)
    body: Any = None


class PingFrame(RequestModel):
    type: Literal["ping"]
    id: Annotated[str, StringConstraints(max_length=64)] | None = None


class PongFrame(RequestModel):
    type: Literal["pong"]
    id: Annotated[str, StringConstraints(max_length=64)] | None = None


ClientFrame = Annotated[
    SubscribeFrame | UnsubscribeFrame | AckFrame | AuthFrame | RequestFrame | PingFrame | PongFrame,
    Field(discriminator="type"),
]
CLIENT_FRAME: TypeAdapter[ClientFrame] = TypeAdapter(ClientFrame)

# ---- what clients get


class HelloFrame(AnswerModel):
    type: Literal["hello"] = "hello"
    session_id: str
    heartbeat_seconds: Integer
    limits: dict[str, int]
    server_time: Time


class SubscribedFrame(AnswerModel):
    """`cursor` and `state` map each account to where the subscription begins; `sync` to how fresh it is."""

    type: Literal["subscribed"] = "subscribed"
    sub_id: str
    cursor: dict[str, str]
    state: dict[str, str]
    sync: dict[str, Sync]


class AuthenticatedFrame(AnswerModel):
    """The answer to an `auth` frame: the token is now that of the connection."""

    type: Literal["authenticated"] = "authenticated"
    expires_at: Time | None = Field(description="When the token ends; null if it does not")


class EventFrame(AnswerModel):
    type: Literal["event"] = "event"
    sub_ids: list[str]
    seq: int
    cursor: str
    event: Event


class StateFrame(AnswerModel):
    """Too much happened to tell one by one: the newest state of each account, for `/changes`."""

    type: Literal["state"] = "state"
    states: dict[str, str]


class GapFrame(AnswerModel):
    """Events between these cursors are not kept any more: call `/changes`."""

    type: Literal["gap"] = "gap"
    account_id: str
    from_: str = Field(alias="from")
    to: str
    reason: str


class MailboxCounts(AnswerModel):
    mailbox_id: str
    unread: int = Field(description="Messages without the keyword $seen")
    total: int = Field(description="Messages in it")


class CountsFrame(AnswerModel):
    """Numbers for badges: all mailboxes in sight after `subscribe` and `auth`, then those that changed.

    At most one frame a second and account. It has no cursor: counts that were missed come whole with the next
    subscription.
    """

    type: Literal["counts"] = "counts"
    account_id: str
    mailboxes: list[MailboxCounts]


class ResponseFrame(AnswerModel):
    type: Literal["response"] = "response"
    id: str
    status: int
    headers: dict[str, str]
    body: Any


class LifecycleFrame(AnswerModel):
    type: Literal["lifecycle"] = "lifecycle"
    event: str
    expires_at: Time | None


class ErrorFrame(AnswerModel):
    """What a frame of the client's was refused with: the problem that HTTP answers."""

    type: Literal["error"] = "error"
    problem: StateExpiredProblem | Problem
    sub_id: str | None = None


class ByeFrame(AnswerModel):
    type: Literal["bye"] = "bye"
    code: int
    reason: str
    reconnect_after: int | None
    cursor: dict[str, str]
