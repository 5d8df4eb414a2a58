"""Generates the API's description: OpenAPI from the routes, AsyncAPI from the frames of the stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app import errors
from app.api.deps import Access
from app.api.description.examples import add_examples
from app.api.description.headers import ANSWER_HEADERS, add_headers
from app.api.description.shapes import CONTACT, LICENSE, TAGS, complete_shapes, with_plain_names
from app.api.description.shared import share_parameters, share_problems
from app.api.description.words import add_descriptions
from app.api.problems import HeadTooLarge, response_of
from app.api.routing import access_of
from app.api.schemas import stream
from app.api.schemas.base import AnswerModel, Problem, RequestModel, StateExpiredProblem
from app.api.schemas.stream_examples import FRAME_EXAMPLES
from app.api.schemas.submissions import MessageInput
from app.errors import GatewayError
from app.version import VERSION

REF = "#/components/schemas/{model}"
_METHODS = ("get", "post", "patch", "put", "delete", "head")
_DESCRIPTION = """REST and WebSocket API of Postgate, a gateway to mail servers.

Send `Authorization: Bearer` with a server key or an account token in every request. With a token for one account,
`/v1/me/…` is the same as `/v1/accounts/{account_id}/…`, and `me` can be used as the account id. Errors are
`application/problem+json`; every code has a page at `/v1/problems/{code}`.
"""
_ALWAYS: tuple[type[GatewayError], ...] = (errors.NotAuthenticated, errors.NotPermitted, errors.RateLimited)
_WITH_BODY: tuple[type[GatewayError], ...] = (errors.MalformedRequest, errors.TooLarge, errors.UnsupportedMedia)
_BEARER = "A server key, an account token or the access token of a sign-in"


def describe(app: FastAPI, routers: Iterable[APIRouter]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of an application with these routers."""
    document: dict[str, Any] = get_openapi(
        title=app.title, version=app.version, description=_DESCRIPTION, routes=app.routes, openapi_version="3.1.0"
    )
    accesses = {
        (route.path_format, method.lower()): access_of(route)
        for route in http_routes(routers)
        for method in route.methods or ()
    }
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                _order_parameters(operations[method], path)
                _complete(operations[method], accesses[path, method])
    # referenced by routes that read their body themselves
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas.update(_schemas([MessageInput], "validation"), **_schemas([Problem, StateExpiredProblem], "serialization"))
    document = with_plain_names(document)
    document["components"] |= {
        "schemas": dict(sorted(document["components"]["schemas"].items())),
        "headers": ANSWER_HEADERS,
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": _BEARER}},
    }
    document |= {"tags": TAGS, "servers": [{"url": "/", "description": "This Postgate"}]}
    document["info"] |= {"license": LICENSE, "contact": CONTACT}
    complete_shapes(document)
    add_descriptions(document)
    add_examples(document)
    share_problems(document)
    share_parameters(document)
    return document


def http_routes(routers: Iterable[APIRouter]) -> Iterator[APIRoute]:
    """Yield every HTTP route of the routers."""
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute):
                yield route


def _order_parameters(operation: dict[str, Any], path: str) -> None:
    """Put the path parameters first, in the order of the path: generated clients take them in this order."""
    parameters = operation.get("parameters")
    if parameters:
        parameters.sort(key=lambda item: path.index("{" + item["name"] + "}") if item["in"] == "path" else len(path))


def _complete(operation: dict[str, Any], access: Access | None) -> None:
    """Add the required scope, and the problems that every route of this kind may return."""
    responses = operation["responses"]
    if _is_generated(responses.get("422")):
        del responses["422"]
    kinds: list[type[GatewayError]] = [GatewayError]
    operation["security"] = []
    if access is not None and not access.is_public:
        operation["security"] = [{"bearer": []}]
        operation["x-scope"] = access.scope
        kinds += _ALWAYS
    if "requestBody" in operation:
        kinds += _WITH_BODY
    if operation.get("parameters") or "requestBody" in operation:
        kinds.append(errors.InvalidRequest)
    if any(item["in"] == "path" for item in operation.get("parameters", ())):
        kinds.append(errors.NotFound)
    if not any(status.startswith("4") for status in responses) and not kinds[1:]:
        kinds.append(HeadTooLarge)
    for kind in kinds:
        responses.setdefault(str(kind.problem.status), response_of([kind]))
    operation["responses"] = dict(sorted(responses.items()))
    add_headers(operation)


def _is_generated(response: dict[str, Any] | None) -> bool:
    """Whether this is the framework's own 422, which Postgate never returns."""
    return response is not None and "HTTPValidationError" in json.dumps(response)


def _schemas(models: Iterable[type[BaseModel]], mode: str) -> dict[str, Any]:
    inputs: list[Any] = [(model, mode) for model in models]
    definitions: dict[str, Any] = models_json_schema(inputs, ref_template=REF)[1]["$defs"]
    return definitions


def describe_stream() -> dict[str, Any]:
    """Return the AsyncAPI 3.1 document of `/v1/stream`."""
    sent, received = _frames(RequestModel), _frames(AnswerModel)
    schemas = {**_schemas(sent, "validation"), **_schemas(received, "serialization")}
    messages = {model.__name__: _message(model) for model in (*sent, *received)}
    return {
        "asyncapi": "3.1.0",
        "info": {"title": "Postgate stream", "version": VERSION, "description": (stream.__doc__ or "").strip()}
        | {"license": {"name": LICENSE["name"]}, "contact": CONTACT},
        "defaultContentType": "application/json",
        "servers": {"local": {"host": "127.0.0.1:8080", "protocol": "ws"}},
        "channels": {
            "stream": {
                "address": "/v1/stream",
                "description": "Sub-protocol postgate.v1; authorised by header, ticket or an auth frame within 5 s.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": {
            "clientSends": _operation("receive", sent),
            "clientReceives": _operation("send", received),
        },
        "components": {"messages": messages, "schemas": dict(sorted(_for_asyncapi(schemas).items()))},
    }


def _for_asyncapi(schema: Any) -> Any:
    """Convert an OpenAPI schema to AsyncAPI 3, whose discriminators are property names only."""
    if isinstance(schema, list):
        return [_for_asyncapi(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value["propertyName"] if name == "discriminator" and "mapping" in value else _for_asyncapi(value)
        for name, value in schema.items()
    }


def _frames(base: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the frames of one side: RequestModel for the client, AnswerModel for Postgate."""
    return [
        model
        for name, model in vars(stream).items()
        if name.endswith("Frame") and isinstance(model, type) and issubclass(model, base)
    ]


def _message(model: type[BaseModel]) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": model.__name__.removesuffix("Frame").lower(),
        "payload": {"$ref": REF.format(model=model.__name__)},
        "examples": [{"payload": example} for example in FRAME_EXAMPLES[model.__name__]],
    }
    summary = (model.__dict__.get("__doc__") or "").strip().partition("\n")[0]
    return {**message, "summary": summary} if summary else message


def _operation(action: str, models: Iterable[type[BaseModel]]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/stream"},
        "messages": [{"$ref": f"#/channels/stream/messages/{model.__name__}"} for model in models],
    }


def openapi_text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def asyncapi_text() -> str:
    import yaml

    text: str = yaml.safe_dump(describe_stream(), sort_keys=False, allow_unicode=True, width=120)
    return text


def write(app: FastAPI, folder: Path) -> None:
    """Write openapi.json and asyncapi.yaml."""
    (folder / "openapi.json").write_text(openapi_text(app.openapi()))
    (folder / "asyncapi.yaml").write_text(asyncapi_text())
