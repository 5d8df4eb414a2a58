"""Queries on OAuth apps, grants and connect sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import BindParameter, bindparam, delete, func, insert, or_, select, update

from app.db.claims import LEASE_END, is_free
from app.db.row_types import RowType
from app.db.session import Database, Statement, Transaction, value_of
from app.db.tables import ACCOUNT, CONNECT_SESSION, OAUTH_APP, OAUTH_GRANT


@dataclass(frozen=True, slots=True)
class StoredApp:
    """An OAuth app as stored. `endpoints`, `servers` and `redirect_urls` are JSON; `secret` is encrypted."""

    id: str
    provider: str
    name: str
    endpoints: str
    scopes: str
    client_id: str
    secret: bytes | None = field(repr=False)
    servers: str
    redirect_urls: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class StoredGrant:
    """A grant as stored. `secrets` are its encrypted tokens."""

    id: str
    oauth_app_id: str
    account_id: str | None
    scopes: str
    secrets: bytes = field(repr=False)
    access_expires_at_ms: int
    is_over: bool
    version: int


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A connect session as stored: `facts` is JSON, `verifier` is encrypted.

    `expires_at_ms` is negative once the session is over.
    """

    id: str
    browser_hash: str | None = field(repr=False)
    verifier: bytes | None = field(repr=False)
    facts: str = field(repr=False)
    expires_at_ms: int


_STORED_APPS = RowType(StoredApp, OAUTH_APP)
_STORED_GRANTS = RowType(StoredGrant, OAUTH_GRANT)
_STORED_SESSIONS = RowType(StoredSession, CONNECT_SESSION)
_APP_CHANGEABLE = ("name", "endpoints", "scopes", "client_id", "secret", "servers", "redirect_urls")

_ID: BindParameter[str] = bindparam("row_id")
_NOW: BindParameter[int] = bindparam("now_ms", type_=OAUTH_GRANT.c.updated_at_ms.type)
_ADD_APP: Statement = insert(OAUTH_APP)
_APP: Statement = select(*_STORED_APPS.columns).where(OAUTH_APP.c.id == _ID)
_APPS: Statement = (
    select(*_STORED_APPS.columns)
    .where(OAUTH_APP.c.id > bindparam("above_id"))
    .order_by(OAUTH_APP.c.id)
    .limit(bindparam("limit"))
)
_SET_APP: dict[str, Statement] = {
    name: update(OAUTH_APP)
    .where(OAUTH_APP.c.id == _ID)
    .values({name: bindparam("new_value", type_=OAUTH_APP.c[name].type)})
    for name in _APP_CHANGEABLE
}
_DELETE_APP: Statement = delete(OAUTH_APP).where(OAUTH_APP.c.id == _ID)
_GRANTS_OF_APP: Statement = (
    select(OAUTH_GRANT.c.id).where(OAUTH_GRANT.c.oauth_app_id == _ID, OAUTH_GRANT.c.account_id.is_not(None)).limit(1)
)

