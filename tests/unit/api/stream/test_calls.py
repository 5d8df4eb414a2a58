"""Calls over the socket: an app recognises its own changes, and finds each answer in the log."""

from __future__ import annotations

from typing import Any, cast

import pytest
from app.api.schemas.stream import RequestFrame, ResponseFrame
from app.api.stream import calls
from app.api.stream.calls import call
from app.cause import Cause, caused_by
from starlette.websockets import WebSocket

from tests.access import ADMIN
from tests.unit.api.mail import Mail, note

HANDSHAKE = Cause("req_handshake", "of-the-handshake")


async def _call(mail: Mail, method: str, path: str, body: object = None, **headers: str) -> ResponseFrame:
    """Make a call on a socket whose handshake had a `Client-Id`."""
    websocket = WebSocket({"type": "websocket", "headers": []}, cast("Any", None), cast("Any", None))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    frame = RequestFrame.model_validate(
        {"type": "request", "id": "1", "method": method, "path": path, "headers": named, "body": body}
    )
    with caused_by(HANDSHAKE):
        return await call(mail.gateway.app, websocket, ADMIN, frame)


async def _flag(mail: Mail, **headers: str) -> tuple[ResponseFrame, dict[str, Any]]:
    """Flag a message over the socket; the answer, and the cause in its event."""
    id_ = await mail.add(note("Plans"))
    state = (await mail.get())["state"]
    path = f"/v1/accounts/{mail.account_id}/messages/{id_}"
    answer = await _call(mail, "PATCH", path, {"keywords": {"add": ["$flagged"]}}, **headers)
    [event] = (await mail.client.get("/v1/me/events", params={"after": state})).json()["items"]
    return answer, event["data"]["caused_by"]


@pytest.mark.parametrize(
    ("headers", "client_id"),
    [({"Client_Id": "tab-1"}, "tab-1"), ({"client_id": "tab-2"}, "tab-2"), ({}, HANDSHAKE.client_id)],
)
async def test_the_client_id_of_a_call_is_that_of_its_frame_or_else_of_the_handshake(
    mail: Mail, headers: dict[str, str], client_id: str
) -> None:
    answer, cause = await _flag(mail, **headers)

    assert answer.status == 200
    assert cause == {"request_id": answer.headers["request-id"], "client_id": client_id}
    assert cause["request_id"] != HANDSHAKE.request_id


async def test_a_client_id_that_is_not_valid_is_refused_as_over_http(mail: Mail) -> None:
    answer = await _call(mail, "GET", "/v1/accounts", Client_Id="x" * 65)

    assert answer.status == 422
    assert answer.body["errors"][0]["parameter"] == "Client-Id"
    assert answer.body["request_id"] == answer.headers["request-id"]


async def test_an_answer_that_is_too_large_is_a_problem_with_its_request_id(
    mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "BODY_LIMIT_BYTES", 10)

    answer = await _call(mail, "GET", "/v1/accounts")

    assert (answer.status, answer.body["code"], answer.body["status"]) == (413, "too_large", 413)
    assert answer.body["request_id"] == answer.headers["request-id"] != HANDSHAKE.request_id
