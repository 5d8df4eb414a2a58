"""Server keys and account tokens: create, check, list, revoke. Only the hash of a secret is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

import orjson

from app.cluster.bus import ACCESS, Bus, CallbackWaiter
from app.db import directory, tokens
from app.db.session import Database, Transaction
from app.db.tokens import StoredToken
from app.errors import InvalidRequest, NotAuthenticated, NotFound, TokenExpired, TokenMalformed, TokenRevoked
from app.mail.identifiers import new_id, now_ms
from app.mail.storable import json_bytes
from app.mail.types import TokenId
from app.security.secrets import hash_secret, is_secret, new_secret
from app.services.access.callers import Caller, Scope, TokenKind
from app.services.access.idempotency import Answer, Attempt
from app.services.access.origins import KnownOrigins

DEFAULT_SECONDS = 15 * 60
MAX_ACCOUNT_SECONDS = 24 * 3600
CACHE_SECONDS = 5.0
"""How long a revoked token may still work if another process's poke was lost."""
_CACHE_LIMIT = 10_000


class TokenNotFound(NotFound):
    code = "token_not_found"


@dataclass(frozen=True, slots=True)
class TokenOrder:
    """The properties of a new token. A list that is None means not limited. `networks` are CIDRs."""

    kind: TokenKind
    scopes: frozenset[Scope]
    name: str = ""
    account_ids: tuple[str, ...] | None = None
    mailbox_ids: tuple[str, ...] | None = None
    senders: tuple[str, ...] | None = None
    origins: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    expires_in_seconds: int | None = None
    family: str | None = None
    sub: str | None = None
    """The app's user whom the token is for. None: the same as its creator's token."""


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A stored token, without its secret."""

    caller: Caller
    name: str
    created_at_ms: int
    is_used: bool

    @property
    def id(self) -> TokenId:
        return self.caller.token_id


class Tokens:
    """All tokens of this installation."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._cache: dict[str, tuple[Caller, float]] = {}
        self._generation = 0
        self._forgetting = CallbackWaiter(self.forget)
        bus.listen(self._forgetting, ACCESS)
        self.origins = KnownOrigins(database, bus)

    async def create(
        self,
        order: TokenOrder,
        by: Caller | None = None,
        *,
        attempt: Attempt | None = None,
        answer: Callable[[TokenRecord, str], Answer] | None = None,
    ) -> tuple[TokenRecord, str]:
        """Create a token. Return its record and its secret, which is never shown again.

        Raises InvalidRequest with a pointer. `answer` is stored with `attempt` in the same transaction.
        """

        async def work(transaction: Transaction) -> tuple[TokenRecord, str]:
            record, secret = await self.create_in(transaction, order, by)
            if attempt is not None and answer is not None:
                await attempt.record(transaction, answer(record, secret))
            return record, secret

        return await self._database.write(work)

    async def create_in(
        self, transaction: Transaction, order: TokenOrder, by: Caller | None = None
    ) -> tuple[TokenRecord, str]:
        """Like `create`, within the caller's transaction."""
        _check(order)
        if by is not None:
            check_within(order, by)
            if not await tokens.hold(transaction, by.token_id):
                raise TokenRevoked
        await _check_accounts(transaction, order)
        secret = new_secret()
        if order.origins:
            transaction.after_commit(partial(self.origins.note, order.origins))
        return _record(await tokens.add(transaction, _values(order, secret, by))), secret

    async def authenticate(self, secret: str, address: str | None) -> Caller:
        """Return the caller with this secret.

        Raises TokenMalformed, TokenRevoked, TokenExpired; NotAuthenticated if `address` is not in its networks.
        """
        if not is_secret(secret):
            raise TokenMalformed
        caller = await self._caller_of(hash_secret(secret))
        if caller.kind is TokenKind.REFRESH or not caller.may_come_from(address):
            raise NotAuthenticated
        if has_ended(caller):
            raise TokenExpired
        return caller

    async def _caller_of(self, secret_hash: str) -> Caller:
        cached = self._cache.get(secret_hash)
        if cached is not None and cached[1] > time.monotonic():
            return cached[0]
        generation = self._generation
        row = await tokens.find_by_hash(self._database, secret_hash)
        if row is None:
            self._cache.pop(secret_hash, None)
            raise TokenRevoked
        if len(self._cache) >= _CACHE_LIMIT:
            self._cache.clear()
        caller = caller_of(row)
        if generation == self._generation:  # nothing was revoked while the row was read
            self._cache[secret_hash] = (caller, time.monotonic() + CACHE_SECONDS)
        return caller

    async def caller(self, token_id: str) -> Caller:
        """Return the caller of a token by its id. Raises TokenRevoked, TokenExpired."""
        row = await tokens.find(self._database, token_id)
        if row is None:
            raise TokenRevoked
        if has_ended(caller := caller_of(row)):
            raise TokenExpired
        return caller

    async def get(self, token_id: str, by: Caller) -> TokenRecord:
        """Raises TokenNotFound, also for a token that `by` may not administer."""
        row = await tokens.find(self._database, token_id)
        if row is None or row.kind == TokenKind.REFRESH or not _may_administer(by, record := _record(row)):
            raise TokenNotFound
        return record

    async def list(self, by: Caller, limit: int, below_id: str | None = None) -> tuple[list[TokenRecord], str | None]:
        """Return valid tokens, newest first, and the id to continue below; None at the end."""
        rows = await tokens.list_newest(self._database, below_id, limit, now_ms())
        visible = [record for row in rows if _may_administer(by, record := _record(row))]
        return visible, (rows[-1].id if len(rows) == limit else None)

    async def revoke(self, token_id: str, by: Caller) -> None:
        """End a token at once, with all tokens that it created. Raises TokenNotFound."""
        record = await self.get(token_id, by)

        async def work(transaction: Transaction) -> None:
            await tokens.remove(transaction, record.id)
            transaction.after_commit(partial(self._bus.poke, ACCESS))

        await self._database.write(work)

    def forget(self) -> None:
        """Clear the cache of checked tokens: some were revoked."""
        self._generation += 1
        self._cache.clear()


