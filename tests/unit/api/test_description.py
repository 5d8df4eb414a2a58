"""The description follows from the code, and the files that hold it are never behind."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from app.api.application import create_api
from app.api.openapi import asyncapi_text, describe_stream, http_routes, openapi_text
from app.api.planned import PLANNED
from app.api.routes import ROUTERS
from app.api.routing import access_of
from app.problems import PROBLEMS
from app.services.access.callers import Scope
from fastapi.routing import APIRoute

from tests.gateway import Gateway

FOLDER = Path(__file__).parents[3] / "openapi"
ROUTES = list(http_routes(ROUTERS))
PUBLIC = re.compile(
    r"/v1|/v1/health/.*|/v1/(openapi\.json|asyncapi\.yaml)|/docs.*|/v1/problems/.*|/v1/session(/refresh)?|/v1/connect/(callback|\{secret\})|/v1/links/\{link\}"
)
ADMIN = re.compile(r"/v1/tokens.*|/metrics")


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document, made once for all tests."""
    return create_api().openapi()


def _name(route: APIRoute) -> str:
    return f"{'/'.join(sorted(route.methods or ()))} {route.path}"


@pytest.mark.parametrize("route", ROUTES, ids=_name)
def test_every_route_declares_what_its_callers_need(route: APIRoute) -> None:
    access = access_of(route)

    assert access is not None
    if access.is_public:
        assert PUBLIC.fullmatch(route.path)
    elif ADMIN.fullmatch(route.path):
        assert access.scope is Scope.ADMIN
    elif access.scope is None:
        assert (route.path, route.methods) == ("/v1/session", {"DELETE"})


def test_operation_ids_are_verbs_and_unique() -> None:
    ids = [route.operation_id for route in ROUTES if route.include_in_schema]

    assert len(ids) == len(set(ids))
    assert [one for one in ids if not re.fullmatch(r"[a-z]+[A-Z][A-Za-z]+", one or "")] == []


def test_openapi_json_is_what_the_code_says() -> None:
    assert (FOLDER / "openapi.json").read_text() == openapi_text(document()), "run: make openapi"


def test_asyncapi_yaml_is_what_the_code_says() -> None:
    assert (FOLDER / "asyncapi.yaml").read_text() == asyncapi_text(), "run: make openapi"


def test_a_state_that_is_gone_is_described_with_the_mailboxes_to_read_anew() -> None:
    components = document()["components"]
    gone = [
        response["content"]["application/problem+json"]["schema"]["$ref"]
        for response in components["responses"].values()
        if "state_expired" in response["x-problems"]
    ]

    assert set(gone) == {"#/components/schemas/StateExpiredProblem"}
    assert "mailbox_ids" in components["schemas"]["StateExpiredProblem"]["required"]


def _schemas(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, list):
        for item in value:
            yield from _schemas(item)
    elif isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value
        for name, item in value.items():
            if name != "example":
                yield from _schemas(item)


