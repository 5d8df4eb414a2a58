"""Opens connections to an account's IMAP server, with limits per host that its accounts share."""

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
from app.backends.imap.session import ClientSession
from app.backends.sasl import Credential
from app.errors import RateLimited, Unreachable
from app.mail.protocol_log import Recorder
from app.mail.types import ServerLogin
from app.security.netguard import NetGuard

HOST_CONNECTIONS = 4_000
FAILURES_TO_OPEN = 5
OPEN_SECONDS = 5.0
"""How long no connect to a host is tried after FAILURES_TO_OPEN failures."""


@dataclass(slots=True)
class Host:
    """One mail server, shared by its accounts: a circuit breaker for failed connects, and a count of connections.

    Refused logins and refused commands do not count as failures, because the host was reached.
    """

    limit: int = HOST_CONNECTIONS
    connections: int = 0
    _failures: int = 0
    _closed_until: float = 0.0

    def check(self, now: float) -> None:
        """Raises Unreachable while the breaker is open, RateLimited when the host has its maximum of connections."""
        if now < self._closed_until:
            raise Unreachable("The mail server could not be reached a moment ago")
        if self.connections >= self.limit:
            raise RateLimited("Too many connections to this mail server")

    def release(self) -> None:
        self.connections -= 1

    def note_success(self) -> None:
        self._failures = 0

    def note_failure(self, now: float) -> None:
        """Open the breaker after FAILURES_TO_OPEN failed connects in a row, and again after each further failure."""
        self._failures += 1
        if self._failures >= FAILURES_TO_OPEN:
            self._closed_until = now + OPEN_SECONDS


@dataclass(slots=True)
class Hosts:
    """The hosts of this process by name and port, each with at most `limit` connections."""

    limit: int = HOST_CONNECTIONS
    _hosts: dict[tuple[str, int], Host] = field(default_factory=dict)

    def at(self, host: str, port: int) -> Host:
        return self._hosts.setdefault((host.lower(), port), Host(self.limit))


@dataclass(frozen=True, slots=True)
class Origin:
    """Opens sessions with one account's mail server."""

    login: ServerLogin
    guard: NetGuard
    tls: ssl.SSLContext = field(repr=False)
    hosts: Hosts = field(repr=False)
    new_recorder: Callable[[], Recorder] | None = field(default=None, repr=False)
    """Makes the recorder of a new connection's protocol lines."""
    avoided: QuarantinedMailboxes = field(default_factory=QuarantinedMailboxes, repr=False, compare=False)
    """Mailboxes whose STATUS the account's connections do not request."""

    async def open(self, *, is_compressed: bool = True) -> ClientSession:
        """Open a session, at an address that is checked for each call.

        `is_compressed` enables compression, which is useful for downloads, but not for a connection that only watches,
        and is never used on loopback.
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
        session.on_closed(host.release)
        session.avoided = self.avoided
        if is_compressed and not all(ip_address(address).is_loopback for address in addresses):
            await _compress(session)
        return session


async def _connect(endpoint: Endpoint, host: Host, credential: Credential) -> ClientSession:
    """Connect once, and count the result for the host. Failures of an authorization server are not counted."""
    try:
        session = await ClientSession.open(endpoint, credential)
    except Unreachable as error:
        if error.is_retryable and error.origin is None:
            host.note_failure(time.monotonic())
        raise
    host.note_success()
    return session


async def _compress(session: ClientSession) -> None:
    """Enable compression, and close the session if that fails: no caller has it yet."""
    try:
        await session.compress()
    except BaseException:
        session.close()
        raise
