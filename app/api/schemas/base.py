"""Base classes of schemas, and schemas that many routes return."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PlainSerializer,
    SecretStr,
    Strict,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError
from typing_extensions import TypeAliasType

from app.mail.backend import SyncMode
from app.mail.identifiers import now_ms
from app.mail.metadata import KEY_LIMIT_CHARS, KEYS_LIMIT, VALUE_LIMIT_CHARS
from app.mail.storable import storable
from app.mail.summaries import iso
from app.problems import PROBLEMS
from app.services.accounts.accounts import SyncState

T = TypeVar("T")

UNKNOWN_LIMIT = 20
"""The largest number of unknown fields listed for an object."""

Integer = Annotated[int, Strict()]
"""An integer, never converted from a string or boolean."""
Boolean = Annotated[bool, Strict()]
Id = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.~-]+$")]
Time = Annotated[
    datetime,
    PlainSerializer(lambda time: iso(round(time.timestamp() * 1000)), return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""RFC 3339 in UTC, to the second."""
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _checked_time(value: object) -> object:
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("Must be an RFC 3339 time with an offset, such as 2026-01-31T12:00:00Z")
    return value


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError("Must be in the years 1 to 9999, in UTC too") from None


GivenTime = Annotated[datetime, BeforeValidator(_checked_time), AfterValidator(_in_utc)]
"""A time in a request, with an offset: a time without an offset would be ambiguous."""
LINE_PATTERN = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*$"
"""A text without line ends or other control characters, safe in a header or a protocol line."""


def time_of(ms: int) -> datetime:
    """Convert milliseconds since 1970 to a datetime in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def _date_as_time(value: object) -> object:
    return f"{value}T00:00:00Z" if isinstance(value, str) and _DATE.fullmatch(value) else value


GivenDate = Annotated[
    GivenTime,
    BeforeValidator(_date_as_time),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d\d-\d\d([Tt].+)?$"}),
]
"""A time, or a date, which means its midnight in UTC.

OpenAPI describes it as a plain string: generators for Kotlin and Swift make an empty type from a choice of formats.
"""


def _storable_text(text: str) -> str:
    if storable(text) != text:
        raise ValueError("Must not contain NUL or lone surrogates")
    return text


LONG_TEXT_CHARS = 512 * 1024
"""Bodies with texts longer than this are parsed by orjson (`api.long_texts`)."""


class RequestModel(BaseModel):
    """A request body: `null` means that a field is absent.

    An unknown field is an error with the known field names in `known`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    CLEARABLE: ClassVar[frozenset[str] | None] = None
    """The optional fields that may be `null`; None: all."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema with `null` where a request may have it, and with defaults in descriptions.

        Client generators treat a field with a `default` as required.
        """
        schema = handler.resolve_ref_schema(handler(core_schema))
        for name, field in schema.get("properties", {}).items():
            if name not in schema.get("required", ()):
                _describe_optional(field, may_be_null=cls.CLEARABLE is None or name in cls.CLEARABLE)
        return schema

    @model_validator(mode="wrap")
    @classmethod
    def _with_known_fields(cls, values: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            if not any(_is_unknown_field(each) for each in errors):
                raise
            raise ValidationError.from_exception_data(cls.__name__, _explained(errors, _names_of(cls))) from None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: object) -> object:
        if isinstance(values, dict) and None in values.values():
            known = _names_of(cls)
            return {name: value for name, value in values.items() if value is not None or name not in known}
        return values

    @field_validator("*", mode="after")
    @classmethod
    def _is_storable(cls, value: object) -> object:
        """Refuse NUL and lone surrogates, which databases, headers and protocols do not accept."""
        for text in value if isinstance(value, list) else (value,):
            plain = text.get_secret_value() if isinstance(text, SecretStr) else text
            if isinstance(plain, str) and not _can_be_stored(plain):
                raise ValueError("Must not contain NUL or lone surrogates")
        return value


def _can_be_stored(text: str) -> bool:
    """Whether a text has no NUL and no lone surrogate.

    A longer text comes from a JSON body, whose parser has already refused lone surrogates. Searching 10 MB of text that
    is not ASCII again would block the event loop for 35 ms.
    """
    return "\0" not in text if len(text) > LONG_TEXT_CHARS else storable(text) == text


_NULL: JsonSchemaValue = {"type": "null"}
_WORDS = ("title", "description", "examples", "deprecated")


def _describe_optional(field: JsonSchemaValue, *, may_be_null: bool) -> None:
    """Change the schema of an optional field: whether it accepts `null`, and its default in the description."""
    default = field.pop("default", None)
    if default not in (None, "", []) and not isinstance(default, dict):
        text_of_default = json.dumps(default[0] if isinstance(default, list) else default).strip('"')
        text = field.get("description", "")
        end = "." if text and text[-1] not in ".!?" else ""
        field["description"] = f"{text}{end} Default: `{text_of_default}`.".lstrip()
    words: JsonSchemaValue = {name: field.pop(name) for name in _WORDS if name in field}
    kinds = [kind for kind in field.pop("anyOf", None) or [dict(field)] if kind != _NULL]
    field.clear()
    if may_be_null:
        field["anyOf"] = [*kinds, _NULL]
    else:
        field |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    field |= words


