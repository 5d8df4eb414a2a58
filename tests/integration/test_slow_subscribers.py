"""Subscribers that stop reading are cut; what they cost is freed, and their loss never looks like a whole stream."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from app.api.server import websocket
from app.api.server.config import server_config
from app.api.server.connections import Connections
from app.api.server.websocket import WebSocketProtocol
from app.api.stream import socket as stream_socket
from app.cluster.bus import ACCESS, ORIGINS
from app.mail.delta import Delta, Note
from app.mail.events import AccountResync
from app.mail.types import AccountId
from app.services.access.callers import Scope
from app.settings import Settings

from tests.gateway import Gateway, open_gateway

EVENTS = 2_000
EVENT_BYTES = 2_000


@dataclass
class Served:
    """A gateway behind uvicorn in this event loop."""

    gateway: Gateway
    server: uvicorn.Server
    account_id: AccountId

    @property
    def port(self) -> int:
        return int(self.server.servers[0].sockets[0].getsockname()[1])

    async def add_events(self) -> None:
        for _ in range(10):
            notes = tuple(Note(AccountResync(["x" * EVENT_BYTES], {}), self.account_id) for _ in range(EVENTS // 10))
            await self.gateway.harness.index.apply(self.account_id, Delta(notes=notes))

    async def until_nobody_is_connected(self) -> None:
        async with asyncio.timeout(30):
            while self.server.server_state.connections:  # noqa: ASYNC110 - uvicorn's set has no event
                await asyncio.sleep(0.05)


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr(stream_socket, "TAKE_SECONDS", 0.5)
    async with open_gateway(tmp_path) as gateway:
        account_id = await gateway.harness.add_account("me@demo.test")
        config = server_config(Settings(http_port=0), gateway.app, Connections())
        server = uvicorn.Server(config)
        server.config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        yield Served(gateway, server, account_id)
        await server.shutdown()


@dataclass
class Subscriber:
    """A client that reads only when it is asked to."""

    connection: socket.socket
    buffer: bytes = b""
    frames: list[dict[str, Any]] = field(default_factory=list)
    close_code: int | None = None
    is_reset: bool = False

    async def send(self, frame: dict[str, Any]) -> None:
        text = json.dumps(frame).encode()
        head = b"\x81" + bytes([0x80 | 126]) + struct.pack("!H", len(text)) + bytes(4)
        await asyncio.get_running_loop().sock_sendall(self.connection, head + text)

    async def read_to_the_end(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self.close_code is None and (data := await loop.sock_recv(self.connection, 65_536)):
                self.buffer += data
                self._take()
        except ConnectionResetError:
            self.is_reset = True

    def _take(self) -> None:
        while (found := _frame_in(self.buffer)) is not None:
            opcode, content, self.buffer = found
            if opcode == 8:
                (self.close_code,) = struct.unpack("!H", content[:2])
            else:
                self.frames.append(json.loads(content))

    @property
    def numbers(self) -> list[int]:
        return [frame["seq"] for frame in self.frames if frame["type"] == "event"]


def _frame_in(data: bytes) -> tuple[int, bytes, bytes] | None:
    """The opcode and content of the first frame, and what follows it."""
    if len(data) < 4:
        return None
    size, begin = data[1] & 127, 2
    if size == 126:
        (size,), begin = struct.unpack("!H", data[2:4]), 4
    if len(data) < begin + size:
        return None
    return data[0] & 15, data[begin : begin + size], data[begin + size :]


@pytest.fixture
async def subscriber(served: Served) -> AsyncIterator[Subscriber]:
    """Subscribed to the account, with a small receive buffer; it has read `hello` and `subscribed`."""
    loop = asyncio.get_running_loop()
    token = await served.gateway.token(served.account_id, scopes=(Scope.PUSH, Scope.MAIL_READ))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await loop.sock_connect(connection, ("127.0.0.1", served.port))
        head = (
            "GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        )
        await loop.sock_sendall(connection, head.encode())
        subscriber = Subscriber(connection)
        while b"\r\n\r\n" not in subscriber.buffer:
            subscriber.buffer += await loop.sock_recv(connection, 4096)
        _, _, subscriber.buffer = subscriber.buffer.partition(b"\r\n\r\n")
        types = ["account.*"]
        subscribe = {"type": "subscribe", "sub_id": "s", "accounts": [served.account_id], "types": types}
        await subscriber.send(subscribe)
        while len(subscriber.frames) < 2:
            subscriber.buffer += await loop.sock_recv(connection, 4096)
            subscriber._take()
        yield subscriber


async def test_a_subscriber_that_never_reads_again_is_cut_and_leaves_nothing(
    served: Served, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.5)
    await served.add_events()
    await served.until_nobody_is_connected()

    assert served.server.server_state.tasks == set()
    assert served.gateway.harness.bus.heard().keys() <= {ACCESS, ORIGINS}  # watched as long as the process runs


async def test_a_subscriber_that_reads_too_late_sees_a_broken_stream_and_not_a_whole_one(
    served: Served, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 0.5)
    await served.add_events()
    await served.until_nobody_is_connected()
    await subscriber.read_to_the_end()

    assert subscriber.close_code is None
    assert subscriber.is_reset or subscriber.buffer  # the kernel may have thrown away what it had received
    assert [frame["type"] for frame in subscriber.frames[2:] if frame["type"] != "event"] == []


async def test_a_subscriber_that_reads_in_time_learns_why_and_how_far_it_was(
    served: Served, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_SECONDS", 20.0)
    await served.add_events()
    async with asyncio.timeout(30):
        while not any(_is_closing(one) for one in served.server.server_state.connections):  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.05)
    await subscriber.read_to_the_end()

    bye = subscriber.frames[-1]
    assert (bye["type"], bye["code"], subscriber.close_code) == ("bye", 4490, 4490)
    assert bye["cursor"][served.account_id] == subscriber.frames[-2]["cursor"]
    assert len(subscriber.numbers) < EVENTS


def _is_closing(connection: object) -> bool:
    return isinstance(connection, WebSocketProtocol) and connection.close_sent


async def test_the_memory_of_a_subscriber_that_does_not_read_is_bounded(
    served: Served, subscriber: Subscriber, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_socket, "TAKE_SECONDS", 20.0)
    (connection,) = [one for one in served.server.server_state.connections if isinstance(one, WebSocketProtocol)]
    await served.add_events()
    with suppress(TimeoutError):
        await asyncio.wait_for(served.until_nobody_is_connected(), 2)
    waiting = connection.transport.get_write_buffer_size()

    assert 0 < waiting < 128 * 1024
