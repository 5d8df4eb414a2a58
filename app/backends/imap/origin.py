"""How an account's mail server is reached: the host that its accounts share, and how a connection to it is opened."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address

from app.backends.credentials import log_in
from app.backends.imap.connection import Endpoint
from app.backends.imap.quarantine import QuarantinedMailboxes
from app.backends.imap.session import Session
from app.backends.sasl import Credential
from app.errors import RateLimited, Unreachable
from app.mail.protocol_log import Recorder
from app.mail.types import ServerLogin
from app.security.netguard import NetGuard

HOST_CONNECTIONS = 4_000
FAILURES_TO_OPEN = 5
OPEN_SECONDS = 5.0
"""How long a host is left alone after so many failed connects."""


@dataclass(slots=True)
class Host:
    """One mail server as all its accounts see it: a circuit breaker over failed connects, and a count of connections.

    Refused logins and refused commands say nothing about the host's reach and never count.
    """

    limit: int = HOST_CONNECTIONS
    connections: int = 0
    _failures: int = 0
    _closed_until: float = 0.0

    def check(self, now: float) -> None:
        """Raises Unreachable while the breaker is open, RateLimited when the host has all its connections."""
        if now < self._closed_until:
            raise Unreachable("The mail server could not be reached just now")
        if self.connections >= self.limit:
            raise RateLimited("Too many connections to this mail server")

    def let_go(self) -> None:
        self.connections -= 1

    def note_success(self) -> None:
        self._failures = 0

    def note_failure(self, now: float) -> None:
        """Open the breaker after FAILURES_TO_OPEN failed connects in a row, and again after each one more."""
        self._failures += 1
        if self._failures >= FAILURES_TO_OPEN:
            self._closed_until = now + OPEN_SECONDS


@dataclass(slots=True)
class Hosts:
    """The hosts of this process, by name and port, with so many connections to each at most."""

    limit: int = HOST_CONNECTIONS
    _hosts: dict[tuple[str, int], Host] = field(default_factory=dict)

    def at(self, host: str, port: int) -> Host:
        return self._hosts.setdefault((host.lower(), port), Host(self.limit))


@dataclass(frozen=True, slots=True)
class Origin:
    """What it takes to connect to one account's mail server."""

    login: ServerLogin
    guard: NetGuard
    tls: ssl.SSLContext = field(repr=False)
    hosts: Hosts = field(repr=False)
    new_recorder: Callable[[], Recorder] | None = field(default=None, repr=False)
    """What each new connection tells its lines to."""
    avoided: QuarantinedMailboxes = field(default_factory=QuarantinedMailboxes, repr=False, compare=False)
    """What the account's connections do not ask."""

    async def open(self, *, is_compressed: bool = True) -> Session:
        """A new session, at an address that was checked this time.

        `is_compressed` asks for compression, which pays for much mail but not for a connection that only listens, and
        not on loopback.
        Raises AddressNotAllowed, Unreachable, CertificateRefused, TimedOut, LoginRefused, ServerProtocolError.
        """
        login = self.login
        host = self.hosts.at(login.host, login.port)
        host.check(time.monotonic())
        addresses = await self.guard.addresses(login.host)
        recorder = self.new_recorder() if self.new_recorder is not None else None
        endpoint = Endpoint(login.host, tuple(addresses), login.port, login.security, self.tls, recorder)
        host.connections += 1
        try:
            session = await log_in(login, partial(_connect, endpoint, host))
        except BaseException:
            host.connections -= 1
            raise
        session.on_closed(host.let_go)
        session.avoided = self.avoided
        if is_compressed and not all(ip_address(address).is_loopback for address in addresses):
            await _compress(session)
        return session


async def _connect(endpoint: Endpoint, host: Host, credential: Credential) -> Session:
    """One try. The host answers for this alone: not for an authorization server that gives no token meanwhile."""
    try:
        session = await Session.open(endpoint, credential)
    except Unreachable as error:
        if error.is_retryable and error.origin is None:
            host.note_failure(time.monotonic())
        raise
    host.note_success()
    return session


async def _compress(session: Session) -> None:
    """A session that does not get through it belongs to nobody yet, and is closed."""
    try:
        await session.compress()
    except BaseException:
        session.close()
        raise
