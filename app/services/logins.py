"""Logins of embedded accounts, shared by REST, IMAP, POP3 and SMTP.

A right password is never delayed. A wrong one is answered later and later, at most by 2 s, and after 20 failures of an
account or from an address within 10 minutes it is told to come back later. Failures are counted in this process.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import NoReturn, ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.db import accounts
from app.db.session import Database, Transaction
from app.errors import AccountNotFound, InvalidRequest, NotAuthenticated, RateLimited
from app.mail.types import AccountId

CACHE_SECONDS = 300.0
"""How long a verified password is known without asking argon2 again."""
FAILURE_WINDOW_SECONDS = 600.0
FAILURES_BEFORE_LIMIT = 20
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 2.0
ENTRIES_LIMIT = 10_000
"""Accounts and addresses remembered, each; the oldest are forgotten."""
PASSWORD_LIMIT_CHARS = 1_000
ADDRESS_LIMIT_CHARS = 320
HASHERS = 2
"""Passwords hashed at a time: each takes a core and 19 MiB."""
HASHES_WAITING_LIMIT = 200
"""Passwords that wait for their turn to be hashed: some 5 s of work. More are refused at once."""
BUSY_SECONDS = 5.0

P = ParamSpec("P")
T = TypeVar("T")

Sleep = Callable[[float], Awaitable[None]]


class Logins:
    """Verifies and sets the passwords of embedded accounts."""

    def __init__(
        self,
        database: Database,
        hasher: PasswordHasher | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._database = database
        self._hasher = hasher or PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._decoy = self._hasher.hash(secrets.token_hex(16))
        self._clock = clock
        self._sleep = sleep
        self._failures = _Failures()
        self._verified = _VerifiedLogins()
        self._hashing = asyncio.Semaphore(HASHERS)
        self._waiting = 0

    async def verify(self, email: str, password: str, *, address: str) -> AccountId:
        """The account of this e-mail address and password; `address` is the client's IP address.

        NotAuthenticated, or RateLimited when it failed too often. An unknown account takes as long as a wrong password.
        """
        account_id = await self._check(_folded(email), password)
        if account_id is None:
            await self.refuse(email, address)
        return account_id

    async def refuse(self, email: str, address: str) -> NoReturn:
        """Count a login that failed, and answer it: late, by NotAuthenticated, or by RateLimited after too many."""
        delay, is_too_often = self._failures.count((f"account {_folded(email)}", f"address {address}"), self._clock())
        await self._sleep(delay)
        if is_too_often:
            raise RateLimited("Too many failed logins; try again later", retry_after_seconds=FAILURE_WINDOW_SECONDS)
        raise NotAuthenticated("The e-mail address or the password is wrong")

    def check_address(self, address: str) -> None:
        """Raises RateLimited where too many logins failed from a client's address: for those that others check."""
        if self._failures.number(f"address {address}", self._clock()) > FAILURES_BEFORE_LIMIT:
            raise RateLimited("Too many failed logins; try again later", retry_after_seconds=FAILURE_WINDOW_SECONDS)

    async def set_password(self, account_id: AccountId, password: str) -> None:
        """InvalidRequest for one that cannot be, AccountNotFound."""
        new_hash = await self.hash(password)

        async def work(transaction: Transaction) -> bool:
            return await accounts.set_password_hash(transaction, account_id, new_hash)

        if not await self._database.write(work):
            raise AccountNotFound

    async def hash(self, password: str) -> str:
        """The argon2id hash of a new password. Raises InvalidRequest for one that cannot be."""
        if not 1 <= len(password) <= PASSWORD_LIMIT_CHARS:
            raise InvalidRequest.at("/password", f"A password has 1 to {PASSWORD_LIMIT_CHARS} characters")
        if not password.isprintable():
            raise InvalidRequest.at("/password", "A password has no control characters")
        return await self._hashed(self._hasher.hash, _encoded(password))

    async def _check(self, email: str, password: str) -> AccountId | None:
        is_possible = len(email) <= ADDRESS_LIMIT_CHARS and len(password) <= PASSWORD_LIMIT_CHARS
        login = await accounts.login_of(self._database, email) if is_possible and _is_text(email) else None
        stored_hash = login.password_hash if login is not None else None
        secret = _encoded(password[:PASSWORD_LIMIT_CHARS])
        if stored_hash is not None and self._verified.knows(stored_hash, secret, self._clock()):
            is_right = True
        else:
            is_right = await self._hashed(self._matches, stored_hash or self._decoy, secret)
        if login is None or stored_hash is None or login.is_disabled or not is_right:
            return None
        self._verified.add(stored_hash, secret, self._clock())
        return login.account_id

    async def _hashed(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run argon2 in threads of its own, so that no other work delays a sign-in. RateLimited when too many wait."""
        if self._waiting >= HASHES_WAITING_LIMIT:
            raise RateLimited("Too many logins at once; try again soon", retry_after_seconds=BUSY_SECONDS)
        self._waiting += 1
        try:
            async with self._hashing:
                return await asyncio.get_running_loop().run_in_executor(_hashers(), partial(work, *args, **kwargs))
        finally:
            self._waiting -= 1

    def _matches(self, stored_hash: str, secret: bytes) -> bool:
        try:
            return self._hasher.verify(stored_hash, secret)
        except (VerificationError, InvalidHashError):
            return False


class _VerifiedLogins:
    """Passwords that argon2 has verified lately, as keyed digests; a new hash in the database voids them."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def knows(self, stored_hash: str, secret: bytes, now: float) -> bool:
        return self._until.get(self._digest(stored_hash, secret), now) > now

    def add(self, stored_hash: str, secret: bytes, now: float) -> None:
        digest = self._digest(stored_hash, secret)
        if self._until.get(digest, now) <= now:
            self._until[digest] = now + CACHE_SECONDS
            self._until.move_to_end(digest)
        while len(self._until) > ENTRIES_LIMIT:
            self._until.popitem(last=False)

    def _digest(self, stored_hash: str, secret: bytes) -> bytes:
        return hmac.digest(self._key, stored_hash.encode() + b"\0" + secret, hashlib.sha256)


class _Failures:
    """When logins failed, by account and by address."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def count(self, keys: tuple[str, ...], now: float) -> tuple[float, bool]:
        """Count a failure; how long its answer waits in seconds, and whether there were too many."""
        highest = max(self._add(key, now) for key in keys)
        delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(highest - 1, 10))
        return delay, highest > FAILURES_BEFORE_LIMIT

    def number(self, key: str, now: float) -> int:
        """How many there were of late."""
        return sum(time > now - FAILURE_WINDOW_SECONDS for time in self._times.get(key, ()))

    def _add(self, key: str, now: float) -> int:
        times = self._times.setdefault(key, deque(maxlen=FAILURES_BEFORE_LIMIT + 1))
        self._times.move_to_end(key)
        times.append(now)
        while times[0] <= now - FAILURE_WINDOW_SECONDS:
            times.popleft()
        if len(self._times) > ENTRIES_LIMIT:
            self._times.popitem(last=False)
        return len(times)


@cache
def _hashers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(HASHERS, thread_name_prefix="passwords")


def _folded(email: str) -> str:
    return email[: ADDRESS_LIMIT_CHARS + 1].lower()


def _encoded(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


def _is_text(email: str) -> bool:
    """Whether a database takes it: no NUL, no half of a surrogate pair."""
    return "\0" not in email and not any(0xD800 <= ord(one) < 0xE000 for one in email)
