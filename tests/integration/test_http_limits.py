"""The HTTP server's limits: what strangers send, and how long they take, costs nobody else anything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from app.api.server.config import server_config
from app.api.server.connections import Connections, HttpLimits
from app.api.server.http import PIPELINED_LIMIT
from app.api.server.websocket import FRAMES_OF_STRANGER
from app.services.access.callers import Scope
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.gateway import Gateway, open_gateway

LIMITS = HttpLimits(head_bytes=16_384, head_seconds=0.5, body_seconds=0.5, write_seconds=0.5, total=40, strangers=10)
HEAD = b"GET /v1/health/live HTTP/1.1\r\nHost: postgate.test\r\n"
UPLOAD = b"POST /v1/session HTTP/1.1\r\nHost: postgate.test\r\nContent-Type: application/json\r\n"


@dataclass(frozen=True, slots=True)
class Serving:
    """A gateway behind its HTTP server."""

    gateway: Gateway
    connections: Connections
    port: int

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer_to(self, data: bytes, drip: bytes = b"") -> bytes:
        """What comes back until the end of the connection; `drip` is sent a byte at a time until then."""
        reader, writer = await self.open()
        reading = asyncio.ensure_future(reader.read())
        writer.write(data)
        for number in range(600):
            if reading.done() or not drip:
                break
            writer.write(drip[number % len(drip) :][:1])
            await asyncio.sleep(0.05)
        answer = await asyncio.wait_for(reading, 20)
        writer.close()
        return answer

    def stream(self, secret: str | None) -> connect:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return connect(f"ws://127.0.0.1:{self.port}/v1/stream", additional_headers=headers)

    async def status_of_member(self, secret: str, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bytes:
        """One request on a connection that is kept."""
        writer.write(b"GET /v1/accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret.encode() + b"\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
        await reader.readexactly(int(length.split(b":")[1]))
        return head.split(b" ")[1]


@asynccontextmanager
async def serve(folder: Path, limits: HttpLimits = LIMITS, **settings: Any) -> AsyncIterator[Serving]:
    async with open_gateway(folder, http_port=0, **settings) as gateway:
        connections = Connections(limits)
        config = server_config(gateway.services.settings, gateway.app, connections)
        config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        yield Serving(gateway, connections, server.servers[0].sockets[0].getsockname()[1])
        gateway.services.draining.set()
        await server.shutdown()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serve(tmp_path) as serving:
        yield serving


def problem_of(answer: bytes) -> tuple[int, str]:
    """Status and code of an answer that is one problem."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    problem = json.loads(body)
    assert problem["status"] == int(head.split(b" ")[1])
    return problem["status"], problem["code"]


async def until(is_met: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_met():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)


# ---- sizes


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "uri_too_long"),
        (b"GET /" + b"a" * 2_000_000, 414, "uri_too_long"),
        (HEAD + b"a: b\r\n" * 500_000, 431, "head_too_large"),
        (HEAD + b"a: " + b"b" * 3_000_000, 431, "head_too_large"),
        (HEAD + b"a" * 3_000_000, 431, "head_too_large"),
        (b"NONSENSE\r\n\r\n", 400, "malformed_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed_request"),
        (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 500_000, 400, "malformed_request"),
        (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"a" * 3_000_000, 400, "malformed_request"),
        (UPLOAD + b"Content-Length: 9000000\r\nConnection: close\r\n\r\n" + b"[" * 9_000_000, 413, "too_large"),
    ],
)
async def test_what_is_too_large_or_is_not_http_is_answered_with_a_problem(
    server: Serving, sent: bytes, status: int, code: str
) -> None:
    assert problem_of(await server.answer_to(sent)) == (status, code)
    assert (await server.gateway.admin.get("/v1/accounts")).status_code == 200


