"""Requests with values that databases, headers or protocols cannot hold: no route answers 500, on either database.

The requests are made from the OpenAPI description: each parameter and each field of a body takes each hostile value.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from app.api.application import create_api

from tests.gateway import Gateway, open_gateway

LONG = "x" * 10_000
TEXTS = ("a\0b", "\ud800", "a\r\nB: c", "\u00e9\U0001f600", LONG, "9" * 40)
TIMES = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z")
NUMBERS = (10**40, -(10**40), 2**63, -(2**63) - 1)
HOSTILE: tuple[object, ...] = (*TEXTS, *TIMES, *NUMBERS)
IN_URLS = (*(one for one in TEXTS if one != "\ud800"), "%ED%A0%80", *TIMES, *map(str, NUMBERS))
PATHS = ("%00", "a%00b", "%ED%A0%80", "%C3%A9%F0%9F%98%80", "a%0d%0aB", LONG, "9" * 40)

API = create_api()
DESCRIPTION = API.openapi()
SKIPPED = ("signOut", "deleteAccount")
"""With ids that exist they would take away what the others are tried on."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A route as it is described. `body` is the schema of its JSON body."""

    name: str
    method: str
    path: str
    in_path: tuple[str, ...]
    in_query: tuple[str, ...]
    body: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Sent:
    """A request. `paths` and `query` are spelled as in a URL."""

    operation: Operation
    paths: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    content: str | None = None


def _operations() -> Iterator[Operation]:
    for path, methods in DESCRIPTION["paths"].items():
        for method, described in methods.items():
            named: dict[str, list[str]] = {where: [] for where in ("path", "query", "header")}
            for parameter in map(_parameter, described.get("parameters", ())):
                named[parameter["in"]].append(parameter["name"])
            body = described.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
            yield Operation(
                described["operationId"], method.upper(), path, tuple(named["path"]), tuple(named["query"]), body
            )


def _parameter(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """A parameter, or that of the components that a $ref leads to."""
    if "$ref" not in described:
        return described
    parameter: Mapping[str, Any] = DESCRIPTION["components"]["parameters"][described["$ref"].rpartition("/")[2]]
    return parameter


def _resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without $ref; of several, the first that is no null."""
    while "$ref" in schema or "anyOf" in schema or "oneOf" in schema:
        if "$ref" in schema:
            schema = DESCRIPTION["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        else:
            schema = next(one for one in schema.get("anyOf", schema.get("oneOf", ())) if one.get("type") != "null")
    return schema


SAMPLES: dict[str, object] = {
    "email": "cid@demo.test",
    "address": "bob@demo.test",
    "password": "secret",
    "kind": "embedded",
    "host": "127.0.0.1",
    "provider": "google",
    "content_base64": "aGVsbG8=",
    "url": "https://example.com/",
}


def _sample(name: str, schema: Mapping[str, Any], known: Mapping[str, str], depth: int = 0) -> Any:
    """A value that a field may have, with its required fields alone."""
    schema = _resolved(schema)
    singular = name.removesuffix("s")
    value: Any = known.get(name) or SAMPLES.get(name)
    if value is None and "enum" in schema:
        value = schema["enum"][0]
    if value is not None:
        return value
    match schema.get("type"):
        case "object":
            required = schema.get("required", ()) if depth < 3 else ()
            return {one: _sample(one, schema["properties"][one], known, depth + 1) for one in required}
        case "array":
            return [_sample(singular, schema.get("items", {}), known, depth + 1)]
        case "integer" | "number":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return True
        case _:
            return TIMES[2] if schema.get("format") == "date-time" else "a"


def _bodies(name: str, schema: Mapping[str, Any], known: Mapping[str, str], depth: int = 0) -> Iterator[Any]:
    """Bodies in each of which one field has a hostile value."""
    schema = _resolved(schema)
    if schema.get("type") == "object" and "properties" in schema and depth < 3:
        base = _sample(name, schema, known)
        for key, below in schema["properties"].items():
            for value in _bodies(key, below, known, depth + 1):
                yield base | {key: value} if isinstance(base, dict) else {key: value}
    elif schema.get("type") == "array" and depth < 3:
        for value in _bodies(name.removesuffix("s"), schema.get("items", {}), known, depth + 1):
            yield [value]
    else:
        yield from HOSTILE


def _requests(operation: Operation, known: Mapping[str, str]) -> Iterator[Sent]:
    paths = {name: known.get(name, "x") for name in operation.in_path}
    for name in operation.in_path:
        yield from (Sent(operation, paths | {name: value}) for value in PATHS)
    if operation.name in SKIPPED or operation.method == "DELETE":
        return
    quiet = "wait=0&" if "wait" in operation.in_query else ""
    for name in operation.in_query:
        for value in IN_URLS:
            text = value if value.startswith("%") else quote(value, safe="")
            sample = f"mailbox_id={known['mailbox_id']}&" if operation.name == "importMessage" != name else ""
            yield Sent(operation, paths, f"{sample}{'' if name == 'wait' else quiet}{quote(name)}={text}", "Subject: a")
    if operation.body is not None:
        query = f"mailbox_id={known['mailbox_id']}" if operation.name == "importMessage" else ""
        for body in _bodies("", operation.body, known):
            yield Sent(operation, paths, query, json.dumps(body))


@pytest.fixture
async def gateway(database_url: str | None, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path, database_url, requests_per_minute=10**9) as opened:
        yield opened


async def _known(gateway: Gateway) -> dict[str, str]:
    account_id = await gateway.harness.add_account("ann@demo.test")
    inbox = await gateway.harness.mailbox(account_id)
    content = await gateway.harness.store.keep(b"From: Bob <bob@demo.test>\r\nSubject: Hello\r\n\r\nHello\r\n")
    applied = await gateway.harness.store.add(account_id, inbox.id, [(content, frozenset(), None)])
    (message_id,) = applied.message_ids.values()
    (message,) = await gateway.harness.reader.messages.find(account_id, [message_id])
    ids = {"account_id": account_id, "mailbox_id": inbox.id, "message_id": message_id, "thread_id": message.thread_id}
    return {**ids, "reply_to_message_id": message_id, "save_to": inbox.id, "parent_id": inbox.id}


async def _status(client: httpx2.AsyncClient, sent: Sent) -> int:
    path = sent.operation.path.format(**sent.paths)
    kind = "message/rfc822" if sent.content == "Subject: a" else "application/json"
    response = await client.request(
        sent.operation.method,
        f"{path}?{sent.query}" if sent.query else path,
        content=sent.content,
        headers={"Content-Type": kind} if sent.content is not None else {},
    )
    return response.status_code


async def test_no_route_fails_on_a_hostile_value(gateway: Gateway) -> None:
    known = await _known(gateway)
    transport = httpx2.ASGITransport(app=gateway.app, raise_app_exceptions=False)
    client = httpx2.AsyncClient(
        transport=transport, base_url="http://postgate.test", headers=dict(gateway.admin.headers)
    )
    asked = [sent for operation in _operations() for sent in _requests(operation, known)]

    failed = [(sent.operation.name, sent) for sent in asked if await _status(client, sent) == 500]

    assert len(asked) > 1_000
    assert failed == []
