"""PostgreSQL is restarted, killed, frozen, or cuts connections: sessions stay open, nothing is lost."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from tests.load import Books, Client, ImapClient, LmtpClient, ReadingClient, SendingClient, SmtpClient, faults
from tests.servers.postgate import Postgate
from tests.servers.postgres import DURABLE, Postgres
from tests.servers.process import started
from tests.servers.smtp_sink import SmtpSink
from tests.servers.tls import TlsFiles

RETURN_SECONDS = 20.0
"""A bound on the wait for the first success after the database's return, on a busy machine."""
AWAY_SECONDS = 2.0

Event = tuple[str, str]
"""Id and type."""


@dataclass
class Scene:
    """A gateway on a PostgreSQL of its own, with a server that takes its mail."""

    gateway: Postgate
    postgres: Postgres
    sink: SmtpSink
    database: str
    ready: list[str] = field(default_factory=list)
    """What the readiness probe said while the database was away."""

    def ask_ready(self) -> int:
        with self.gateway.client() as client:
            answer = client.get("/v1/health/ready")
        if answer.status_code != 200:
            self.ready.append(answer.text)
        return answer.status_code


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, tls: TlsFiles) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("failing")
    with started(Postgres(folder / "postgres.log", **DURABLE)) as postgres, started(SmtpSink(tls)) as sink:
        sink.requires_auth = False
        database = postgres.create_database()
        smarthost = {"SMARTHOST": f"127.0.0.1:{sink.port}", "SMARTHOST_SECURITY": "none"}
        gateway = Postgate(folder, DATABASE_URL=postgres.url(database), **smarthost)
        gateway.start()
        try:
            yield Scene(gateway, postgres, sink, database)
        finally:
            gateway.kill()


# ---- what holds a session open


class StreamFollower(Client):
    """Reads events of alice over one WebSocket, until it is closed."""

    def __init__(self, gateway: Postgate, books: Books, after: str) -> None:
        super().__init__(gateway, books)
        self.numbers: list[int] = []
        self.events: list[Event] = []
        self._after = after

    def run(self) -> None:
        with self.gateway.stream() as stream:
            accounts = [self.gateway.user()["account_id"]]
            stream.send(json.dumps({"type": "subscribe", "sub_id": "s", "accounts": accounts, "after": self._after}))
            while not self._is_ending.is_set():
                try:
                    frame = json.loads(stream.recv(0.2))
                    if frame["type"] == "ping":
                        stream.send(json.dumps({"type": "pong"}))
                    self._take(frame)
                except TimeoutError:
                    continue
                except (OSError, ConnectionClosed) as error:
                    self.books.lost.append(f"WebSocket: {error!r}")
                    return

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "event":
            self.numbers.append(frame["seq"])
            self.events.append((frame["event"]["id"], frame["event"]["type"]))
        elif frame["type"] not in ("subscribed", "counts", "ping"):
            self.books.wrong.append(f"WebSocket: {frame}")


class ServerSentFollower(Client):
    """Reads events of alice over one HTTP response."""

    def __init__(self, gateway: Postgate, books: Books, after: str) -> None:
        super().__init__(gateway, books)
        self.events: list[Event] = []
        self._after = after

    def run(self) -> None:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": self._after}
        path = f"{self.gateway.account_path()}/events"
        with self.gateway.client() as client, client.stream("GET", path, headers=headers) as answer:
            try:
                for line in answer.iter_lines():
                    if self._is_ending.is_set():
                        return
                    if line.startswith("data:") and "id" in (event := json.loads(line[5:])):
                        self.events.append((event["id"], event["type"]))
                self.books.lost.append("SSE: the response ended")
            except httpx2.HTTPError as error:
                self.books.lost.append(f"SSE: {error!r}")


class IdleFollower(Client):
    """Is told over one IDLE how many messages are in the inbox."""

    def __init__(self, gateway: Postgate, books: Books) -> None:
        super().__init__(gateway, books)
        self.count = 0
        self.is_idling = threading.Event()

    def run(self) -> None:
        alice = self.gateway.user()
        with socket.create_connection(("127.0.0.1", self.gateway.ports["imap"]), timeout=0.2) as connection:
            login = f"a LOGIN {alice['email']} {alice['password']}\r\nb SELECT INBOX\r\nc IDLE\r\n"
            connection.sendall(login.encode())
            unread = b""
            while not self._is_ending.is_set():
                try:
                    received = connection.recv(65536)
                except TimeoutError:
                    continue
                if not received:
                    self.books.lost.append("IDLE: the session ended")
                    return
                *lines, unread = (unread + received).split(b"\r\n")
                self._take(lines)

    def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            match line.split():
                case [b"*", count, b"EXISTS"]:
                    self.count = int(count)
                case [b"*", _, b"EXPUNGE"]:
                    self.count -= 1
                case [b"+", *_]:
                    self.is_idling.set()
                case [b"*", b"BYE", *_]:
                    self.books.lost.append(f"IDLE: {line!r}")