def _operations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation, with the components that its parameters and responses refer to in their place."""
    described = document()
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            yield (
                f"{method} {path}",
                {
                    **operation,
                    "parameters": [_resolved(each) for each in operation.get("parameters", ())],
                    "responses": {status: _resolved(each) for status, each in operation["responses"].items()},
                },
            )


def _resolved(described: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in described:
        return described
    _, kind, name = described["$ref"].removeprefix("#/").split("/")
    component: dict[str, Any] = document()["components"][kind][name]
    return component


def _is_described(shape: dict[str, Any]) -> bool:
    """Whether its description says more than what its default is."""
    return bool(shape.get("description", "").partition("Default: `")[0])


def test_every_schema_field_and_parameter_is_described() -> None:
    schemas = document()["components"]["schemas"]
    bare = [name for name, schema in schemas.items() if not schema.get("description")]
    bare += [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, shape in schema.get("properties", {}).items()
        if not _is_described(shape)
    ]
    bare += [
        f"{name} {parameter['name']}"
        for name, operation in _operations()
        for parameter in operation["parameters"]
        if not _is_described(parameter)
    ]

    assert bare == [], "describe it beside its schema, or in app/api/description/words.py"


def test_every_body_has_an_example_and_a_schema() -> None:
    contents = [
        (name, media_type, content)
        for name, operation in _operations()
        for body in (operation.get("requestBody", {}), *operation["responses"].values())
        for media_type, content in body.get("content", {}).items()
    ]

    assert [
        each[:2] for each in contents if not {"example", "examples"} & each[2].keys() or not each[2].get("schema")
    ] == []


def test_every_answer_with_problems_is_described_once_with_an_example_of_each() -> None:
    described = document()
    responses = described["components"]["responses"]
    referred = re.findall(r"#/components/responses/(\w+)", openapi_text(described))
    examples = {
        name: [each["value"] for each in response["content"]["application/problem+json"]["examples"].values()]
        for name, response in responses.items()
    }

    assert set(referred) == set(responses)
    assert "application/problem+json" not in json.dumps(described["paths"])
    for name, response in responses.items():
        codes = [example["code"] for example in examples[name]]
        assert codes == response["x-problems"]
        assert [example["title"] for example in examples[name]] == [PROBLEMS[code].title for code in codes]
        assert len({example["status"] for example in examples[name]}) == 1


def test_operations_refer_to_responses_of_their_status() -> None:
    for name, operation in _operations():
        for status, response in operation["responses"].items():
            for code in response.get("x-problems", ()):
                assert str(PROBLEMS[code].status) == status, name


def test_a_parameter_of_paths_and_headers_that_operations_share_is_described_once() -> None:
    inline = [
        (parameter["in"], parameter["name"])
        for operations in document()["paths"].values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
        if parameter.get("in") in ("path", "header")
    ]

    assert [each for each in inline if inline.count(each) > 1 and each != ("header", "accept")] == []


def test_every_operation_says_who_may_call_it_and_how_it_fails() -> None:
    for name, operation in _operations():
        assert "security" in operation, name
        assert "500" in operation["responses"], name
        assert operation["tags"], name
        for response in operation["responses"].values():
            assert "Request-Id" in response["headers"], name


def test_requests_and_answers_have_no_defaults_that_generators_would_make_obligatory() -> None:
    schemas = document()["components"]["schemas"]

    assert [schema for schema in _schemas(schemas) if "default" in schema] == []


def test_every_integer_says_how_large_it_is() -> None:
    assert [each for each in _schemas(document()) if each["type"] == "integer" and "format" not in each] == []


def test_null_is_accepted_where_the_schema_says_so() -> None:
    schemas = document()["components"]["schemas"]
    null = {"type": "null"}

    assert null in schemas["CreateMailbox"]["properties"]["role"]["anyOf"]
    assert null in schemas["SendRequest"]["properties"]["undo_seconds"]["anyOf"]
    assert null in schemas["UpdateMailbox"]["properties"]["role"]["anyOf"]
    assert "anyOf" not in schemas["UpdateMailbox"]["properties"]["name"]


def test_only_headers_metadata_and_maps_by_account_are_free_form() -> None:
    names = {"headers", "metadata", "links", "value", "example"}
    free = [
        f"{name}.{field}"
        for name, schema in document()["components"]["schemas"].items()
        for field, shape in schema.get("properties", {}).items()
        if field not in names and any(each.get("additionalProperties") for each in _schemas(shape))
    ]

    assert free == []


def test_no_operation_is_both_built_and_planned() -> None:
    built = {
        (re.sub(r"{[^}]*}", "{}", route.path_format), method) for route in ROUTES for method in route.methods or ()
    }
    planned = {
        (re.sub(r"{[^}]*}", "{}", path), method) for path, methods in PLANNED.items() for method in methods.split()
    }

    assert planned & built == set(), "built: remove the row from app/api/planned.py"


def test_every_post_that_creates_or_sends_can_be_repeated_safely() -> None:
    creating = [
        (name, {parameter["name"].lower() for parameter in operation["parameters"]})
        for name, operation in _operations()
        if name.startswith("post ")
        and ("201" in operation["responses"] or name.endswith(("/send", "/copy", "/refresh")))
    ]

    assert len(creating) > 8
    assert [path for path, names in creating if "idempotency-key" not in names] == []


def test_every_reference_of_the_descriptions_leads_somewhere() -> None:
    for described in (document(), describe_stream()):
        text = openapi_text(described)
        assert "#/$defs/" not in text
        for kind, name in set(re.findall(r'"#/components/(\w+)/([^"]+)"', text)):
            assert name in described["components"][kind]
        for name in set(re.findall(r'"#/channels/stream/messages/([^"]+)"', text)):
            assert name in described["components"]["messages"]


async def test_the_descriptions_are_served(gateway: Gateway) -> None:
    anyone = gateway.client(None)

    assert (await anyone.get("/v1/openapi.json")).json()["openapi"] == "3.1.0"
    assert yaml.safe_load((await anyone.get("/v1/asyncapi.yaml")).text)["asyncapi"] == "3.1.0"


async def test_the_explorer_needs_nothing_from_elsewhere(gateway: Gateway) -> None:
    anyone = gateway.client(None)

    page = await anyone.get("/docs")

    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in page.text
    for path in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        asset = await anyone.get(path)
        assert asset.status_code == 200
        assert asset.headers["x-content-type-options"] == "nosniff"
    assert (await anyone.get("/docs/../pyproject.toml")).status_code == 404
    assert (await anyone.get("/docs/swagger-ui.js.map")).status_code == 404
