"""Listen, and pump bytes between clients and conversations (`conversation.py` says what those are).

All waiting of the embedded mail servers is here: accepting, TLS, deadlines, limits on connections, and the drain at
the end. The conversations hold the protocols.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

from app.errors import RateLimited
from app.servers.connection import Connection
from app.servers.conversation import (
    Answer,
    ClientLost,
    Close,
    Conversation,
    Farewell,
    Peer,
    Reply,
    StartTls,
    Step,
    Work,
)
from app.telemetry import get_logger

BYTES_PER_EXTRA_SECOND = 1024
"""A transfer that is this fast each second is never cut off."""
CLOSE_SECONDS = 5.0
DRAIN_SECONDS = 5.0
BACKLOG = 1024

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections may be open: in all, and from one address before login and per user after it."""

    total: int = 10_000
    per_user_and_address: int = 50
    per_user_from_loopback: int = 1_000

    def at(self, peer: Peer) -> int:
        return self.per_user_from_loopback if peer.is_loopback else self.per_user_and_address


class Admission:
    """Counts connections by address until login, then by user and address. One for all mail servers of a process."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self._limits = limits or ConnectionLimits()
        self._open: Counter[tuple[str, str]] = Counter()
        self._total = 0

    def enter(self, peer: Peer) -> Callable[[], None] | None:
        """Count a new connection; returns what to call at its end, None where it is one too many."""
        key = ("", peer.address)
        if self._total >= self._limits.total or self._open[key] >= self._limits.at(peer):
            return None
        self._total += 1
        self._open[key] += 1
        held = [key]

        def claim(user: str) -> None:
            wanted = (user, peer.address)
            if wanted == held[0]:
                return
            if self._open[wanted] >= self._limits.at(peer):
                raise RateLimited("Too many connections of this user from this address", retry_after_seconds=60.0)
            self._open[wanted] += 1
            self._release(held[0])
            held[0] = wanted

        def leave() -> None:
            self._total -= 1
            self._release(held[0])

        peer.claim = claim
        return leave

    def _release(self, key: tuple[str, str]) -> None:
        self._open[key] -= 1
        if self._open[key] <= 0:
            del self._open[key]


class Listener:
    """One kind of mail server on any number of ports.

    `tls` is what STARTTLS and implicit TLS use; without it neither is offered.
    """

    def __init__(self, name: str, answer: Answer, admission: Admission, tls: ssl.SSLContext | None = None) -> None:
        self._name = name
        self._answer = answer
        self._admission = admission
        self._tls = tls
        self._servers: list[asyncio.Server] = []
        self._clients: dict[Connection, asyncio.Task[None]] = {}

    async def start(self, host: str, port: int, *, is_implicit_tls: bool = False) -> int:
        """Listen there; returns the port, which was chosen where 0 was given. OSError where it is taken."""
        if is_implicit_tls and self._tls is None:
            raise ValueError("A port with implicit TLS needs a certificate")
        loop = asyncio.get_running_loop()
        on_open = partial(self._welcome, is_implicit_tls=is_implicit_tls)
        server = await loop.create_server(lambda: Connection(on_open), host, port, backlog=BACKLOG)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Accept no more, let each conversation end what it is doing and say goodbye; cut off what takes longer."""
        for server in self._servers:
            server.close()
        tasks = list(self._clients.values())
        for connection in list(self._clients):
            connection.drain()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=drain_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def _welcome(self, connection: Connection, *, is_implicit_tls: bool) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(connection, is_implicit_tls))
        self._clients[connection] = task
        task.add_done_callback(lambda _: self._clients.pop(connection, None))

    async def _serve(self, connection: Connection, is_implicit_tls: bool) -> None:
        address = connection.address
        peer = Peer(address, _is_loopback(address), False, self._tls is not None, waiter=connection.waiter)
        leave = self._admission.enter(peer)
        try:
            if is_implicit_tls and self._tls is not None and leave is not None:
                await connection.start_tls(self._tls)
                peer.is_encrypted = True
            conversation = self._answer(peer)
            try:
                await _Pump(self._name, connection, conversation, peer, self._tls).run(is_admitted=leave is not None)
            finally:
                conversation.close()
            await connection.close(CLOSE_SECONDS)
        except ClientLost as error:
            log.debug("client_lost", server=self._name, reason=str(error))
        finally:
            connection.abort()
            if leave is not None:
                leave()


class _Pump:
    """Carries one conversation to its end."""

    def __init__(
        self, name: str, connection: Connection, conversation: Conversation, peer: Peer, tls: ssl.SSLContext | None
    ) -> None:
        self._name = name
        self._connection = connection
        self._conversation = conversation
        self._peer = peer
        self._tls = tls
        self._is_over = False
        self._started_at = 0.0
        self._received_bytes = 0

    async def run(self, *, is_admitted: bool) -> None:
        """From greeting to end. Raises ClientLost."""
        if not is_admitted:
            await self._say_farewell(Farewell.OVERLOAD)
            return
        await self._connection.send(self._conversation.greet())
        self._restart_clock()
        try:
            while not self._is_over:
                await self._turn()
        except ClientLost:
            raise
        except Exception:
            log.exception("conversation_failed", server=self._name)
            await self._say_farewell(Farewell.FAULT)

    async def _turn(self) -> None:
        """Wait for the client or a poke, then do all steps that come of it."""
        await self._connection.flush()
        try:
            data = await self._connection.read(self._seconds_left())
        except TimeoutError:
            await self._say_farewell(Farewell.TIMEOUT)
            return
        if data is None:
            self._is_over = True
        elif self._connection.is_draining:
            await self._say_farewell(Farewell.SHUTDOWN)
        else:
            await self._take(data)

    async def _take(self, data: bytes) -> None:
        if topics := self._peer.waiter.topics:
            self._peer.waiter.topics = set()
            self._conversation.woken(topics)
            await self._do_steps()
        if data and not self._is_over:
            self._received_bytes += len(data)
            self._conversation.receive(data)
            if await self._do_steps():
                self._restart_clock()

    async def _do_steps(self) -> bool:
        """Whether there was one."""
        is_any = False
        while not self._is_over and (step := self._conversation.next_step()) is not None:
            is_any = True
            await self._do(step)
        return is_any

    async def _do(self, step: Step) -> None:
        match step:
            case Reply(data):
                await self._connection.send(data)
            case Work(run):
                await self._connection.flush()
                await run(self._connection)
            case StartTls(reply):
                await self._start_tls(reply)
            case Close(reply):
                await self._connection.send(reply)
                self._is_over = True

    async def _start_tls(self, reply: bytes) -> None:
        if self._tls is None:
            raise RuntimeError("STARTTLS was accepted without a certificate")
        await self._connection.send(reply)
        await self._connection.start_tls(self._tls)
        self._peer.is_encrypted = True

    def _restart_clock(self) -> None:
        self._started_at = asyncio.get_running_loop().time()
        self._received_bytes = 0

    def _seconds_left(self) -> float:
        earned = self._conversation.timeout_seconds + self._received_bytes / BYTES_PER_EXTRA_SECOND
        return max(0.0, self._started_at + earned - asyncio.get_running_loop().time())

    async def _say_farewell(self, reason: Farewell) -> None:
        self._is_over = True
        await self._connection.send(self._conversation.farewell(reason))


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
