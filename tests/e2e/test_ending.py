"""SIGTERM: everybody who is connected gets a proper end, and the process ends in time whatever hangs."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.integration.raw_server import raw_server
from tests.servers.hostile_imap import Dialog, HostileImap
from tests.servers.postgate import Postgate, running_postgate
from tests.servers.process import free_port

ENDS_WITHIN_SECONDS = 10.0


@contextmanager
def silent_server() -> Iterator[int]:
    """A port whose connections are accepted by the kernel and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


async def ended(server: Postgate) -> float:
    """Send SIGTERM and wait for the end of the process; how many seconds it took."""
    began = time.monotonic()
    await asyncio.to_thread(server.stop)
    return time.monotonic() - began


async def subscribed(stack: AsyncExitStack, server: Postgate) -> Any:
    url = server.base_url.replace("http", "ws", 1) + "/v1/stream"
    stream = await stack.enter_async_context(connect(url, additional_headers={"Authorization": f"Bearer {server.key}"}))
    frame = {"type": "subscribe", "sub_id": "s", "accounts": [server.user()["account_id"]]}
    await stream.send(json.dumps(frame))
    assert json.loads(await stream.recv())["type"] == "hello"
    assert json.loads(await stream.recv())["type"] == "subscribed"
    return stream


async def end_of(stream: Any) -> tuple[list[str], int]:
    """The types of the frames up to the end, and the close code."""
    types = []
    try:
        while True:
            types.append(json.loads(await stream.recv())["type"])
    except ConnectionClosed as closed:
        return types, int(closed.rcvd.code) if closed.rcvd else 1006


def hang_a_delivery(server: Postgate) -> None:
    """Send a message whose next server says nothing."""
    order = {"to": [{"address": "someone@elsewhere.test"}], "subject": "Plans", "text": "Text"}
    with server.client() as client:
        sent = client.post(f"{server.account_path()}/send", json=order)
        assert sent.status_code == 202, sent.text
        for _ in range(100):
            found = client.get(f"{server.account_path()}/submissions/{sent.json()['id']}").json()
            if found["status"] == "sending":
                return
            time.sleep(0.1)
    raise AssertionError("the delivery did not begin")


async def read_events(server: Postgate, began: asyncio.Event) -> bytes:
    """A whole event stream. Raises where it breaks off."""
    async with httpx2.AsyncClient(base_url=server.base_url, timeout=60) as client:
        headers = {"Authorization": f"Bearer {server.key}", "Accept": "text/event-stream"}
        content = b""
        async with client.stream("GET", f"{server.account_path()}/events", headers=headers) as answer:
            async for piece in answer.aiter_bytes():
                content += piece
                began.set()
        return content


async def long_poll(server: Postgate) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=server.base_url, timeout=60) as client:
        client.headers["Authorization"] = f"Bearer {server.key}"
        path = f"{server.account_path()}/events"
        return await client.get(path, params={"after": "now", "wait": 50})


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Postgate]:
    """A demo whose smarthost accepts connections and says nothing."""
    with silent_server() as port:
        settings = {"SMARTHOST": f"127.0.0.1:{port}", "SMARTHOST_SECURITY": "none"}
        with running_postgate(tmp_path, **settings) as server:
            yield server


async def test_everybody_gets_a_proper_end_though_a_delivery_hangs(hanging: Postgate) -> None:
    await asyncio.to_thread(hang_a_delivery, hanging)
    began = asyncio.Event()
    async with AsyncExitStack() as stack:
        streams = [await subscribed(stack, hanging) for _ in range(50)]
        events = asyncio.create_task(read_events(hanging, began))
        await asyncio.wait_for(began.wait(), 30)
        poll = asyncio.create_task(long_poll(hanging))
        await asyncio.sleep(1)  # the poll waits at the server: nothing shows when it has begun to

        ends = asyncio.gather(*(end_of(stream) for stream in streams))
        seconds = await ended(hanging)
        answer = await poll

    assert await ends == [(["bye"], 1001)] * 50
    assert (await events).startswith(b": postgate")
    assert (answer.status_code, answer.json()["items"]) == (200, [])
    assert answer.json()["cursor"]
    assert seconds < ENDS_WITHIN_SECONDS
    assert "end_forced" not in hanging.log_tail


async def test_a_client_that_does_not_read_or_close_holds_up_no_end(postgate: Postgate) -> None:
    host = postgate.base_url.removeprefix("http://")
    with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2]))) as deaf:
        deaf.sendall(
            (
                f"GET /v1/stream HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
                f"Authorization: Bearer {postgate.key}\r\n\r\n"
            ).encode()
        )
        assert deaf.recv(12) == b"HTTP/1.1 101"

        assert await ended(postgate) < ENDS_WITHIN_SECONDS
    assert "end_forced" not in postgate.log_tail


def test_a_start_that_hangs_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    with silent_server() as port:
        settings = {
            "DATABASE_URL": f"postgresql+asyncpg://postgate@127.0.0.1:{port}/postgate",
            "DATA_DIR": str(tmp_path / "data"),
            "HTTP_PORT": str(free_port()),
        }
        environment = {f"POSTGATE_{name}": value for name, value in settings.items()}
        program = Path(sys.executable).with_name("postgate")
        starting = subprocess.Popen(
            [str(program), "serve"], env=environment, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(3)
            assert starting.poll() is None
            starting.send_signal(signal.SIGTERM)
            starting.wait(ENDS_WITHIN_SECONDS)
        finally:
            starting.kill()
            starting.wait()


class SlowFetch(HostileImap):
    """Answers all but the fetching of whole messages."""

    async def _answer(self, dialog: Dialog, tag: str, command: str) -> None:
        if "BODY.PEEK[]" in command or "BINARY.PEEK[]" in command:
            await dialog.reader.read()
        await super()._answer(dialog, tag, command)


async def first_message(server: Postgate, port: int) -> str:
    """Add an account at that server; the path of its message."""
    login = {"host": "127.0.0.1", "port": port, "security": "none", "username": "me", "password": "secret"}
    account = {"kind": "imap", "email": "me@x.test", "imap": login, "smtp": login}
    async with httpx2.AsyncClient(base_url=server.base_url, timeout=60) as client:
        client.headers["Authorization"] = f"Bearer {server.key}"
        added = await client.post("/v1/accounts", json=account, params={"verify": "false"})
        path = f"/v1/accounts/{added.json()['id']}/messages"
        for _ in range(100):
            items = (await client.get(path)).json().get("items")
            if items:
                return f"{path}/{items[0]['id']}"
            await asyncio.sleep(0.1)
    raise AssertionError("the message did not come")


async def test_a_request_that_waits_for_a_mail_server_is_told_to_come_again(postgate: Postgate) -> None:
    async with raw_server(SlowFetch()) as port:
        path = await first_message(postgate, port)
        async with httpx2.AsyncClient(base_url=postgate.base_url, timeout=60) as client:
            client.headers["Authorization"] = f"Bearer {postgate.key}"
            waiting = asyncio.create_task(client.get(f"{path}/raw"))
            await asyncio.sleep(1)  # the request waits at the mail server
            assert not waiting.done()

            seconds = await ended(postgate)
            answer = await waiting

    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert "retry-after" in answer.headers
    assert seconds < ENDS_WITHIN_SECONDS
    assert "end_forced" not in postgate.log_tail