def _names_of(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _is_unknown_field(error: ErrorDetails) -> bool:
    """Whether this is an unknown field of the model itself, not of a nested model."""
    return error["type"] == "extra_forbidden" and len(error["loc"]) == 1


def _explained(errors: Sequence[ErrorDetails], known: list[str]) -> list[InitErrorDetails]:
    """Return the errors; the first `UNKNOWN_LIMIT` unknown fields of the model get the names of its fields."""
    surplus = [each for each in errors if _is_unknown_field(each)][:UNKNOWN_LIMIT]
    others = [each for each in errors if not _is_unknown_field(each)]
    explained = [(PydanticCustomError("extra_forbidden", "Unknown field", {"known": known}), each) for each in surplus]
    explained += [(PydanticCustomError(each["type"], each["msg"]), each) for each in others]
    return [InitErrorDetails(type=kind, loc=each["loc"], input=None) for kind, each in explained]


def checked_metadata_key(key: str) -> str:
    """Return a valid metadata key. Raises ValueError."""
    if not key or len(key) > KEY_LIMIT_CHARS or not key.isprintable() or "[" in key or "]" in key:
        raise ValueError(f"A metadata key must have 1 to {KEY_LIMIT_CHARS} printable characters without brackets")
    return key


MetadataKey = Annotated[str, AfterValidator(checked_metadata_key)]
MetadataValue = Annotated[str, StringConstraints(max_length=VALUE_LIMIT_CHARS), AfterValidator(_storable_text)]
MetadataInput = Annotated[
    dict[MetadataKey, MetadataValue],
    Field(
        max_length=KEYS_LIMIT,
        description=f"Data of your app: up to {KEYS_LIMIT} keys of {KEY_LIMIT_CHARS} characters, values of "
        f"{VALUE_LIMIT_CHARS}. Responses and events include it, and lists can be filtered by it.",
    ),
]
MetadataOutput = Annotated[dict[str, str], Field(description="Data of your app")]


class PatchModel(RequestModel):
    """Changes to a resource (RFC 7396): absent fields do not change, `null` clears a field.

    `CLEARABLE` has the fields that can be cleared; `null` in any other field is an error.
    """

    CLEARABLE: ClassVar[frozenset[str] | None] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, values: object) -> object:
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _is_clearable(cls, value: object, info: ValidationInfo) -> object:
        if value is None and info.field_name not in (cls.CLEARABLE or ()):
            raise ValueError("This field cannot be cleared; leave it out to keep its value")
        return value


class AnswerModel(BaseModel):
    """A response object: every field is always present."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema without defaults, which have no meaning in a response."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        for field in schema.get("properties", {}).values():
            field.pop("default", None)
        return schema


class Sync(AnswerModel):
    """How fresh the data of an account is."""

    status: Literal["initial", "live", "down", "paused"] = Field(
        description="`initial`: the initial sync is running, and lists already work; `live`: changes are followed; "
        "`down`: the mail server cannot be reached; `paused`: the account is not in use"
    )
    mode: SyncMode = Field(description="How Postgate learns of changes")
    lag_seconds: int | None = Field(
        description="Seconds since the mail server last confirmed this state; 0: it is being watched; null: never"
    )
    checked_at: Time | None = Field(description="When the mail server last confirmed this state; null: never")

    @classmethod
    def of(cls, state: SyncState) -> Sync:
        return cls.model_validate(freshness(state))


def freshness(state: SyncState) -> dict[str, Any]:
    """Return the fields of Sync."""
    checked_at_ms = now_ms() if state.mode is SyncMode.EMBEDDED else state.checked_at_ms
    checked_at = time_of(checked_at_ms) if checked_at_ms else None
    return {"status": state.status, "mode": state.mode, "lag_seconds": state.lag_seconds, "checked_at": checked_at}


class Page(AnswerModel, Generic[T]):
    """A page of a list."""

    items: list[T] = Field(description="The items of this page")
    next_cursor: str | None = Field(None, description="The `cursor` of the next page; null on the last page")
    prev_cursor: str | None = Field(None, description="The `cursor` of the previous page; null on the first page")


ProblemCode = TypeAliasType(
    "ProblemCode",
    Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "enum": sorted(PROBLEMS),
                "description": "The kind of a problem; each has a page at `/v1/problems/{code}`.",
            }
        ),
    ],
)


class ProblemOrigin(AnswerModel):
    """The response of the mail server."""

    protocol: str = Field(description="The protocol: imap, pop3 or smtp")
    response: str = Field(description="The response line")
    enhanced_code: str | None = Field(description="Its enhanced status code (RFC 3463), if it sent one")


class ProblemFault(AnswerModel):
    """One fault of the request. It has a `pointer` or a `parameter`."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    detail: str = Field(description="What is wrong")
    pointer: str | None = Field(None, description="A JSON pointer (RFC 6901) into the body")
    parameter: str | None = Field(None, description="The name of a parameter or header")


class Problem(AnswerModel):
    """An error (RFC 9457)."""

    type: str = Field(description="The page that explains this kind of problem, relative to the server")
    title: str = Field(description="The kind of problem in a few words")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="What went wrong with this request")
    code: ProblemCode = Field(description="The kind of problem, for programs")
    retryable: bool = Field(description="Whether the same request may succeed later")
    fix: str | None = Field(None, description="What the caller can do, if anything")
    request_id: str = Field(description="The request, as in the header `Request-Id`")
    origin: ProblemOrigin | None = Field(None, description="The response of the mail server, if it caused the problem")
    errors: list[ProblemFault] = Field([], description="The errors of an invalid request; otherwise empty")


class StateExpiredProblem(Problem):
    """A state or cursor that has expired."""

    mailbox_ids: list[str] = Field(description="Mailboxes to list again; if it is empty, /changes has the difference")
