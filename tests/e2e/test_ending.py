"""SIGTERM: everybody who is connected gets a proper end, and the process ends in time whatever hangs."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.integration.raw_server import raw_server
from tests.servers.hostile_imap import Dialog, HostileImap
from tests.servers.postgate import Postgate, running_postgate
from tests.servers.process import START_DEADLINE_SECONDS, free_port

ENDS_WITHIN_SECONDS = 10.0
FOLLOWERS_END_WITHIN_SECONDS = 4.0


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
    frame = {"type": "subscribe", "sub_id": "s", "accounts": [server.user()["account_id"]], "types": ["message.*"]}
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
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(START_DEADLINE_SECONDS)
        settings = {
            "DATABASE_URL": f"postgresql+asyncpg://postgate@127.0.0.1:{silent.getsockname()[1]}/postgate",
            "DATA_DIR": str(tmp_path / "data"),
            "HTTP_PORT": str(free_port()),
        }
        environment = {f"POSTGATE_{name}": value for name, value in settings.items()}
        program = Path(sys.executable).with_name("postgate")
        starting = subprocess.Popen(
            [str(program), "serve"], env=environment, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            waiting, _ = silent.accept()
            starting.send_signal(signal.SIGTERM)
            starting.wait(ENDS_WITHIN_SECONDS)
            waiting.close()
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


# ---- clients that stall


def http(server: Postgate, head: str) -> socket.socket:
    """A connection that has sent a request and does not read its answer."""
    host, _, port = server.base_url.removeprefix("http://").rpartition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((host, int(port)))
    client.sendall(f"{head}\r\nHost: {host}\r\nAuthorization: Bearer {server.key}\r\n".encode())
    return client


def spoken(server: Postgate, port: str, *lines: str) -> socket.socket:
    """A connection to a mail port that has sent these lines, each after an answer, and says nothing more."""
    client = socket.create_connection(("127.0.0.1", server.ports[port]), timeout=10)
    for line in lines:
        assert client.recv(4096)
        client.sendall(line.encode() + b"\r\n")
    assert client.recv(4096)
    return client


def stalled_event_stream(server: Postgate) -> socket.socket:
    client = http(server, f"GET {server.account_path()}/events?after=earliest HTTP/1.1")
    client.sendall(b"Accept: text/event-stream\r\n\r\n")
    return client


def stalled_head(server: Postgate) -> socket.socket:
    return http(server, f"GET {server.account_path()}/messages HTTP/1.1")


def stalled_body(server: Postgate) -> socket.socket:
    client = http(server, f"POST {server.account_path()}/messages HTTP/1.1")
    client.sendall(b"Content-Type: message/rfc822\r\nContent-Length: 100000\r\n\r\nSubject: x\r\n")
    return client


def stalled_download(server: Postgate) -> socket.socket:
    server.deliver(b"Subject: large\r\n\r\n" + b"0123456789abcdef" * 64 * 1024 * 8)
    with server.client() as client:
        newest = client.get(f"{server.account_path()}/messages", params={"limit": 1}).json()["items"][0]["id"]
    stalled = http(server, f"GET {server.account_path()}/messages/{newest}/raw HTTP/1.1")
    stalled.sendall(b"\r\n")
    return stalled


def idle_session(server: Postgate) -> socket.socket:
    user = server.user()
    login = f'a LOGIN {user["email"]} "{user["password"]}"'
    return spoken(server, "imap", login, "b SELECT INBOX", "c IDLE")


def stalled_append(server: Postgate) -> socket.socket:
    user = server.user()
    login = f'a LOGIN {user["email"]} "{user["password"]}"'
    client = spoken(server, "imap", login, "b APPEND INBOX {100000}")
    client.sendall(b"Subject: x\r\n")
    return client


def stalled_pop3(server: Postgate) -> socket.socket:
    user = server.user()
    return spoken(server, "pop3", f"USER {user['email']}", f"PASS {user['password']}", "STAT")


def stalled_data(server: Postgate) -> socket.socket:
    lines = ["EHLO x.test", "MAIL FROM:<a@x.test>", f"RCPT TO:<{server.user()['email']}>", "DATA"]
    client = spoken(server, "smtp", *lines)
    client.sendall(b"Subject: cut\r\n\r\nThe first line\r\n")
    return client


STALLED = (
    stalled_event_stream,
    stalled_head,
    stalled_body,
    stalled_download,
    idle_session,
    stalled_append,
    stalled_pop3,
    stalled_data,
)


def test_clients_that_stall_in_every_protocol_hold_up_no_end(postgate: Postgate) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(stall(postgate)) for stall in STALLED]
        seconds = asyncio.run(ended(postgate))

    assert len(clients) == len(STALLED)
    assert seconds < ENDS_WITHIN_SECONDS
    assert "end_forced" not in postgate.log_tail


def test_a_message_that_is_cut_off_by_the_end_is_not_acknowledged_and_not_kept(postgate: Postgate) -> None:
    with stalled_data(postgate) as client:
        seconds = asyncio.run(ended(postgate))
        answer = client.recv(4096)

    postgate.start_again()
    with postgate.client() as http_client:
        items = http_client.get(f"{postgate.account_path()}/messages").json()["items"]
    assert not answer.startswith(b"2")
    assert seconds < ENDS_WITHIN_SECONDS
    assert "cut" not in [item["subject"] for item in items]


async def test_an_end_where_only_followers_are_open_takes_four_seconds_at_most(postgate: Postgate) -> None:
    async with AsyncExitStack() as stack:
        streams = [await subscribed(stack, postgate) for _ in range(50)]
        for follow in (stalled_event_stream, idle_session):
            stack.enter_context(await asyncio.to_thread(follow, postgate))
        poll = asyncio.create_task(long_poll(postgate))
        await asyncio.sleep(1)  # the poll waits at the server: nothing shows when it has begun to

        ends = asyncio.gather(*(end_of(stream) for stream in streams))
        seconds = await ended(postgate)
        assert (await poll).status_code == 200
        assert await ends == [(["bye"], 1001)] * 50

    assert seconds < FOLLOWERS_END_WITHIN_SECONDS
    assert "end_forced" not in postgate.log_tail


# ---- what hangs inside


def test_a_migration_that_waits_holds_up_no_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    database = data / "postgate.sqlite3"
    database.touch(mode=0o600)
    settings = {"DATA_DIR": str(data), "HTTP_PORT": str(free_port())}
    environment = {f"POSTGATE_{name}": value for name, value in settings.items()}
    program = Path(sys.executable).with_name("postgate")
    log = tmp_path / "log"
    with closing(sqlite3.connect(database, isolation_level=None)) as other, log.open("wb") as sink:
        other.execute("BEGIN IMMEDIATE")
        starting = subprocess.Popen([str(program), "serve"], env=environment, cwd="/", stdout=sink, stderr=sink)
        try:
            time.sleep(3)
            assert starting.poll() is None, log.read_text()
            starting.send_signal(signal.SIGTERM)
            starting.wait(ENDS_WITHIN_SECONDS)
        finally:
            starting.kill()
            starting.wait()
        other.execute("ROLLBACK")
    assert "end_forced" not in log.read_text()


HUNG = """
import asyncio, time
from app import ending as module, telemetry
from app.ending import Ending

def hang():
    print("hangs", flush=True)
    time.sleep(60)

async def serve():
    ending.begin_with(lambda: None)
    hang()

telemetry.configure("info")
module.LIMIT_SECONDS = 1.0
ending = Ending()
with ending.on_signals():
    asyncio.run(serve())
"""


def test_a_process_whose_event_loop_hangs_is_ended_and_the_log_names_the_place() -> None:
    hung = subprocess.Popen([sys.executable, "-c", HUNG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert hung.stdout is not None
        assert hung.stdout.readline() == "hangs\n"
        hung.send_signal(signal.SIGTERM)
        _, log = hung.communicate(timeout=ENDS_WITHIN_SECONDS)
    finally:
        hung.kill()

    assert hung.returncode == 1
    (line,) = [json.loads(line) for line in log.splitlines() if "end_forced" in line]
    assert any("in hang" in place for place in line["threads"])
    assert any("serve" in place for place in line["tasks"])
