"""Listens, and moves bytes between clients and conversations (see `conversation.py`).

All waiting of the embedded mail servers is in this module: accepting, TLS, deadlines, limits on connections, and the
drain at shutdown. The conversations implement the protocols.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import partial

from app.security.addresses import Proxies, is_loopback
from app.servers.admission import NO_PROXIES, Admission, AdmittedConnection
from app.servers.connection import Connection
from app.servers.conversation import (
    Answer,
    Client,
    ClientLost,
    Close,
    Conversation,
    Farewell,
    Reply,
    StartTls,
    Step,
    Work,
)
from app.servers.proxied import ProxiedServer
from app.telemetry import get_logger

BYTES_PER_EXTRA_SECOND = 1024
"""A transfer at this rate or faster never times out."""
CLOSE_SECONDS = 5.0
DRAIN_SECONDS = 4.0
BACKLOG = 256
"""Connections that wait to be accepted: few, so that a flood does not use the process's descriptors."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UnauthenticatedTime:
    """How long a client may stay without a login, or without delivering a message where the protocol has no login.

    Input of the client does not extend the time, unless `is_earned`: then each KiB adds a second.
    """

    seconds: float = 60.0
    is_earned: bool = False


class Listener:
    """One kind of mail server on any number of ports.

    STARTTLS and implicit TLS use `tls`; without it neither is offered. A connection from one of `proxies` begins with a
    PROXY protocol header.
    """

    def __init__(
        self,
        name: str,
        answer: Answer,
        admission: Admission,
        tls: ssl.SSLContext | None = None,
        *,
        stranger_time: UnauthenticatedTime = UnauthenticatedTime(),
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        self._name = name
        self._stranger_time = stranger_time
        self._proxies = proxies
        self._answer = answer
        self._admission = admission
        self._tls = tls
        self._servers: list[asyncio.Server] = []
        self._proxied: list[ProxiedServer] = []
        self._clients: dict[Connection, asyncio.Task[None]] = {}

    async def start(self, host: str, port: int, *, is_implicit_tls: bool = False) -> int:
        """Listen on a port and return it; port 0 chooses a free port. Raises OSError if the port is in use."""
        if is_implicit_tls and self._tls is None:
            raise ValueError("A port with implicit TLS requires a certificate")
        loop = asyncio.get_running_loop()
        on_open = partial(self._welcome, is_implicit_tls=is_implicit_tls)
        if self._proxies:
            proxied = ProxiedServer(partial(Connection, on_open), self._proxies, host, port, BACKLOG)
            self._proxied.append(proxied)
            return proxied.port
        server = await loop.create_server(lambda: Connection(on_open), host, port, backlog=BACKLOG)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self, drain_seconds: float = DRAIN_SECONDS) -> None:
        """Stop accepting, let each conversation finish its request and send its farewell; cancel late ones."""
        for server in self._servers:
            server.close()
        for proxied in self._proxied:
            await proxied.close()
        tasks = list(self._clients.values())
        for connection in list(self._clients):
            connection.end(Farewell.SHUTDOWN)
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
        peer = Client(address, is_loopback(address), False, self._tls is not None, waiter=connection.waiter)
        admitted = self._admission.enter(peer, partial(connection.end, Farewell.OVERLOAD))
        try:
            if is_implicit_tls and self._tls is not None and admitted is not None:
                await connection.start_tls(self._tls)
                peer.is_encrypted = True
            await self._converse(connection, peer, admitted)
            await connection.close(CLOSE_SECONDS)
        except ClientLost as error:
            log.debug("client_lost", server=self._name, reason=str(error))
        finally:
            connection.abort()
            if admitted is not None:
                admitted.leave()

    async def _converse(self, connection: Connection, peer: Client, admitted: AdmittedConnection | None) -> None:
        conversation = self._answer(peer)
        try:
            await _Pump(self._name, connection, conversation, peer, self._tls, self._stranger_time).run(admitted)
        finally:
            conversation.close()


class _Pump:
    """Runs one conversation until it ends."""

    def __init__(
        self,
        name: str,
        connection: Connection,
        conversation: Conversation,
        peer: Client,
        tls: ssl.SSLContext | None,
        stranger_time: UnauthenticatedTime,
    ) -> None:
        self._name = name
        self._connection = connection
        self._conversation = conversation
        self._peer = peer
        self._tls = tls
        self._is_over = False
        self._started_at = 0.0
        self._received_bytes = 0
        self._stranger_time = stranger_time
        self._unauthenticated_since = asyncio.get_running_loop().time()
        self._unauthenticated_bytes = self._messages = 0
        self._admitted: AdmittedConnection | None = None

    async def run(self, admitted: AdmittedConnection | None) -> None:
        """Run from greeting to end. Raises ClientLost. With `admitted` None there are too many connections."""
        if admitted is None:
            await self._say_farewell(Farewell.OVERLOAD)
            return
        self._admitted = admitted
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
        """Wait for the client or a poke, then do all resulting steps."""
        await self._connection.flush()
        try:
            data = await self._connection.read(self._seconds_left())
        except TimeoutError:
            await self._say_farewell(Farewell.TIMEOUT)
            return
        if data is None:
            self._is_over = True
        elif self._connection.ending is not None:
            await self._say_farewell(self._connection.ending)
        elif self._connection.is_revoked:
            await self._say_farewell(Farewell.REVOKED)
        else:
            await self._take(data)

    async def _take(self, data: bytes) -> None:
        if topics := self._peer.waiter.topics:
            self._peer.waiter.topics = set()
            self._conversation.woken(topics)
            await self._do_steps()
        if data and not self._is_over:
            self._received_bytes += len(data)
            self._unauthenticated_bytes += len(data)
            self._conversation.receive(data)
            if await self._do_steps():
                self._restart_clock()

    async def _do_steps(self) -> bool:
        """Do all pending steps; return whether there were any."""
        is_any = False
        while not self._is_over and (step := self._conversation.next_step()) is not None:
            is_any = True
            if self._connection.is_revoked:
                await self._say_farewell(Farewell.REVOKED)
            else:
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
        if self._admitted is not None:
            self._admitted.is_active()
        if self._messages != self._peer.messages:
            self._messages = self._peer.messages
            self._unauthenticated_since, self._unauthenticated_bytes = self._started_at, 0

    def _seconds_left(self) -> float:
        earned = self._conversation.timeout_seconds + self._received_bytes / BYTES_PER_EXTRA_SECOND
        ends_at = self._started_at + earned
        if not self._peer.is_known:
            extra = self._unauthenticated_bytes / BYTES_PER_EXTRA_SECOND if self._stranger_time.is_earned else 0.0
            ends_at = min(ends_at, self._unauthenticated_since + self._stranger_time.seconds + extra)
        return max(0.0, ends_at - asyncio.get_running_loop().time())

    async def _say_farewell(self, reason: Farewell) -> None:
        self._is_over = True
        await self._connection.send(self._conversation.farewell(reason))
