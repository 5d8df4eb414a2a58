"""The pump, with a conversation that shows what it does, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Set
from ipaddress import ip_network
from typing import Any

import pytest
from app.errors import RateLimited
from app.mail.types import AccountId
from app.security.addresses import Proxies
from app.servers.admission import Admission, ConnectionLimits
from app.servers.conversation import Client, Close, Farewell, Reply, ReplyWriter, StartTls, Step, Work
from app.servers.listener import Listener, UnauthenticatedTime
from app.services.access.logins import Login

from tests.servers.tls import TlsFiles


class LineTalk:
    """Says each line back. `work x` takes a while, `tls` upgrades, `burst` sends 1 MiB, `bye` ends, `fault` fails."""

    def __init__(self, peer: Client) -> None:
        self.peer = peer
        self.timeout_seconds = 5.0
        self.is_closed = asyncio.Event()
        self._buffer = bytearray()
        self._steps: list[Step] = []

    def greet(self) -> bytes:
        return b"hello tls=%d\n" % self.peer.is_encrypted

    def receive(self, data: bytes) -> None:
        self._buffer += data

    def next_step(self) -> Step | None:
        if self._steps:
            return self._steps.pop(0)
        line, end, rest = self._buffer.partition(b"\n")
        if not end:
            return None
        self._buffer = rest
        return self._step(bytes(line))

    def _step(self, line: bytes) -> Step:
        if line == b"tls":
            self._buffer.clear()
            return StartTls(b"go\n")
        if line == b"bye":
            return Close(b"goodbye\n")
        if line == b"fault":
            raise ZeroDivisionError
        if line == b"claim":
            return self._claim()
        if line == b"burst":
            return Work(lambda outlet: outlet.send(b"x" * (1 << 20) + b"\n"))
        if line.startswith(b"timeout "):
            self.timeout_seconds = float(line[8:])
        if line.startswith(b"work "):
            return Work(lambda outlet: self._work(outlet, line))
        return Reply(line + b"\n")

    def _claim(self) -> Step:
        try:
            self.peer.claim(Login(AccountId("ann"), 0))
        except RateLimited:
            return Close(b"too many\n")
        return Reply(b"claimed\n")

    async def _work(self, outlet: ReplyWriter, line: bytes) -> None:
        await asyncio.sleep(0.02)
        await outlet.send(b"worked\n")
        self._steps.append(Reply(line + b"\n"))

    def woken(self, topics: Set[str]) -> None:
        self._steps.append(Reply(b"woken " + ",".join(sorted(topics)).encode() + b"\n"))

    def farewell(self, reason: Farewell) -> bytes:
        return b"farewell " + reason.value.encode() + b"\n"

    def close(self) -> None:
        self.is_closed.set()


class Server:
    """A listener of `LineTalk` and the conversations it had."""

    def __init__(self, tls: TlsFiles, limits: ConnectionLimits | None = None, **options: Any) -> None:
        self.talks: list[LineTalk] = []
        self.listener = Listener("talk", self._answer, Admission(limits), tls.good.server_context(), **options)
        self.tls = tls.client_context()
        self._writers: list[asyncio.StreamWriter] = []

    def _answer(self, peer: Client) -> LineTalk:
        self.talks.append(LineTalk(peer))
        return self.talks[-1]

    async def start(self) -> None:
        self.port = await self.listener.start("127.0.0.1", 0)
        self.tls_port = await self.listener.start("127.0.0.1", 0, is_implicit_tls=True)

    async def close(self) -> None:
        await self.listener.close(1.0)
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def connect(self, *, greeting: bytes = b"hello tls=0\n") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.open(self.port)
        assert await reader.readline() == greeting
        return reader, writer

    async def open(
        self, port: int, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        self._writers.append(writer)
        return reader, writer


@pytest.fixture
async def server(tls: TlsFiles) -> AsyncIterator[Server]:
    server = Server(tls)
    await server.start()
    yield server
    await server.close()


async def closed(talk: LineTalk) -> None:
    async with asyncio.timeout(5):
        await talk.is_closed.wait()


async def test_replies_keep_the_order_of_pipelined_commands_though_some_take_longer(server: Server) -> None:
    reader, writer = await server.connect()

    writer.write(b"one\nwork two\nthree\nbye\n")

    assert await reader.read() == b"one\nworked\nwork two\nthree\ngoodbye\n"


async def test_a_poke_is_told_while_the_client_says_nothing(server: Server) -> None:
    reader, _ = await server.connect()

    server.talks[0].peer.waiter.poke("acc_1")

    assert await reader.readline() == b"woken acc_1\n"


async def test_starttls_drops_what_was_sent_in_the_clear_after_it(server: Server) -> None:
    """The second command is answered neither before nor after the handshake."""
    reader, writer = await server.connect()

    writer.write(b"tls\ninjected\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(server.tls, server_hostname="localhost")
    writer.write(b"secret\n")

    assert await reader.readline() == b"secret\n"
    assert server.talks[0].peer.is_encrypted


async def test_starttls_drops_what_arrived_while_the_server_was_busy_before_it(server: Server) -> None:
    reader, writer = await server.connect()

    writer.write(b"work x\ntls\n")
    await asyncio.sleep(0.01)
    writer.write(b"injected\n")
    assert [await reader.readline() for _ in range(3)] == [b"worked\n", b"work x\n", b"go\n"]
    await writer.start_tls(server.tls, server_hostname="localhost")
    writer.write(b"secret\n")

    assert await reader.readline() == b"secret\n"


async def test_implicit_tls_is_spoken_from_the_first_byte(server: Server) -> None:
    reader, writer = await server.open(server.tls_port, server.tls)

    assert await reader.readline() == b"hello tls=1\n"
    writer.write(b"bye\n")
    assert await reader.readline() == b"goodbye\n"


async def test_a_client_without_tls_on_the_tls_port_is_cut_off(server: Server) -> None:
    reader, writer = await server.open(server.tls_port)

    writer.write(b"hello there, plain text\n" * 10)

    assert b"hello tls" not in await reader.read()


async def test_a_byte_now_and_then_does_not_move_the_deadline(server: Server) -> None:
    reader, writer = await server.connect()
    writer.write(b"timeout 0.3\n")
    await reader.readline()

    async def dribble() -> None:
        while not reader.at_eof():
            writer.write(b"x")
            await asyncio.sleep(0.05)

    dribbling = asyncio.create_task(dribble())
    async with asyncio.timeout(2):
        assert await reader.readline() == b"farewell timeout\n"
    await closed(server.talks[0])
    dribbling.cancel()


async def test_a_client_that_reads_nothing_is_waited_for_not_buffered(server: Server) -> None:
    reader, writer = await server.connect()
    writer.write(b"burst\n" * 64)
    await asyncio.sleep(0.2)

    waiting = server.listener._clients
    buffered = sum(client._transport.get_write_buffer_size() for client in waiting if client._transport)
    assert buffered <= 3 << 20

    for _ in range(64):
        assert len(await reader.readexactly((1 << 20) + 1)) == (1 << 20) + 1


async def test_a_fault_of_ours_ends_one_conversation_politely(server: Server) -> None:
    reader, writer = await server.connect()
    other_reader, other_writer = await server.connect()

    writer.write(b"fault\n")
    assert await reader.read() == b"farewell fault\n"
    other_writer.write(b"still here\n")

    assert await other_reader.readline() == b"still here\n"
    assert server.talks[0].is_closed.is_set()
    assert not server.talks[1].is_closed.is_set()


async def test_closing_says_goodbye_after_the_work_at_hand(tls: TlsFiles) -> None:
    server = Server(tls)
    await server.start()
    idle_reader, _ = await server.connect()
    busy_reader, busy_writer = await server.connect()
    busy_writer.write(b"work x\n")
    await asyncio.sleep(0.01)

    await server.listener.close(2.0)

    assert await idle_reader.read() == b"farewell shutdown\n"
    assert await busy_reader.read() == b"worked\nwork x\nfarewell shutdown\n"
    await server.close()
    assert all(talk.is_closed.is_set() for talk in server.talks)


async def test_a_flood_of_connections_is_capped_per_address_and_per_user(tls: TlsFiles) -> None:
    server = Server(tls, ConnectionLimits(total=10, strangers=2, per_user_from_loopback=2))
    await server.start()
    oldest, first, second = await server.connect(), await server.connect(), await server.connect()
    assert await oldest[0].read() == b"farewell overload\n"

    for reader, writer in (first, second):
        writer.write(b"claim\n")
        assert await reader.readline() == b"claimed\n"
    third_reader, third_writer = await server.connect()
    third_writer.write(b"claim\n")

    assert await third_reader.read() == b"too many\n"
    await server.close()


async def test_a_client_that_vanishes_is_forgotten(server: Server) -> None:
    _, writer = await server.connect()

    writer.transport.abort()

    await closed(server.talks[0])


PROXIED = b"PROXY TCP4 192.0.2.1 198.51.100.2 99 143\r\n"


@pytest.fixture
async def proxied(tls: TlsFiles) -> AsyncIterator[Server]:
    server = Server(tls, proxies=Proxies([ip_network("127.0.0.0/8")]))
    await server.start()
    yield server
    await server.close()


async def test_a_proxy_names_the_client_and_the_conversation_goes_on_with_the_next_byte(proxied: Server) -> None:
    reader, writer = await proxied.open(proxied.port)
    for start in range(0, len(PROXIED), 5):
        writer.write(PROXIED[start : start + 5])
        await asyncio.sleep(0.001)
    writer.write(b"claim\n")

    assert await reader.readline() == b"hello tls=0\n"
    assert await reader.readline() == b"claimed\n"
    assert (proxied.talks[0].peer.address, proxied.talks[0].peer.is_loopback) == ("192.0.2.1", False)


async def test_tls_may_begin_right_behind_the_header_of_a_proxy(proxied: Server) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = proxied.tls.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    reader, writer = await proxied.open(proxied.tls_port)
    writer.write(PROXIED + outgoing.read())  # in one packet
    greeting = b""
    while not greeting:
        incoming.write(await reader.read(65536))
        with contextlib.suppress(ssl.SSLWantReadError):
            session.do_handshake()
            writer.write(outgoing.read())
            greeting = session.read(100)
        writer.write(outgoing.read())

    assert greeting == b"hello tls=1\n"
    assert proxied.talks[0].peer.address == "192.0.2.1"


@pytest.mark.parametrize("sent", [b"claim\nclaim\nclaim\n", b"PROXY TCP9\r\n", b"\r\n\r\n\x00\r\nQUIT\nxxxxxxxx"])
async def test_a_proxy_that_sends_no_header_is_closed_without_a_greeting(proxied: Server, sent: bytes) -> None:
    reader, writer = await proxied.open(proxied.port)
    writer.write(sent)

    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    assert proxied.talks == []


async def test_a_header_from_elsewhere_is_no_header(server: Server) -> None:
    reader, writer = await server.connect()
    writer.write(PROXIED + b"claim\n")
    while await reader.readline() != b"claimed\n":
        pass

    assert server.talks[0].peer.address == "127.0.0.1"


class Stranger(asyncio.Protocol):
    """Keeps what it received, also where a reset ends the connection while bytes of its own are under way."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_lost = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, _: Exception | None) -> None:
        self.is_lost = True


@pytest.mark.parametrize("is_earned", [False, True])
async def test_a_client_that_never_logs_in_has_a_limited_time_whatever_it_says(tls: TlsFiles, is_earned: bool) -> None:
    server = Server(tls, stranger_time=UnauthenticatedTime(0.5, is_earned=is_earned))
    await server.start()
    known_reader, known = await server.connect()
    known.write(b"claim\n")
    assert await known_reader.readline() == b"claimed\n"
    stranger = Stranger()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: stranger, "127.0.0.1", server.port)
    while not stranger.is_lost:
        transport.write(b"x\n")
        await asyncio.sleep(0.02)

    assert stranger.received.endswith(b"farewell timeout\n")
    known.write(b"claim\n")
    assert await known_reader.readline() == b"claimed\n"
    await server.close()