def _check(order: TokenOrder) -> None:
    """Check the rules of a token's kind."""
    if not order.scopes:
        raise InvalidRequest.at("/scopes", "At least one scope is required")
    if order.kind is TokenKind.SERVER:
        return
    if Scope.ADMIN in order.scopes:
        raise InvalidRequest.at("/scopes", "Only server keys can have the scope admin")
    if not order.account_ids:
        raise InvalidRequest.at("/account_ids", "Required for an account token")
    if order.kind is TokenKind.ACCOUNT and (order.expires_in_seconds or 0) > MAX_ACCOUNT_SECONDS:
        raise InvalidRequest.at(
            "/expires_in_seconds", f"An account token can last at most {MAX_ACCOUNT_SECONDS} seconds"
        )


async def _check_accounts(transaction: Transaction, order: TokenOrder) -> None:
    """Check that the accounts exist."""
    if order.account_ids is None:
        return
    known = await directory.existing(transaction, order.account_ids)
    for number, account_id in enumerate(order.account_ids):
        if account_id not in known:
            raise _no_account(number)


def _no_account(number: int) -> InvalidRequest:
    return InvalidRequest.at(f"/account_ids/{number}", "Unknown account")


def check_within(order: TokenOrder, by: Caller) -> None:
    """Check that the token is no wider and lasts no longer than its creator. Raises InvalidRequest."""
    if by.kind is not TokenKind.SERVER and order.kind is not TokenKind.ACCOUNT:
        raise InvalidRequest.at("/kind", "A sign-in can create only account tokens")
    for scope in sorted(order.scopes - by.scopes):
        raise InvalidRequest.at("/scopes", f"The token of this request lacks the scope {scope}")
    for name, limit in _limits_of(by).items():
        _check_limit(name, getattr(order, name), limit)
    end_ms = now_ms() + (order.expires_in_seconds or 0) * 1000
    if by.expires_at_ms is not None and end_ms > by.expires_at_ms:
        raise InvalidRequest.at("/expires_in_seconds", "Must not end after the token of this request")


IsWithin = Callable[[str], bool]


