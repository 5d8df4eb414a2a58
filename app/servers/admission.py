"""Who may connect to the mail servers: how many in all, of one address before a login, and of one user after it.

A new connection takes the place of the one without a login that has been idle for longest. So no number of idle
connections keeps a user out, not even from the same address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.errors import RateLimited
from app.security.addresses import Proxies, counted_as
from app.servers.conversation import Client
from app.services.access.logins import Login
from app.services.access.watch import AccessWatch, Guard

NO_PROXIES = Proxies()


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections may be open: in all, without a login, from one address before login, per user after it.

    Loopback and proxies have no limit of their own before login: they are many clients.
    """

    total: int = 10_000
    strangers: int = 1_000
    per_user_and_address: int = 50
    per_user_from_loopback: int = 1_000
    proxies: Proxies = NO_PROXIES

    def at(self, peer: Client) -> int:
        return self.per_user_from_loopback if peer.is_loopback else self.per_user_and_address


class AdmittedConnection:
    """One connection that was let in."""

    __slots__ = ("_admission", "guard", "key", "send_away")

    def __init__(self, admission: Admission, key: tuple[str, str], send_away: Callable[[], None]) -> None:
        self._admission = admission
        self.key: tuple[str, str] | None = key
        self.send_away = send_away
        self.guard: Guard | None = None
        """Ends the connection once its login holds no more."""

    def is_active(self) -> None:
        """It has made a request: others have waited for longer."""
        self._admission.move_to_end(self)

    def leave(self) -> None:
        """It has ended, or was sent away. Once is enough."""
        self._admission.forget(self)


class Admission:
    """Counts connections by address until login, then by user and address. One for all mail servers of a process.

    With `access` a connection ends once its login holds no more.
    """

    def __init__(self, limits: ConnectionLimits | None = None, access: AccessWatch | None = None) -> None:
        self._limits = limits or ConnectionLimits()
        self._access = access
        self._open: Counter[tuple[str, str]] = Counter()
        self._strangers: dict[AdmittedConnection, None] = {}
        self._total = 0

    def enter(self, peer: Client, send_away: Callable[[], None]) -> AdmittedConnection | None:
        """Count a new connection; None where there is no room. `send_away` ends it where it must make room."""
        limits = self._limits
        key = ("", counted_as(peer.address))
        is_shared = peer.is_loopback or peer.address in limits.proxies
        if not is_shared and self._open[key] >= limits.per_user_and_address:
            self._make_room(visit for visit in self._strangers if visit.key == key)
        if len(self._strangers) >= limits.strangers or self._total >= limits.total:
            self._make_room(self._strangers)
        if self._total >= limits.total:
            return None
        visit = AdmittedConnection(self, key, send_away)
        self._strangers[visit] = None
        self._total += 1
        self._open[key] += 1
        peer.claim = lambda login: self._claim(peer, visit, login)
        return visit

    def move_to_end(self, visit: AdmittedConnection) -> None:
        if visit in self._strangers:
            del self._strangers[visit]
            self._strangers[visit] = None

    def forget(self, visit: AdmittedConnection) -> None:
        self._strangers.pop(visit, None)
        self._guard(visit, None)
        if visit.key is not None:
            self._total -= 1
            self._release(visit.key)
            visit.key = None

    def _claim(self, peer: Client, visit: AdmittedConnection, login: Login) -> None:
        wanted = (login.account_id, counted_as(peer.address))
        if visit.key is not None and wanted != visit.key:
            if self._open[wanted] >= self._limits.at(peer):
                raise RateLimited("Too many connections of this user from this address", retry_after_seconds=60.0)
            self._open[wanted] += 1
            self._release(visit.key)
            visit.key = wanted
        self._strangers.pop(visit, None)
        peer.is_known = True
        if self._access is not None:
            self._guard(visit, self._access.begin(login, peer.waiter))

    def _guard(self, visit: AdmittedConnection, guard: Guard | None) -> None:
        before, visit.guard = visit.guard, guard
        if before is not None and self._access is not None:
            self._access.end(before)

    def _make_room(self, strangers: Iterable[AdmittedConnection]) -> None:
        oldest = next(iter(strangers), None)
        if oldest is not None:
            self.forget(oldest)
            oldest.send_away()

    def _release(self, key: tuple[str, str]) -> None:
        self._open[key] -= 1
        if self._open[key] <= 0:
            del self._open[key]
