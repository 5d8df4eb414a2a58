"""The directory of accounts: their rows, servers and sync states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Table, bindparam, delete, func, literal, select, update

from app.db import origins
from app.db.row_types import RowType
from app.db.session import Database, Statement, Transaction, insert_or, is_one_of, json_list, value_of
from app.db.tables import (
    ACCOUNT,
    CONSUMER,
    DEPARTED,
    DETAIL,
    EVENT,
    LEASE,
    MAILBOX,
    MESSAGE,
    PLACEMENT,
    POP3_MESSAGE,
    SEARCH_TEXT,
    SUBMISSION,
    SUBSCRIBED_NAME,
    THREAD_ALIAS,
    THREAD_LINK,
    TOKEN,
    TOMBSTONE,
)


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account as stored.

    `servers` is JSON; `secrets` are the encrypted passwords of the servers; `settings` is JSON with its metadata.
    """

    id: str
    kind: str
    email: str
    name: str
    status: str
    sync_status: str
    sync_mode: str
    checked_at_ms: int
    servers: str
    secrets: bytes | None = field(repr=False)
    settings: str
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class StoredSync:
    """How fresh the index of an account is, as stored."""

    sync_status: str
    sync_mode: str
    checked_at_ms: int


@dataclass(frozen=True, slots=True)
class StoredSecrets:
    """The encrypted passwords of an account."""

    id: str
    secrets: bytes = field(repr=False)


_ACCOUNTS = RowType(StoredAccount, ACCOUNT)
_SYNCS = RowType(StoredSync, ACCOUNT)
_SECRETS = RowType(StoredSecrets, ACCOUNT)
_ID = ACCOUNT.c.id == bindparam("account_id")
_ALL: Statement = select(ACCOUNT.c.id).order_by(ACCOUNT.c.id)
_EXISTING: Statement = select(ACCOUNT.c.id).where(is_one_of(ACCOUNT.c.id, bindparam("ids")))
_SYNC: Statement = select(*_SYNCS.columns).where(_ID)
_GET: Statement = select(*_ACCOUNTS.columns).where(_ID)
_PAGE: Statement = (
    select(*_ACCOUNTS.columns)
    .where(ACCOUNT.c.id > bindparam("above_id"))
    .order_by(ACCOUNT.c.id)
    .limit(bindparam("limit"))
)
_PAGE_OF: Statement = (
    select(*_ACCOUNTS.columns)
    .where(ACCOUNT.c.id > bindparam("above_id"), is_one_of(ACCOUNT.c.id, bindparam("ids")))
    .order_by(ACCOUNT.c.id)
    .limit(bindparam("limit"))
)
_REMOTE_AT: Statement = (
    select(ACCOUNT.c.id)
    .where(
        func.lower(ACCOUNT.c.email) == bindparam("email_given"),
        ACCOUNT.c.kind != "embedded",
        ACCOUNT.c.status != "disabled",
    )
    .order_by(ACCOUNT.c.id)
    .limit(bindparam("limit"))
)
_CONNECTIONS: Statement = select(ACCOUNT.c.id, ACCOUNT.c.servers, ACCOUNT.c.secrets).where(
    is_one_of(ACCOUNT.c.id, bindparam("ids"))
)
_SETTINGS: Statement = select(ACCOUNT.c.settings).where(_ID).with_for_update()
_SEALED: Statement = select(*_SECRETS.columns).where(ACCOUNT.c.secrets.is_not(None))
_ADD: Statement = insert_or(ACCOUNT).on_conflict_do_nothing()
_CHANGEABLE = ("name", "status", "servers", "secrets", "password_hash", "settings")
_CHANGES: dict[str, Statement] = {
    name: update(ACCOUNT).where(_ID).values({name: bindparam("new_value", type_=ACCOUNT.c[name].type)})
    for name in _CHANGEABLE
}
_DELETE: Statement = delete(ACCOUNT).where(_ID)
_TOKENS_OF: Statement = delete(TOKEN).where(TOKEN.c.account_ids == bindparam("only_ids")).returning(TOKEN.c.origins)


def _some_rows(table: Table, key: str) -> Statement:
    """Delete up to `limit` rows of an account, so that other writers do not wait long."""
    column = table.c[key]
    chosen = select(column).where(table.c.account_id == bindparam("account_id")).limit(bindparam("limit"))
    return delete(table).where(table.c.account_id == bindparam("account_id"), column.in_(chosen))


_LARGE: tuple[Statement, ...] = (
    _some_rows(DETAIL, "id"),
    _some_rows(SEARCH_TEXT, "id"),
    _some_rows(MESSAGE, "id"),
    _some_rows(PLACEMENT, "message_id"),
    _some_rows(EVENT, "seq"),
    _some_rows(TOMBSTONE, "subject"),
    _some_rows(DEPARTED, "message_id"),
    _some_rows(THREAD_LINK, "message_id_header"),
    _some_rows(THREAD_ALIAS, "thread_id"),
    _some_rows(SUBMISSION, "id"),
    _some_rows(CONSUMER, "name"),
    _some_rows(SUBSCRIBED_NAME, "path"),
    _some_rows(POP3_MESSAGE, "uidl"),
    _some_rows(LEASE, "worker"),
    _some_rows(MAILBOX, "id"),
)
"""Mailboxes are deleted last: while one remains, the other rows of a removed account can be found."""
_ORPHANS: Statement = select(MAILBOX.c.account_id).where(MAILBOX.c.account_id.not_in(select(ACCOUNT.c.id))).distinct()
_BATCH_ROWS = 2_000


