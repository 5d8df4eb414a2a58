"""Who calls is known before a body is read, on every route, and bounds what is read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from app.api.openapi import http_routes
from app.api.routes import ROUTERS
from app.api.routing import BODY_BYTES, MESSAGE_OPERATIONS, PUBLIC_BODY_BYTES, AdmittingRoute, access_of
from app.services.access.callers import Scope
from fastapi.routing import APIRoute
from starlette.types import Message

from tests.gateway import Gateway

ROUTES = list(http_routes(ROUTERS))
PROTECTED = [route for route in ROUTES if (access := access_of(route)) is not None and not access.is_public]
MEGABYTE = 1024 * 1024


class Body:
    """A body that is counted while it is read."""

    def __init__(self, pieces: int, piece: bytes = b" " * 65536) -> None:
        self._pieces = pieces
        self._piece = piece
        self.read_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self._pieces):
            self.read_bytes += len(self._piece)
            yield self._piece


def path_of(route: APIRoute) -> str:
    return route.path_format.replace("{account_id}", "acc_x").replace("{", "").replace("}", "")


def test_every_route_admits_its_caller_first() -> None:
    assert all(isinstance(route, AdmittingRoute) for route in ROUTES)
    assert {route.operation_id for route in ROUTES} >= MESSAGE_OPERATIONS


async def read_of(gateway: Gateway, route: APIRoute, secret: str | None) -> tuple[int, int]:
    """The status of a request with a large body, and how much of the body the application asked for."""
    method = sorted(route.methods or ())[0]
    body = Body(2000)
    messages: list[Message] = []
    pieces = aiter(body)

    async def receive() -> Message:
        piece = await anext(pieces, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(message: Message) -> None:
        messages.append(message)

    headers = [(b"content-type", b"application/json"), (b"host", b"postgate.test")]
    if secret is not None:
        headers.append((b"authorization", b"Bearer " + secret.encode()))
    scope = {"type": "http", "method": method, "path": path_of(route), "headers": headers, "query_string": b""}
    await gateway.app(
        {**scope, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "scheme": "http"}, receive, send
    )
    return int(messages[0]["status"]), body.read_bytes


async def test_no_byte_of_a_body_is_read_of_a_caller_without_a_valid_token(gateway: Gateway) -> None:
    found = [await read_of(gateway, route, secret) for route in PROTECTED for secret in (None, "pgt_wrong")]

    assert set(found) == {(401, 0)}


async def test_no_byte_of_a_body_is_read_where_the_token_lacks_the_right_or_the_account(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    pusher = await gateway.token(account_id, scopes=[Scope.PUSH])
    reader = await gateway.token(account_id, scopes=[Scope.MAIL_SEND, Scope.MAIL_MODIFY])
    taking = [route for route in PROTECTED if route.operation_id in MESSAGE_OPERATIONS]

    assert {await read_of(gateway, route, pusher) for route in taking} == {(403, 0)}
    assert {await read_of(gateway, route, reader) for route in taking} == {(404, 0)}


async def test_a_body_that_anybody_may_send_is_small(gateway: Gateway) -> None:
    public = [route for route in ROUTES if route not in PROTECTED]
    for route in public:
        status, read = await read_of(gateway, route, None)
        assert read <= PUBLIC_BODY_BYTES + 65536
        assert not read or status == 413


@pytest.mark.parametrize(
    "path", ["/v1/tokens/send", "/v1/me/messages/send", "/v1/accounts/acc_x/mailboxes/send", "/v1/messages"]
)
async def test_large_bodies_are_for_the_routes_that_take_messages_alone(gateway: Gateway, path: str) -> None:
    body = Body(64)

    await gateway.admin.patch(path, content=aiter(body), headers={"Content-Type": "application/json"})

    assert body.read_bytes <= BODY_BYTES + 2 * 65536


async def test_json_of_countless_values_is_refused_while_it_arrives(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    path = f"/v1/accounts/{account_id}"
    for operation in ("send", "messages?mailbox_id=inbox", "messages/batch"):
        body = Body(1000, b"[],[],[],[]," * 5000)
        refused = await gateway.admin.post(
            f"{path}/{operation}", content=aiter(body), headers={"Content-Type": "application/json"}
        )
        assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
        assert body.read_bytes < 2 * MEGABYTE


@pytest.mark.parametrize("depth", [500, 5_000, 200_000])
async def test_json_that_is_nested_deeply_is_a_problem(gateway: Gateway, depth: int) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    nested = '{"filter": ' + '{"not":' * depth + "{}" + "}" * depth + "}"

    refused = await gateway.admin.post(
        f"/v1/accounts/{account_id}/messages/search",
        content=nested.encode(),
        headers={"Content-Type": "application/json"},
    )

    assert refused.status_code in (400, 413, 422)
    assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("branch", [{"all": []}, {}, {"any": [{}, {}]}, {"not": {"all": [{}]}}])
async def test_a_filter_of_many_empty_branches_is_refused(gateway: Gateway, branch: dict[str, object]) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    tree: object = [branch] * 150
    body = {"filter": {"all": [{"all": tree}, {"any": tree}]}}

    refused = await gateway.admin.post(f"/v1/accounts/{account_id}/messages/search", json=body)

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/filter"


async def test_a_filter_as_large_as_allowed_is_answered(gateway: Gateway) -> None:
    account_id = await gateway.harness.add_account("me@demo.test")
    body = {"filter": {"any": [{"subject": "x"}] * 150}}

    answer = await gateway.admin.post(
        f"/v1/accounts/{account_id}/messages/search",
        content=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code == 200
