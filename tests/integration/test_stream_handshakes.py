"""The handshake of a stream on the real server: every answer has a request id, whatever it is."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.services.access.callers import Scope
from websockets.asyncio.client import connect

from tests.integration.test_http_limits import Serving, serve

HEAD = b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"
_ID = re.compile(rb"\r\nrequest-id: (req_[\w-]{20,})\r\n", re.IGNORECASE)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serve(tmp_path) as serving:
        yield serving


async def _head_of(server: Serving, request: bytes) -> bytes:
    reader, writer = await server.open()
    writer.write(request + b"\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


async def test_an_accepted_handshake_has_a_request_id_of_its_own(server: Serving) -> None:
    heads = [await _head_of(server, HEAD + KEY + VERSION + b"Request-Id: mine\r\n") for _ in range(2)]

    assert [head.split(b" ")[1] for head in heads] == [b"101", b"101"]
    assert len({found for head in heads for found in _ID.findall(head)}) == 2


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (HEAD + KEY + VERSION + b"Origin: https://evil.example\r\n", b"403"),
        (HEAD + KEY + b"Sec-WebSocket-Version: 12\r\n", b"400"),
        (HEAD + VERSION, b"400"),
        (HEAD.replace(b"/v1/stream", b"/v1/nowhere") + KEY + VERSION, b"403"),
        (HEAD + KEY + VERSION + b"a: b\r\n" * 200, b"431"),
    ],
)
async def test_a_refused_handshake_has_one_request_id(server: Serving, request_: bytes, status: bytes) -> None:
    head = await _head_of(server, request_)

    assert head.split(b" ")[1] == status
    assert len(_ID.findall(head)) == 1


async def test_a_call_over_the_socket_has_a_request_id_of_its_own(server: Serving) -> None:
    account_id = await server.gateway.harness.add_account("me@demo.test")
    secret = await server.gateway.token(account_id, scopes=(Scope.PUSH, Scope.MAIL_READ))
    url, headers = f"ws://127.0.0.1:{server.port}/v1/stream", {"Authorization": f"Bearer {secret}"}
    async with connect(url, additional_headers=headers) as socket:
        await socket.recv()
        for number, path in enumerate(("/v1/me/mailboxes", "/v1/me/nowhere")):
            await socket.send(json.dumps({"type": "request", "id": str(number), "method": "GET", "path": path}))
        answers = [json.loads(await socket.recv()) for _ in range(2)]
        assert socket.response is not None
        handshake = socket.response.headers["Request-Id"]

    ids = {answer["id"]: answer["headers"]["request-id"] for answer in answers}
    problem = next(answer for answer in answers if answer["status"] == 404)
    assert len({handshake, *ids.values()}) == 3
    assert problem["body"]["request_id"] == ids[problem["id"]]


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (b"mail.test", b"Origin: https://mail.test\r\n", b"101"),
        (b"rebound.test", b"Origin: https://rebound.test\r\n", b"403"),
        (b"rebound.test", b"Origin: https://mail.test\r\n", b"403"),
        (b"gateway.internal:8080", b"", b"101"),
    ],
)
async def test_with_a_public_url_a_page_connects_by_its_host_alone_and_a_program_by_any(
    tmp_path: Path, host: bytes, origin: bytes, status: bytes
) -> None:
    async with serve(tmp_path, public_url="https://mail.test") as server:
        head = await _head_of(server, HEAD.replace(b"Host: x", b"Host: " + host) + KEY + VERSION + origin)

    assert head.split(b" ")[1] == status
