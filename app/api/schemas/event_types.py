"""Event schemas, generated from the registry (`app/mail/events.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from typing_extensions import TypeAliasType

from app.api.schemas.base import AnswerModel, ProblemCode, Time
from app.api.schemas.messages import MessageIds, MessageSummary
from app.api.schemas.quotas import CountedBy, QuotaUse
from app.api.schemas.submissions import RecipientStatus, SubmissionStatus
from app.mail.backend import SyncMode
from app.mail.events import EVENTS, Absent, EventData
from app.mail.types import Role

_SHAPES: dict[str, Any] = {
    "message": Annotated[MessageSummary | MessageIds, Field(discriminator="view")],
    "recipients": list[RecipientStatus],
    "items": list[QuotaUse],
    "role": Role | None,
    "sync_mode": SyncMode,
    "code": ProblemCode,
    "status": SubmissionStatus,
    "counted_by": CountedBy,
}
"""Event fields whose value is an object or enumeration of the API."""


class CausedBy(AnswerModel):
    """The request that made a change."""

    request_id: str = Field(description="The `Request-Id` of its answer")
    client_id: str | None = Field(description="Its `Client-Id` header; an app can recognise its own changes by it")


class AnyEventData(AnswerModel):
    """Members of the data of every event. A token without `mail.read` gets only the ids."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    account_id: str
    caused_by: CausedBy | None = Field(None, description="Absent if no request caused the event")


class CloudEvent(AnswerModel):
    """Members of every event (CloudEvents 1.0)."""

    specversion: Literal["1.0"]
    id: str = Field(description="The same for a repeated event: delivery is at least once")
    source: str
    type: str
    subject: str
    time: Time
    datacontenttype: Literal["application/json"]


def event_name(type_: str) -> str:
    """Return the schema's name: `message.created` → `MessageCreated`."""
    return "".join(word.capitalize() for word in type_.replace("_", ".").split("."))


def _event_model(kind: type[EventData]) -> type[BaseModel]:
    name = event_name(kind.type)
    hints = get_type_hints(kind)
    members: dict[str, Any] = {}
    for field in fields(kind):
        is_required = field.default is MISSING
        shape = _SHAPES.get(field.name) or _json_type(hints[field.name])
        alias = field.name.rstrip("_")
        members[field.name] = (shape, Field(... if is_required else None, alias=alias))
    data = create_model(f"{name}Data", __base__=AnyEventData, **members)
    shape_of_type: Any = Literal[kind.type]
    return create_model(
        f"{name}Event", __base__=CloudEvent, __doc__=kind.when, type=(shape_of_type, ...), data=(data, ...)
    )


def _json_type(hint: Any) -> Any:
    """Return the JSON type of a field: a list for a sequence, without the type of absent fields."""
    if get_origin(hint) is Sequence:
        return list[get_args(hint)[0]]  # type: ignore[misc]  # a type created at run time
    parts = get_args(hint)
    if Absent in parts:
        return _union(_json_type(part) for part in parts if part is not Absent)
    return hint


def _union(types: Iterable[Any]) -> Any:
    return reduce(or_, types)


EVENT_MODELS: dict[str, type[BaseModel]] = {type_: _event_model(kind) for type_, kind in EVENTS.items()}
"""The model of each event by its type."""

if TYPE_CHECKING:
    Event = CloudEvent  # mypy cannot read a union that is created at run time
else:
    Event = TypeAliasType("Event", Annotated[_union(EVENT_MODELS.values()), Field(discriminator="type")])