def _limits_of(by: Caller) -> dict[str, IsWithin]:
    """Return the checks for the lists of a new token, for each list by which its creator `by` is limited."""
    sets = {"account_ids": by.account_ids, "mailbox_ids": by.mailbox_ids, "origins": by.origins}
    limits: dict[str, IsWithin] = {name: limit.__contains__ for name, limit in sets.items() if limit is not None}
    if by.senders is not None:
        limits["senders"] = by.may_send_as
    if (networks := by.networks) is not None:
        limits["networks"] = lambda text: _is_subnet(text, networks)
    return limits


def _is_subnet(text: str, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    match ip_network(text, strict=False):
        case IPv4Network() as inner:
            return any(isinstance(outer, IPv4Network) and inner.subnet_of(outer) for outer in networks)
        case inner:
            return any(isinstance(outer, IPv6Network) and inner.subnet_of(outer) for outer in networks)


def _check_limit(name: str, items: tuple[str, ...] | None, is_within: IsWithin) -> None:
    if items is None:
        raise InvalidRequest.at(f"/{name}", "Required, because the token of this request has such a list")
    for number, item in enumerate(items):
        if not is_within(item):
            raise (
                _no_account(number)
                if name == "account_ids"
                else InvalidRequest.at(f"/{name}/{number}", "The token of this request does not include it")
            )


def _may_administer(by: Caller, record: TokenRecord) -> bool:
    """Whether a token is within the limits of `by`."""
    limits = record.caller
    pairs = ((by.account_ids, limits.account_ids), (by.mailbox_ids, limits.mailbox_ids), (by.senders, limits.senders))
    return all(limit is None or (inner is not None and inner <= limit) for limit, inner in pairs)


def has_ended(caller: Caller) -> bool:
    """Whether it has expired."""
    return caller.expires_at_ms is not None and caller.expires_at_ms <= now_ms()


def _end_ms(order: TokenOrder, by: Caller | None, now: int) -> int | None:
    """Return when a new token ends: as its order says, but no later than its creator."""
    seconds = order.expires_in_seconds
    if seconds is None and order.kind is TokenKind.ACCOUNT:
        seconds = DEFAULT_SECONDS
    ends = [None if seconds is None else now + seconds * 1000, None if by is None else by.expires_at_ms]
    return min((end for end in ends if end is not None), default=None)


def _values(order: TokenOrder, secret: str, by: Caller | None) -> dict[str, Any]:
    now = now_ms()
    return {
        "id": new_id("tok"),
        "kind": order.kind.value,
        "name": order.name,
        "secret_hash": hash_secret(secret),
        "scopes": " ".join(sorted(order.scopes)),
        "account_ids": _json(order.account_ids),
        "mailbox_ids": _json(order.mailbox_ids),
        "senders": _json(None if order.senders is None else tuple(sender.lower() for sender in order.senders)),
        "origins": _json(order.origins),
        "networks": _json(order.networks),
        "family": order.family if by is None else by.family,
        "is_used": False,
        "created_by": None if by is None else by.token_id,
        "created_at_ms": now,
        "expires_at_ms": _end_ms(order, by, now),
        "sub": order.sub if order.sub is not None or by is None else by.sub,
    }


def _json(items: tuple[str, ...] | None) -> str | None:
    return None if items is None else json_bytes(items).decode()


def _set(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(orjson.loads(text))


def caller_of(stored: StoredToken) -> Caller:
    """Return the caller of a stored token."""
    return Caller(
        token_id=TokenId(stored.id),
        kind=TokenKind(stored.kind),
        scopes=frozenset(Scope(scope) for scope in stored.scopes.split()),
        account_ids=_set(stored.account_ids),
        mailbox_ids=_set(stored.mailbox_ids),
        senders=_set(stored.senders),
        origins=_set(stored.origins),
        networks=_networks(stored.networks),
        expires_at_ms=stored.expires_at_ms,
        family=stored.family,
        created_by=stored.created_by,
        sub=stored.sub,
    )


def _networks(text: str | None) -> tuple[IPv4Network | IPv6Network, ...] | None:
    return None if text is None else tuple(ip_network(network, strict=False) for network in orjson.loads(text))


def _record(stored: StoredToken) -> TokenRecord:
    return TokenRecord(caller_of(stored), name=stored.name, is_used=stored.is_used, created_at_ms=stored.created_at_ms)