_ADD_GRANT: Statement = insert(OAUTH_GRANT)
_GRANT: Statement = select(*_STORED_GRANTS.columns).where(OAUTH_GRANT.c.id == _ID)
_GRANTS: Statement = select(*_STORED_GRANTS.columns)
_LEASE_GRANT: Statement = (
    update(OAUTH_GRANT)
    .where(
        OAUTH_GRANT.c.id == _ID,
        OAUTH_GRANT.c.version == bindparam("known"),
        or_(OAUTH_GRANT.c.lease_until_ms == 0, is_free(OAUTH_GRANT.c.lease_until_ms)),
    )
    .values(lease_until_ms=LEASE_END)
    .returning(OAUTH_GRANT.c.lease_until_ms)
)
_HELD_GRANT = (OAUTH_GRANT.c.id == _ID, OAUTH_GRANT.c.lease_until_ms == bindparam("held_until_ms"))
_KEEP_LEASE: Statement = (
    update(OAUTH_GRANT).where(*_HELD_GRANT).values(lease_until_ms=LEASE_END).returning(OAUTH_GRANT.c.lease_until_ms)
)
_RENEW_GRANT: Statement = (
    update(OAUTH_GRANT)
    .where(OAUTH_GRANT.c.id == _ID, OAUTH_GRANT.c.version == bindparam("known"))
    .values(
        secrets=bindparam("new_secrets"),
        access_expires_at_ms=bindparam("expires_ms"),
        scopes=bindparam("new_scopes"),
        version=OAUTH_GRANT.c.version + 1,
        is_over=False,
        lease_until_ms=0,
        updated_at_ms=_NOW,
    )
)
_RESEAL_GRANT: Statement = (
    update(OAUTH_GRANT)
    .where(OAUTH_GRANT.c.id == _ID, OAUTH_GRANT.c.version == bindparam("known"))
    .values(secrets=bindparam("new_secrets"))
)
_END_LEASE: Statement = update(OAUTH_GRANT).where(*_HELD_GRANT).values(lease_until_ms=0)
_END_GRANT: Statement = (
    update(OAUTH_GRANT)
    .where(OAUTH_GRANT.c.id == _ID, OAUTH_GRANT.c.version == bindparam("known"))
    .values(is_over=True, lease_until_ms=0, updated_at_ms=_NOW)
)
_BIND_GRANT: Statement = update(OAUTH_GRANT).where(OAUTH_GRANT.c.id == _ID).values(account_id=bindparam("of_account"))
_DELETE_OTHER_GRANTS: Statement = delete(OAUTH_GRANT).where(
    OAUTH_GRANT.c.account_id == bindparam("of_account"), OAUTH_GRANT.c.id != _ID
)
_DELETE_UNBOUND_GRANT: Statement = delete(OAUTH_GRANT).where(
    OAUTH_GRANT.c.id == _ID, OAUTH_GRANT.c.account_id.is_(None)
)
_DELETE_GRANTS_OF: Statement = (
    delete(OAUTH_GRANT).where(OAUTH_GRANT.c.account_id == bindparam("of_account")).returning(*_STORED_GRANTS.columns)
)
_THIS = ACCOUNT.alias("this")
_OTHERS: Statement = (
    select(ACCOUNT.c.id)
    .join(OAUTH_GRANT, OAUTH_GRANT.c.account_id == ACCOUNT.c.id)
    .join(_THIS, func.lower(_THIS.c.email) == func.lower(ACCOUNT.c.email))
    .where(_THIS.c.id == bindparam("of_account"), ACCOUNT.c.id != _THIS.c.id, OAUTH_GRANT.c.oauth_app_id == _ID)
    .limit(1)
)
_DELETE_UNUSED: Statement = delete(OAUTH_GRANT).where(
    or_(OAUTH_GRANT.c.account_id.is_(None), OAUTH_GRANT.c.account_id.not_in(select(ACCOUNT.c.id))),
    OAUTH_GRANT.c.updated_at_ms < bindparam("before_ms"),
)

_ADD_SESSION: Statement = insert(CONNECT_SESSION)
_SESSION: Statement = select(*_STORED_SESSIONS.columns).where(CONNECT_SESSION.c.secret_hash == bindparam("hash"))
_CLAIM_SESSION: Statement = (
    update(CONNECT_SESSION)
    .where(CONNECT_SESSION.c.secret_hash == bindparam("hash"), CONNECT_SESSION.c.browser_hash.is_(None))
    .values(browser_hash=bindparam("browser"))
)
_LIVE_SESSION = (CONNECT_SESSION.c.id == _ID, CONNECT_SESSION.c.expires_at_ms > bindparam("live_at_ms"))
_BEGIN_SESSION: Statement = (
    update(CONNECT_SESSION)
    .where(*_LIVE_SESSION)
    .values(state_hash=bindparam("state"), verifier=bindparam("sealed_verifier"), facts=bindparam("new_facts"))
)
_NOTE_SESSION: Statement = update(CONNECT_SESSION).where(*_LIVE_SESSION).values(facts=bindparam("new_facts"))
_END_SESSION: Statement = (
    update(CONNECT_SESSION).where(*_LIVE_SESSION).values(expires_at_ms=-CONNECT_SESSION.c.expires_at_ms)
)
_TAKE_STATE: Statement = (
    update(CONNECT_SESSION)
    .where(
        CONNECT_SESSION.c.state_hash == bindparam("state"), CONNECT_SESSION.c.expires_at_ms > bindparam("live_at_ms")
    )
    .values(expires_at_ms=-CONNECT_SESSION.c.expires_at_ms)
    .returning(*_STORED_SESSIONS.columns)
)
_STATE: Statement = select(*_STORED_SESSIONS.columns).where(CONNECT_SESSION.c.state_hash == bindparam("state"))
_DELETE_OLD_SESSIONS: Statement = delete(CONNECT_SESSION).where(
    func.abs(CONNECT_SESSION.c.expires_at_ms) < bindparam("before_ms")
)


