"""Logins of embedded accounts, shared by REST, IMAP, POP3 and SMTP. `throttle` slows down password guessing."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.db import accounts
from app.db.session import Database
from app.errors import InvalidRequest, NotAuthenticated
from app.mail.types import AccountId
from app.services.access.hashing import HashQueue
from app.services.access.throttle import LoginOutcome, LoginThrottle, Sleep

CACHE_SECONDS = 300.0
"""How long a verified password is accepted without running argon2 again."""
ENTRIES_LIMIT = 10_000
"""Verified passwords in the cache; the oldest are dropped."""
PASSWORD_LIMIT_CHARS = 1_000
ADDRESS_LIMIT_CHARS = 320


@dataclass(frozen=True, slots=True)
class Login:
    """A successful login. It is valid as long as the account's credentials have this version."""

    account_id: AccountId
    credentials_version: int


class Logins:
    """Verifies the passwords of embedded accounts."""

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
        self.throttle = LoginThrottle(clock, sleep)
        self._verified = _VerifiedLogins()
        self._hashing = HashQueue()

    async def verify(self, email: str, password: str, *, address: str) -> Login:
        """Sign in to the account of this e-mail address. `address` is the client's IP address.

        Raises NotAuthenticated, or RateLimited after too many failures. An unknown account takes as long as a wrong
        password.
        """
        email = folded(email)
        async with self.throttle.attempt(email, address) as attempt:
            login = await self._check(email, password, address)
            attempt.outcome = LoginOutcome.WRONG if login is None else LoginOutcome.RIGHT
        if login is None:
            raise wrong_password()
        return login

    async def hash(self, password: str, *, address: str | None = None) -> str:
        """Return the argon2id hash of a new password; `address` as in `HashQueue.run`.

        Raises InvalidRequest, RateLimited.
        """
        if not 1 <= len(password) <= PASSWORD_LIMIT_CHARS:
            raise InvalidRequest.at("/password", f"A password must have 1 to {PASSWORD_LIMIT_CHARS} characters")
        if not password.isprintable():
            raise InvalidRequest.at("/password", "A password must not contain control characters")
        return await self._hashing.run(partial(self._hasher.hash, _encoded(password)), address)

    async def _check(self, email: str, password: str, address: str) -> Login | None:
        is_possible = len(email) <= ADDRESS_LIMIT_CHARS and len(password) <= PASSWORD_LIMIT_CHARS
        login = await accounts.login_of(self._database, email) if is_possible and _is_text(email) else None
        stored_hash = login.password_hash if login is not None else None
        secret = _encoded(password[:PASSWORD_LIMIT_CHARS])
        if stored_hash is not None and self._verified.knows(stored_hash, secret, self._clock()):
            is_right = True
        else:
            is_right = await self._hashing.run(partial(self._matches, stored_hash or self._decoy, secret), address)
        if login is None or stored_hash is None or login.is_disabled or not is_right:
            return None
        self._verified.add(stored_hash, secret, self._clock())
        return Login(login.account_id, login.credentials_version)

    def _matches(self, stored_hash: str, secret: bytes) -> bool:
        try:
            return self._hasher.verify(stored_hash, secret)
        except (VerificationError, InvalidHashError):
            return False


class _VerifiedLogins:
    """Recently verified passwords as keyed digests. A new hash in the database invalidates them."""

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


def folded(email: str) -> str:
    """Return the form of an address by which logins are counted."""
    return email[: ADDRESS_LIMIT_CHARS + 1].lower()


def wrong_password() -> NotAuthenticated:
    return NotAuthenticated("The e-mail address or the password is wrong")


def _encoded(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


def _is_text(email: str) -> bool:
    """Whether a database accepts it: no NUL, no lone surrogate."""
    return "\0" not in email and not any(0xD800 <= ord(text) < 0xE000 for text in email)