async def test_a_long_head_within_the_limit_is_answered(server: Serving) -> None:
    answer = await server.answer_to(HEAD + b"a: b\r\n" * 2_000 + b"Connection: close\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_requests_in_advance_are_answered_up_to_a_number_and_in_order(server: Serving) -> None:
    answer = await server.answer_to(b"".join(HEAD + b"\r\n" for _ in range(1_000)))

    assert answer.count(b"HTTP/1.1 200 OK") == answer.count(b"HTTP/1.1 ") == PIPELINED_LIMIT + 1


async def test_a_handshake_with_countless_fields_is_refused(server: Serving) -> None:
    head = b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    keys = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

    assert problem_of(await server.answer_to(head + keys + b"a: b\r\n" * 200 + b"\r\n")) == (431, "head_too_large")


# ---- times


@pytest.mark.parametrize(
    ("sent", "drip"),
    [
        (b"", b"GET /aaaa"),
        (HEAD, b"a: b\r\n"),
        (HEAD, b"x"),
        (UPLOAD + b"Content-Length: 60000\r\n\r\n", b" "),
        (UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n", b"a: b\r\n"),
    ],
)
async def test_a_byte_now_and_then_moves_no_deadline(server: Serving, sent: bytes, drip: bytes) -> None:
    answer = await server.answer_to(sent, drip)

    assert problem_of(answer) == (408, "request_timeout")


async def test_a_connection_that_says_nothing_is_closed(server: Serving) -> None:
    assert await server.answer_to(b"") == b""


async def test_a_body_that_keeps_the_least_rate_is_taken(tmp_path: Path) -> None:
    limits = replace(LIMITS, body_bytes_per_second=10)
    async with serve(tmp_path, limits) as server:
        reader, writer = await server.open()
        writer.write(UPLOAD + b"Content-Length: 60\r\n\r\n")
        for _ in range(60):
            writer.write(b" ")
            await asyncio.sleep(0.04)
        answer = await reader.readuntil(b"\r\n")
        writer.close()

    assert answer.startswith(b"HTTP/1.1 4")
    assert b" 408 " not in answer


async def test_a_client_that_does_not_read_its_answer_is_cut_off(server: Serving) -> None:
    reader, writer = await server.open()
    reader._transport.pause_reading()  # type: ignore[attr-defined]  # a client that does not read
    writer.write(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n" * 30)

    await until(lambda: len(server.connections._strangers) == 1)
    await until(lambda: not server.connections._strangers)
    writer.transport.abort()


# ---- connections


async def test_strangers_keep_out_nobody_who_is_signed_in(server: Serving) -> None:
    gateway = server.gateway
    account_id = await gateway.harness.add_account("me@demo.test")
    secret = await gateway.token(account_id, scopes=[Scope.MAIL_READ, Scope.PUSH])
    reader, writer = await server.open()
    assert await server.status_of_member(secret, writer, reader) == b"200"
    async with server.stream(secret) as socket:
        assert json.loads(await socket.recv())["type"] == "hello"
        crowd = [await server.open() for _ in range(50)]
        statuses = [await server.status_of_member(secret, writer, reader)]
        crowd += [await server.open() for _ in range(50)]
        statuses.append(await server.status_of_member(secret, writer, reader))
        newcomer_reader, newcomer = await server.open()
        statuses.append(await server.status_of_member(secret, newcomer, newcomer_reader))
        await socket.send('{"type": "ping", "id": "1"}')

        assert json.loads(await socket.recv())["type"] == "pong"
        assert len(server.connections._strangers) <= LIMITS.strangers
    assert statuses == [b"200", b"200", b"200"]
    for _, one in [*crowd, (reader, writer), (newcomer_reader, newcomer)]:
        one.close()


async def test_those_who_are_signed_in_may_use_all_but_no_more(server: Serving) -> None:
    account_id = await server.gateway.harness.add_account("me@demo.test")
    secret = await server.gateway.token(account_id, scopes=[Scope.PUSH])
    sockets: list[ClientConnection] = []
    for _ in range(LIMITS.total):
        sockets.append(await server.stream(secret))
        await sockets[-1].recv()

    refused = await server.answer_to(HEAD + b"\r\n")

    assert problem_of(refused) == (503, "too_many_connections")
    for socket in sockets:
        await socket.close()


# ---- WebSocket frames


async def test_frames_that_say_nothing_end_the_socket_of_a_stranger(server: Serving) -> None:
    async with server.stream(None) as socket:
        await socket.recv()
        socket.transport.write(b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * (FRAMES_OF_STRANGER + 1))
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    assert socket.close_code == 1008


async def test_a_message_of_countless_frames_ends_the_socket(server: Serving) -> None:
    account_id = await server.gateway.harness.add_account("me@demo.test")
    async with server.stream(await server.gateway.token(account_id, scopes=[Scope.PUSH])) as socket:
        await socket.recv()
        socket.transport.write(b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 5_000)
        with pytest.raises(ConnectionClosed):
            await socket.recv()

    assert socket.close_code == 1009


async def test_pings_whose_answers_are_never_read_take_no_memory(server: Serving) -> None:
    account_id = await server.gateway.harness.add_account("me@demo.test")
    async with server.stream(await server.gateway.token(account_id, scopes=[Scope.PUSH])) as socket:
        await socket.recv()
        socket.transport.pause_reading()
        socket.transport.write((b"\x89\xfd\0\0\0\0" + b"p" * 125) * 100_000)
        kept: Any = next(iter(server.connections._members))
        for _ in range(40):
            assert kept.transport.get_write_buffer_size() < 256 * 1024
            assert len(kept._arrived) < 512 * 1024
            await asyncio.sleep(0.05)
        socket.transport.abort()


async def test_many_messages_are_answered_in_order(server: Serving) -> None:
    account_id = await server.gateway.harness.add_account("me@demo.test")
    async with server.stream(await server.gateway.token(account_id, scopes=[Scope.PUSH])) as socket:
        await socket.recv()
        for number in range(500):
            await socket.send(json.dumps({"type": "ping", "id": str(number)}))
        found = [json.loads(await socket.recv())["id"] for _ in range(500)]

    assert found == [str(number) for number in range(500)]


# ---- proxies


@pytest.mark.parametrize(
    ("proxies", "forwarded", "status"),
    [
        ("", {"X-Forwarded-For": "192.0.2.7"}, 401),
        ("10.0.0.0/8", {"X-Forwarded-For": "192.0.2.7"}, 401),
        ("127.0.0.0/8", {"X-Forwarded-For": "192.0.2.7"}, 200),
        ("127.0.0.0/8", {"X-Forwarded-For": "192.0.2.7, 198.51.100.1"}, 401),
        ("127.0.0.0/8", {"X-Forwarded-For": "192.0.2.7, 127.0.0.5"}, 200),
        ("127.0.0.0/8", {"X-Forwarded-For": "x"}, 401),
        ("127.0.0.0/8", {"Forwarded": "for=192.0.2.7"}, 401),
    ],
)
async def test_an_address_that_is_forwarded_is_believed_from_trusted_proxies_alone(
    tmp_path: Path, proxies: str, forwarded: dict[str, str], status: int
) -> None:
    async with serve(tmp_path, trusted_proxies=proxies) as server:
        account_id = await server.gateway.harness.add_account("me@demo.test")
        secret = await server.gateway.token(account_id, networks=("192.0.2.0/24",))
        headers = "".join(f"{name}: {value}\r\n" for name, value in forwarded.items()).encode()
        head = b"GET /v1/session HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + secret.encode()
        answer = await server.answer_to(head.replace(b"session", b"accounts/me") + b"\r\n" + headers + b"\r\n")

    assert int(answer.split(b" ")[1]) == status


# ---- calls over a WebSocket


async def test_calls_on_a_socket_count_in_the_same_limit_as_requests(tmp_path: Path) -> None:
    async with serve(tmp_path, requests_per_minute=5) as server:
        account_id = await server.gateway.harness.add_account("me@demo.test")
        secret = await server.gateway.token(account_id, scopes=[Scope.PUSH, Scope.MAIL_READ])
        async with server.stream(secret) as socket:
            await socket.recv()
            statuses = []
            for number in range(6):
                await socket.send(json.dumps({"type": "request", "id": str(number), "method": "GET", "path": "/v1/me"}))
                statuses.append(json.loads(await socket.recv())["status"])
        late = await server.gateway.client(secret).get("/v1/me")

    assert statuses == [200] * 4 + [429] * 2  # the handshake was the first
    assert late.status_code == 429


@pytest.mark.parametrize("value", ["1" * 40, "18446744073709551616", "[[[[]]]]"])
async def test_whatever_a_call_holds_its_socket_stays(server: Serving, value: str) -> None:
    account_id = await server.gateway.harness.add_account("me@demo.test")
    secret = await server.gateway.token(account_id, scopes=[Scope.PUSH, Scope.MAIL_READ])
    async with server.stream(secret) as socket:
        await socket.recv()
        head = '{"type": "request", "id": "1", "method": "POST", "path": "/v1/me/messages/search", "body": {"filter": '
        await socket.send(head + value + "}}")
        answer = json.loads(await socket.recv())
        await socket.send('{"type": "ping", "id": "2"}')

        assert (answer["type"], answer["id"]) == ("response", "1")
        assert 400 <= answer["status"] < 500
        assert json.loads(await socket.recv()) == {"type": "pong", "id": "2"}


@pytest.mark.parametrize("frame", ["[" * 5_000, '{"type": "request", "id": "1", "body": "\\ud800"', "{", "\x00"])
async def test_a_frame_that_is_not_json_is_an_error_and_the_socket_stays(server: Serving, frame: str) -> None:
    account_id = await server.gateway.harness.add_account("me@demo.test")
    async with server.stream(await server.gateway.token(account_id, scopes=[Scope.PUSH])) as socket:
        await socket.recv()
        await socket.send(frame)
        answer = json.loads(await socket.recv())
        assert (answer["type"], answer["problem"]["code"]) == ("error", "malformed_request")
        await socket.send('{"type": "ping", "id": "1"}')
        assert json.loads(await socket.recv()) == {"type": "pong", "id": "1"}