# ---- apps


async def add_app(transaction: Transaction, values: Mapping[str, Any]) -> None:
    await transaction.execute_many(_ADD_APP, [values])


async def app(reader: Database | Transaction, id_: str) -> StoredApp | None:
    return _STORED_APPS.read_optional(await reader.row(_APP, row_id=id_))


async def apps(database: Database, above_id: str, limit: int) -> list[StoredApp]:
    """Return apps in the order of their creation."""
    return _STORED_APPS.read_all(await database.rows(_APPS, above_id=above_id, limit=limit))


async def change_app(transaction: Transaction, id_: str, changes: Mapping[str, Any]) -> None:
    for name, value in changes.items():
        await transaction.execute(_SET_APP[name], row_id=id_, new_value=value)


async def remove_app(transaction: Transaction, id_: str) -> bool:
    return await transaction.execute(_DELETE_APP, row_id=id_) == 1


async def is_app_in_use(transaction: Transaction, id_: str) -> bool:
    """Whether an account has a grant of the app."""
    return await transaction.row(_GRANTS_OF_APP, row_id=id_) is not None


# ---- grants


async def add_grant(transaction: Transaction, values: Mapping[str, Any]) -> None:
    await transaction.execute_many(_ADD_GRANT, [values])


async def grant(reader: Database | Transaction, id_: str) -> StoredGrant | None:
    return _STORED_GRANTS.read_optional(await reader.row(_GRANT, row_id=id_))


async def grants(database: Database) -> list[StoredGrant]:
    return _STORED_GRANTS.read_all(await database.rows(_GRANTS, is_long=True))


async def lease_grant(transaction: Transaction, id_: str, version: int, slack_ms: int = 0) -> int | None:
    """Return the end of a new lease; None if another process renews the grant, or if it has another version by now.

    A lease is identified by its end: later leases begin after it has ended.
    """
    leasing = transaction.row(_LEASE_GRANT, row_id=id_, known=version, slack_ms=slack_ms)
    until_ms: int | None = value_of(await leasing)
    return until_ms


async def keep_lease(transaction: Transaction, id_: str, until_ms: int) -> int | None:
    """Extend the lease with this end. Return its new end; None if it is lost."""
    kept_until_ms: int | None = value_of(await transaction.row(_KEEP_LEASE, row_id=id_, held_until_ms=until_ms))
    return kept_until_ms


async def renew_grant(
    transaction: Transaction, id_: str, version: int, secrets: bytes, scopes: str, expires_at_ms: int, now_ms: int
) -> bool:
    """Store new secrets, end the lease, and mark the grant as valid.

    Return False if another process has stored newer ones. A process that used the old secrets may have marked the
    grant as over meanwhile.
    """
    values = {"new_secrets": secrets, "new_scopes": scopes, "expires_ms": expires_at_ms, "now_ms": now_ms}
    return await transaction.execute(_RENEW_GRANT, row_id=id_, known=version, **values) == 1


async def reseal_grant(transaction: Transaction, id_: str, version: int, secrets: bytes) -> bool:
    return await transaction.execute(_RESEAL_GRANT, row_id=id_, known=version, new_secrets=secrets) == 1


