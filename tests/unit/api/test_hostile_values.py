"""Values that no database, header or protocol can hold are refused where they come in."""

from __future__ import annotations

import json
from dataclasses import replace

import orjson
import pytest
from app.api.schemas.stream import RequestFrame
from app.api.stream.calls import call
from app.services.access.callers import Scope
from starlette.websockets import WebSocket

from tests.gateway import Gateway
from tests.unit.api.mail import EVERYTHING, Mail, note, open_mail

MAIL = {"to": [{"address": "bob@demo.test"}], "text": "Hello"}
SCOPES = (*EVERYTHING, Scope.MAIL_SEND)
BEYOND_THE_CALENDAR = ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-00:01"]


@pytest.fixture
async def mail(gateway: Gateway) -> Mail:
    """An account whose client may send."""
    opened = await open_mail(gateway)
    return replace(opened, client=gateway.client(await gateway.token(opened.account_id, scopes=SCOPES)))


@pytest.mark.parametrize("time", BEYOND_THE_CALENDAR)
async def test_a_time_that_utc_cannot_write_is_refused(mail: Mail, time: str) -> None:
    inbox = await mail.mailbox_id()

    sent = await mail.client.post("/v1/me/send", json={**MAIL, "send_at": time})
    listed = await mail.client.get("/v1/me/messages", params={"since": time})
    imported = await mail.client.post(
        "/v1/me/messages",
        params={"mailbox_id": inbox, "received_at": time},
        content=note("Hello"),
        headers={"Content-Type": "message/rfc822"},
    )

    assert [one.status_code for one in (sent, listed, imported)] == [422, 422, 422]
    assert sent.json()["errors"][0]["pointer"] == "/send_at"


@pytest.mark.parametrize("content", ["\u00e9", "aGVsbG8=\u00e9", "a", "%", "aGVs\nbG8="])
async def test_content_that_is_no_base64_is_refused(mail: Mail, content: str) -> None:
    answer = await mail.client.post("/v1/me/send", json={**MAIL, "attachments": [{"content_base64": content}]})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/attachments/0/content_base64"


@pytest.mark.parametrize("text", ["\\u0000", "\\ud800", "a\\r\\nBcc: b@demo.test", "\\u2028", "\\u0085"])
async def test_a_name_with_a_control_character_is_refused_everywhere(gateway: Gateway, text: str) -> None:
    bodies = {
        "/v1/accounts": '{"kind": "embedded", "email": "cid@demo.test", "password": "secret", "name": "%s"}',
        "/v1/tokens": '{"kind": "server", "scopes": ["mail.read"], "name": "%s"}',
        "/v1/oauth-apps": '{"provider": "google", "client_id": "us", "name": "%s"}',
    }
    for path, body in bodies.items():
        answer = await gateway.admin.post(path, content=body % text, headers={"Content-Type": "application/json"})

        assert answer.status_code in (400, 422), (path, answer.text)


@pytest.mark.parametrize("text", ["\\u0000", "\\ud800"])
async def test_a_password_that_no_login_can_carry_is_refused(gateway: Gateway, text: str) -> None:
    for path, body in (
        ("/v1/session", '{"email": "ann@demo.test", "password": "%s"}'),
        ("/v1/accounts", '{"kind": "embedded", "email": "ann@demo.test", "password": "%s"}'),
    ):
        answer = await gateway.admin.post(path, content=body % text, headers={"Content-Type": "application/json"})

        assert answer.status_code in (400, 422), (path, answer.text)


async def test_a_cursor_works_for_the_list_that_it_came_from_alone(gateway: Gateway, mail: Mail) -> None:
    for number in range(3):
        await mail.add(note(str(number)))
        await gateway.token(mail.account_id)
        await mail.client.post("/v1/me/send", json=MAIL)
        await gateway.harness.add_account(f"more{number}@demo.test")
    paths = ["messages", "submissions"]
    urls = [*(f"/v1/accounts/{mail.account_id}/{one}" for one in paths), "/v1/accounts", "/v1/tokens"]
    cursors = {url: (await gateway.admin.get(url, params={"limit": 1})).json()["next_cursor"] for url in urls}

    for url in (*urls, "/v1/oauth-apps"):
        for issuer, cursor in cursors.items():
            answer = await gateway.admin.get(url, params={"limit": 1, "cursor": cursor})

            assert cursor is not None
            assert answer.status_code == (200 if url == issuer else 422), (url, issuer)


@pytest.mark.parametrize(
    "number", [10**40, -(10**40), 2**63, 10**400], ids=["40 digits", "negative", "64 bits", "400 digits"]
)
async def test_a_call_over_the_socket_answers_a_huge_integer_as_http_does(
    gateway: Gateway, mail: Mail, number: int
) -> None:
    caller = await gateway.services.tokens.authenticate(await gateway.token(mail.account_id, scopes=SCOPES), None)
    websocket = WebSocket({"type": "websocket", "headers": [], "app": gateway.app}, None, None)  # type: ignore[arg-type]
    frame = RequestFrame(
        type="request", id="1", method="POST", path="/v1/me/send", body={**MAIL, "undo_seconds": number}
    )

    answer = await call(gateway.app, websocket, caller, frame)

    over_http = await mail.client.post(
        "/v1/me/send", content=_json(frame.body), headers={"Content-Type": "application/json"}
    )
    assert answer.status == over_http.status_code
    assert answer.status in (400, 422)
    assert orjson.dumps(answer.body)


def _json(body: object) -> bytes:
    return json.dumps(body).encode()