# ---- failures


def restart(scene: Scene) -> None:
    scene.postgres.stop()
    scene.ask_ready()
    time.sleep(AWAY_SECONDS)
    scene.ask_ready()
    scene.postgres.start()


def kill(scene: Scene) -> None:
    scene.postgres.kill()
    time.sleep(AWAY_SECONDS)
    scene.ask_ready()
    scene.postgres.start()


def freeze(scene: Scene, seconds: float = 2 * AWAY_SECONDS) -> None:
    scene.postgres.freeze()
    try:
        time.sleep(AWAY_SECONDS)
        scene.ask_ready()
        time.sleep(seconds - AWAY_SECONDS)
    finally:
        scene.postgres.thaw()


def cut(scene: Scene) -> None:
    for _ in range(8):
        scene.postgres.terminate_backends(scene.database)
        time.sleep(0.2)


# ---- the promise


def cursor_of(scene: Scene) -> str:
    with scene.gateway.client() as client:
        return str(client.get(f"{scene.gateway.account_path()}/mailboxes").json()["state"])


def log_after(scene: Scene, cursor: str) -> list[Event]:
    """The events of alice, read by REST."""
    events: list[Event] = []
    with scene.gateway.client() as client:
        while True:
            page = client.get(f"{scene.gateway.account_path()}/events", params={"after": cursor, "limit": 500}).json()
            events += [(one["id"], one["type"]) for one in page["items"]]
            if not page["has_more"]:
                return events
            cursor = page["cursor"]


def inbox_count(scene: Scene) -> int:
    session = scene.gateway.imap()
    try:
        return int(session.select("INBOX", readonly=True)[1][0] or 0)
    finally:
        session.shutdown()


def eventually(is_so: Callable[[], bool], seconds: float = RETURN_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def all_succeed_again(scene: Scene, clients: list[Client]) -> list[str]:
    """The clients that have no success within the time; [] is expected."""
    before = {client.name: client.done for client in clients}

    def waiting() -> list[str]:
        return [client.name for client in clients if client.done == before[client.name]]

    eventually(lambda: scene.ask_ready() == 200 and not waiting())
    return waiting()


@pytest.mark.parametrize("fail", [restart, kill, freeze, cut])
def test_sessions_outlive_a_failure_of_postgresql_and_nothing_acknowledged_is_lost_or_doubled(
    scene: Scene, fail: Callable[[Scene], None]
) -> None:
    refusals = outlive(scene, fail, fail.__name__)
    if fail in (restart, kill):
        assert refusals, "the clients have not noticed anything"
    if fail is not cut:
        assert any("The database" in said for said in scene.ready), scene.ready


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seconds", [35, 70])
def test_sessions_outlive_a_long_freeze_of_postgresql_and_requests_are_refused_for_now(
    scene: Scene, seconds: int
) -> None:
    refusals = outlive(scene, partial(freeze, seconds=seconds), f"frozen{seconds}")

    assert {kind for kind in ("read", "send") if any(said.startswith(f"{kind} 503") for said in refusals)} == {
        "read",
        "send",
    }
    assert any("The database" in said for said in scene.ready), scene.ready


def outlive(scene: Scene, fail: Callable[[Scene], None], name: str) -> Counter[str]:
    """Make a failure under load with sessions open. What was refused meanwhile."""
    gateway, books = scene.gateway, Books(name)
    scene.ready.clear()
    pid, cursor = gateway.pid, cursor_of(scene)
    stream, sse = StreamFollower(gateway, books, cursor), ServerSentFollower(gateway, books, cursor)
    idle = IdleFollower(gateway, books)
    kinds = (SmtpClient, LmtpClient, ImapClient, SendingClient, ReadingClient)
    clients: list[Client] = [kind(gateway, books) for kind in kinds]
    for thread in (stream, sse, idle, *clients):
        thread.start()
    assert idle.is_idling.wait(RETURN_SECONDS)
    assert all_succeed_again(scene, clients) == []

    scene.ready.clear()
    fail(scene)
    stuck = all_succeed_again(scene, clients)
    for client in clients:
        client.finish()

    assert (gateway.is_running, gateway.pid) == (True, pid), gateway.log_tail
    assert stuck == []
    assert books.lost == []
    assert faults(gateway, books, scene.sink) == []
    assert eventually(lambda: stream.events == log_after(scene, cursor))
    assert eventually(lambda: sse.events == log_after(scene, cursor))
    assert eventually(lambda: idle.count == inbox_count(scene))
    for follower in (stream, sse, idle):
        follower.finish()
    assert stream.numbers == list(range(stream.numbers[0], stream.numbers[0] + len(stream.events)))
    assert books.lost == []
    assert books.wrong == []
    return books.refusals