async def end_lease(transaction: Transaction, id_: str, until_ms: int) -> None:
    """End the lease with this end, and no other."""
    await transaction.execute(_END_LEASE, row_id=id_, held_until_ms=until_ms)


async def end_grant(transaction: Transaction, id_: str, version: int, now_ms: int) -> bool:
    """Mark it as over. Return False if it was renewed meanwhile."""
    return await transaction.execute(_END_GRANT, row_id=id_, known=version, now_ms=now_ms) == 1


async def bind_grant(transaction: Transaction, id_: str, account_id: str) -> bool:
    """Make it the account's only grant. Return False if it has been removed."""
    is_bound = await transaction.execute(_BIND_GRANT, row_id=id_, of_account=account_id) == 1
    await transaction.execute(_DELETE_OTHER_GRANTS, row_id=id_, of_account=account_id)
    return is_bound


async def remove_unbound_grant(transaction: Transaction, id_: str) -> None:
    """Remove a grant that no account uses."""
    await transaction.execute(_DELETE_UNBOUND_GRANT, row_id=id_)


async def take_grants_of(transaction: Transaction, account_id: str) -> list[StoredGrant]:
    """Remove an account's grants and return them."""
    return _STORED_GRANTS.read_all(await transaction.rows(_DELETE_GRANTS_OF, of_account=account_id))


async def has_other_account(transaction: Transaction, app_id: str, account_id: str) -> bool:
    """Whether another account of the same address has a grant of the app."""
    return await transaction.row(_OTHERS, row_id=app_id, of_account=account_id) is not None


async def remove_unused(transaction: Transaction, before_ms: int) -> None:
    """Remove grants without an account (their first login failed) and ended connect sessions from before then."""
    await transaction.execute(_DELETE_UNUSED, before_ms=before_ms)
    await transaction.execute(_DELETE_OLD_SESSIONS, before_ms=before_ms)


# ---- connect sessions


async def add_session(transaction: Transaction, values: Mapping[str, Any]) -> None:
    await transaction.execute_many(_ADD_SESSION, [values])


async def session(reader: Database | Transaction, secret_hash: str) -> StoredSession | None:
    return _STORED_SESSIONS.read_optional(await reader.row(_SESSION, hash=secret_hash))


async def claim_session(transaction: Transaction, secret_hash: str, browser_hash: str) -> bool:
    """Bind it to the browser that opens it first. Return False if it was bound already."""
    return await transaction.execute(_CLAIM_SESSION, hash=secret_hash, browser=browser_hash) == 1


async def begin_session(
    transaction: Transaction, id_: str, state_hash: str, verifier: bytes, facts: str, now_ms: int
) -> bool:
    """Start a consent; the state of an earlier attempt becomes invalid. Return False if the session is over."""
    values = {"state": state_hash, "sealed_verifier": verifier, "new_facts": facts, "live_at_ms": now_ms}
    return await transaction.execute(_BEGIN_SESSION, row_id=id_, **values) == 1


async def note_session(transaction: Transaction, id_: str, facts: str, now_ms: int) -> bool:
    """Return False if the session is over."""
    return await transaction.execute(_NOTE_SESSION, row_id=id_, new_facts=facts, live_at_ms=now_ms) == 1


async def session_of_state(reader: Database | Transaction, state_hash: str) -> StoredSession | None:
    return _STORED_SESSIONS.read_optional(await reader.row(_STATE, state=state_hash))


async def take_state(transaction: Transaction, state_hash: str, now_ms: int) -> StoredSession | None:
    """End the session that waits for this state; None if it is over. A state can be used once."""
    row = await transaction.row(_TAKE_STATE, state=state_hash, live_at_ms=now_ms)
    return _STORED_SESSIONS.read_optional(row)


async def end_session(transaction: Transaction, id_: str, now_ms: int) -> None:
    """End the session; its row stays until `remove_unused`, for repeated requests."""
    await transaction.execute(_END_SESSION, row_id=id_, live_at_ms=now_ms)
