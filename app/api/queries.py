"""Queries with many parameters: a model validates them together, and recent queries are cached.

FastAPI's own query models process each field in Python on every request, which takes longer than listing messages.
FastAPI also ignores unknown parameters, so a misspelt parameter would count as absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.requests import HTTPConnection
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from app.api.schemas.base import checked_metadata_key
from app.errors import Fault, InvalidRequest
from app.mail.metadata import VALUE_LIMIT_CHARS
from app.mail.nearest import unknown

M = TypeVar("M", bound=BaseModel)

CACHED_CHARS = 1_000
PARAMETERS_LIMIT = 100
UNKNOWN_LIMIT = 20
"""The largest number of unknown parameters listed."""


def query_of(request: Request, model: type[M]) -> M:
    """Parse the request's query; the last of a repeated parameter counts. Raises RequestValidationError."""
    text = request.url.query
    read = _cached if len(text) <= CACHED_CHARS else _read
    query = read(model, text)
    assert isinstance(query, model)
    return query


def _read(model: type[BaseModel], text: str) -> BaseModel:
    try:
        values = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=PARAMETERS_LIMIT))
    except ValueError:
        fault = {"loc": ("query",), "msg": f"At most {PARAMETERS_LIMIT} parameters are allowed", "type": "too_long"}
        raise RequestValidationError([fault]) from None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [
            {**error_details, "loc": ("query", *error_details["loc"])}
            for error_details in error.errors(include_url=False)
        ]
        raise RequestValidationError(faults) from None


_cached = lru_cache(maxsize=1024)(_read)


def parameters_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads its query with `query_of`."""
    schema = model.model_json_schema(by_alias=True)
    required = schema.get("required", [])
    return {"parameters": [_parameter(name, field, name in required) for name, field in schema["properties"].items()]}


def _parameter(name: str, field: dict[str, Any], is_required: bool) -> dict[str, Any]:
    """Return a parameter from a field's schema, without `null`."""
    described = {"description": field.pop("description")} if "description" in field else {}
    kinds = [kind for kind in field.pop("anyOf", ()) if kind != {"type": "null"}]
    field |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
    return {"name": name, "in": "query", "required": is_required, **described, "schema": field}


_names: dict[str, frozenset[str]] = {}
"""The query parameters of routes by operation id."""


def refuse_unknown(connection: HTTPConnection) -> None:
    """Raise InvalidRequest for unknown parameters, with suggestions of similar names."""
    route = connection.scope.get("route")
    if not connection.scope["query_string"] or not isinstance(route, APIRoute):
        return
    name = route.unique_id
    if name not in _names:
        _names[name] = _names_of(route)
    unknown_names = connection.query_params.keys() - (_names[name] - {METADATA})
    surplus = [each for each in unknown_names if not _is_member(each, _names[name])]
    surplus = sorted(surplus)[:UNKNOWN_LIMIT]
    if surplus:
        raise InvalidRequest(
            faults=[Fault(unknown("parameter", each, _names[name]), parameter=each) for each in surplus]
        )


METADATA = "metadata"
METADATA_PARAMETER: dict[str, Any] = {
    "parameters": [
        {
            "name": METADATA,
            "in": "query",
            "required": False,
            "style": "deepObject",
            "explode": True,
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            "description": "`metadata[key]=value`: items with this value; all given conditions must match",
        }
    ]
}
"""The `openapi_extra` of a route that reads `metadata[key]=` with `metadata_query`."""
_MEMBER = re.compile(r"metadata\[([^\[\]]*)\]")


def metadata_query(request: Request) -> dict[str, str]:
    """Return the values of `metadata[key]=` parameters by key. Raises InvalidRequest for invalid keys."""
    values_by_key: dict[str, str] = {}
    for name, value in request.query_params.items():
        member = _MEMBER.fullmatch(name)
        if member is not None:
            try:
                values_by_key[checked_metadata_key(member[1])] = value[: VALUE_LIMIT_CHARS + 1]
            except ValueError as error:
                raise InvalidRequest.parameter(name, str(error)) from None
    return values_by_key


def _is_member(name: str, known: frozenset[str]) -> bool:
    return METADATA in known and _MEMBER.fullmatch(name) is not None


def _names_of(route: APIRoute) -> frozenset[str]:
    described = (item["name"] for item in (route.openapi_extra or {}).get("parameters", ()))
    return frozenset((*_declared(route.dependant), *described))


def _declared(dependant: Dependant) -> Iterator[str]:
    yield from (model_field.alias for model_field in dependant.query_params)
    for below in dependant.dependencies:
        yield from _declared(below)