async def all_ids(reader: Database | Transaction) -> list[str]:
    """Return all accounts, oldest first."""
    return [id_ for (id_,) in await reader.rows(_ALL)]


async def existing(reader: Database | Transaction, ids: Sequence[str]) -> set[str]:
    """Return those of the ids that are accounts."""
    return {id_ for (id_,) in await reader.rows(_EXISTING, ids=json_list(list(ids)))}


async def sync_of(reader: Database | Transaction, account_id: str) -> StoredSync | None:
    return _SYNCS.read_optional(await reader.row(_SYNC, account_id=account_id))


async def get(reader: Database | Transaction, account_id: str) -> StoredAccount | None:
    return _ACCOUNTS.read_optional(await reader.row(_GET, account_id=account_id))


async def fingerprints(reader: Database | Transaction, ids: Sequence[str]) -> dict[str, int]:
    """Return by account, for those that exist, a number that changes with its servers and their passwords."""
    rows = await reader.rows(_CONNECTIONS, ids=json_list(ids))
    return {id_: hash((servers, secrets)) for id_, servers, secrets in rows}


async def remote_at(database: Database, email: str, limit: int) -> list[str]:
    """Return the external accounts with this address, oldest first."""
    rows = await database.rows(_REMOTE_AT, email_given=email.lower(), limit=limit)
    return [id_ for (id_,) in rows]


async def page(
    database: Database, above_id: str, limit: int, ids: Sequence[str] | None, members: Sequence[str] = ()
) -> list[StoredAccount]:
    """Return accounts in the order of their creation whose `settings` contain all `members`; only `ids` if given.

    Letters may be compared ignoring case: compare the results exactly.
    """
    if members:
        return await _page_with(database, above_id, limit, ids, members)
    if ids is None:
        return _ACCOUNTS.read_all(await database.rows(_PAGE, above_id=above_id, limit=limit))
    rows = await database.rows(_PAGE_OF, above_id=above_id, limit=limit, ids=json_list(list(ids)))
    return _ACCOUNTS.read_all(rows)


async def _page_with(
    database: Database, above_id: str, limit: int, ids: Sequence[str] | None, members: Sequence[str]
) -> list[StoredAccount]:
    statement = select(*_ACCOUNTS.columns).where(ACCOUNT.c.id > above_id).order_by(ACCOUNT.c.id).limit(limit)
    for member in members:
        statement = statement.where(ACCOUNT.c.settings.contains(member, autoescape=True))
    if ids is not None:
        statement = statement.where(is_one_of(ACCOUNT.c.id, literal(json_list(list(ids)))))
    return _ACCOUNTS.read_all(await database.rows(statement, is_long=True))


async def locked_settings(transaction: Transaction, account_id: str) -> str | None:
    """Return the column `settings`, locked until the end of the transaction; None without the account."""
    settings: str | None = value_of(await transaction.row(_SETTINGS, account_id=account_id))
    return settings


async def add(transaction: Transaction, values: Mapping[str, Any]) -> bool:
    """Return False if another embedded account has the address."""
    return await transaction.execute(_ADD, **values) == 1


async def change(transaction: Transaction, account_id: str, changes: Mapping[str, Any]) -> None:
    """Set columns among name, status, servers, secrets, password_hash, settings."""
    for name, value in changes.items():
        await transaction.execute(_CHANGES[name], account_id=account_id, new_value=value)


async def sealed_secrets(reader: Database | Transaction) -> list[StoredSecrets]:
    """Return the encrypted passwords of all accounts that have any."""
    return _SECRETS.read_all(await reader.rows(_SEALED))


async def remove(transaction: Transaction, account_id: str) -> bool:
    """Delete the row of an account, and the tokens for it alone. Return False if there was none."""
    ended = await transaction.rows(_TOKENS_OF, only_ids=json_list([account_id]))
    await origins.remember_ended(transaction, [allowed for (allowed,) in ended])
    return await transaction.execute(_DELETE, account_id=account_id) == 1


async def clear(database: Database, account_id: str) -> None:
    """Delete the remaining rows of a removed account, in batches."""

    async def work(transaction: Transaction) -> bool:
        for statement in _LARGE:
            if await transaction.execute(statement, account_id=account_id, limit=_BATCH_ROWS):
                return True
        return False

    while await database.write(work):
        pass


async def orphans(database: Database) -> list[str]:
    """Return the ids of removed accounts that still have rows."""
    return [id_ for (id_,) in await database.rows(_ORPHANS, is_long=True)]
