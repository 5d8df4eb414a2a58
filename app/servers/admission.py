"""Limits connections to the mail servers: in total, per address before login, and per user after login.

At a limit, a new connection replaces the connection without a login that has been idle for longest. So idle
connections never lock out a user, not even from the same address.
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
    """The largest numbers of open connections: in total, without a login, per address before login, per user after it.

    Loopback and proxies have no limit per address before login, because many clients share them.
    """

    total: int = 10_000
    strangers: int = 1_000
    per_user_and_address: int = 50
    per_user_from_loopback: int = 1_000
    proxies: Proxies = NO_PROXIES

    def at(self, peer: Client) -> int:
        return self.per_user_from_loopback if peer.is_loopback else self.per_user_and_address


class AdmittedConnection:
    """An admitted connection."""

    __slots__ = ("_admission", "guard", "key", "send_away")

    def __init__(self, admission: Admission, key: tuple[str, str], send_away: Callable[[], None]) -> None:
        self._admission = admission
        self.key: tuple[str, str] | None = key
        self.send_away = send_away
        self.guard: Guard | None = None
        """Ends the connection when its login is no longer valid."""

    def is_active(self) -> None:
        """Record a request: other connections have been idle for longer."""
        self._admission.move_to_end(self)

    def leave(self) -> None:
        """Remove the connection after it has ended. Further calls have no effect."""
        self._admission.forget(self)


class Admission:
    """Counts connections by address until login, then by user and address, for all mail servers of a process.

    With `access` a connection ends when its login is no longer valid.
    """

    def __init__(self, limits: ConnectionLimits | None = None, access: AccessWatch | None = None) -> None:
        self._limits = limits or ConnectionLimits()
        self._access = access
        self._open: Counter[tuple[str, str]] = Counter()
        self._strangers: dict[AdmittedConnection, None] = {}
        self._total = 0

    def enter(self, peer: Client, send_away: Callable[[], None]) -> AdmittedConnection | None:
        """Count a new connection; return None if there is no room. `send_away` ends it to make room for another."""
        limits = self._limits
        key = ("", counted_as(peer.address))
        is_shared = peer.is_loopback or peer.address in limits.proxies
        if not is_shared and self._open[key] >= limits.per_user_and_address:
            self._make_room(admitted for admitted in self._strangers if admitted.key == key)
        if len(self._strangers) >= limits.strangers or self._total >= limits.total:
            self._make_room(self._strangers)
        if self._total >= limits.total:
            return None
        admitted = AdmittedConnection(self, key, send_away)
        self._strangers[admitted] = None
        self._total += 1
        self._open[key] += 1
        peer.claim = lambda login: self._claim(peer, admitted, login)
        return admitted

    def move_to_end(self, admitted: AdmittedConnection) -> None:
        if admitted in self._strangers:
            del self._strangers[admitted]
            self._strangers[admitted] = None

    def forget(self, admitted: AdmittedConnection) -> None:
        self._strangers.pop(admitted, None)
        self._guard(admitted, None)
        if admitted.key is not None:
            self._total -= 1
            self._release(admitted.key)
            admitted.key = None

    def _claim(self, peer: Client, admitted: AdmittedConnection, login: Login) -> None:
        user_key = (login.account_id, counted_as(peer.address))
        if admitted.key is not None and user_key != admitted.key:
            if self._open[user_key] >= self._limits.at(peer):
                raise RateLimited("Too many connections for this user from this address", retry_after_seconds=60.0)
            self._open[user_key] += 1
            self._release(admitted.key)
            admitted.key = user_key
        self._strangers.pop(admitted, None)
        peer.is_known = True
        if self._access is not None:
            self._guard(admitted, self._access.begin(login, peer.waiter))

    def _guard(self, admitted: AdmittedConnection, guard: Guard | None) -> None:
        before, admitted.guard = admitted.guard, guard
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
