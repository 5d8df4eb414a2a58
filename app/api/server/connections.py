"""Limits HTTP connections, so that clients without a login cannot lock out clients with a login.

A connection begins as a stranger and becomes a member when it presents a valid token. Strangers have their own limit:
when it is reached, the oldest idle stranger is closed for the newest. Members may use the rest.
"""

from __future__ import annotations

import asyncio
from collections import Counter as Counts
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import Counter, Gauge

from app.security.addresses import Proxies, counted_as, is_loopback

CLOSE_SECONDS = 5.0
"""How long a closing connection may take to send its remaining output."""

NO_PROXIES = Proxies()

_OPEN = Gauge("postgate_http_connections", "Open HTTP and WebSocket connections", ["caller"])
_CUT = Counter("postgate_http_connections_cut", "Connections closed by a limit", ["limit"])


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits in bytes, seconds and connections. `total` counts all connections, `strangers` those without a login."""

    head_bytes: int = 64 * 1024
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    body_bytes_per_second: int = 4096
    write_seconds: float = 60.0
    total: int = 10_000
    strangers: int = 1_000
    strangers_per_address: int = 100
    proxies: Proxies = NO_PROXIES

    @property
    def sweep_seconds(self) -> float:
        """The interval between checks of deadlines."""
        return min(1.0, self.head_seconds / 4, self.body_seconds / 4, self.write_seconds / 4)


class ClientLink(Protocol):
    """A connection as `Connections` uses it."""

    peer_address: str
    is_signed_in: bool

    @property
    def is_busy(self) -> bool:
        """Whether it is being served, so that it must not be closed for another."""
        ...

    def cut(self) -> None:
        """Close it now."""
        ...

    def check(self, now: float) -> None:
        """Close it if a deadline has passed. `now`: seconds of the event loop's clock."""
        ...


class Connections:
    """All HTTP connections of a process."""

    def __init__(self, limits: HttpLimits | None = None) -> None:
        self.limits = limits or HttpLimits()
        self._strangers: dict[ClientLink, str] = {}
        self._members: dict[ClientLink, None] = {}
        self._by_address: Counts[str] = Counts()
        self._sweeping: asyncio.TimerHandle | None = None

    def enter(self, link: ClientLink) -> bool:
        """Add a new connection, closing an older one if necessary; return False if there is no room."""
        key = self._key(link)
        if key and self._by_address[key] >= self.limits.strangers_per_address:
            self._make_room((stranger for stranger, of in self._strangers.items() if of == key), "address")
        if len(self._strangers) >= self.limits.strangers:
            self._make_room(self._strangers, "strangers")
        if self._count() >= self.limits.total:
            self._make_room([*self._strangers, *self._members], "total")
        if len(self._strangers) >= self.limits.strangers or self._count() >= self.limits.total:
            _CUT.labels("refused").inc()
            return False
        self._strangers[link] = key
        self._by_address[key] += 1
        self._measure()
        self._sweep_later()
        return True

    def sign_in(self, link: ClientLink) -> None:
        """Record that this connection presented a valid token."""
        if link in self._strangers:
            self.leave(link)
            self._members[link] = None
            self._measure()

    def leave(self, link: ClientLink) -> None:
        """Remove a connection that has ended or is about to end."""
        key = self._strangers.pop(link, None)
        if key is not None:
            self._by_address[key] -= 1
            if self._by_address[key] <= 0:
                del self._by_address[key]
        self._members.pop(link, None)
        self._measure()

    def has_cut(self, limit: str) -> None:
        """Count a connection that a limit closed, for the metrics."""
        _CUT.labels(limit).inc()

    def _key(self, link: ClientLink) -> str:
        """Return the key that its address counts under; "" for loopback and proxies, which many clients share."""
        address = link.peer_address
        return "" if is_loopback(address) or address in self.limits.proxies else counted_as(address)

    def _count(self) -> int:
        return len(self._strangers) + len(self._members)

    def _make_room(self, candidates: Iterable[ClientLink], limit: str) -> None:
        """Close the oldest candidate that is not being served."""
        oldest = next((link for link in candidates if not link.is_busy), None)
        if oldest is not None:
            self.leave(oldest)
            self.has_cut(limit)
            oldest.cut()

    def _sweep_later(self) -> None:
        if self._sweeping is None:
            loop = asyncio.get_running_loop()
            self._sweeping = loop.call_later(self.limits.sweep_seconds, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        now = asyncio.get_running_loop().time()
        for link in [*self._strangers, *self._members]:
            link.check(now)
        if self._count():
            self._sweep_later()

    def _measure(self) -> None:
        _OPEN.labels("stranger").set(len(self._strangers))
        _OPEN.labels("member").set(len(self._members))
