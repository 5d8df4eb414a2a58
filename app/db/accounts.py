"""Queries on accounts: addresses and credentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import BindParameter, and_, bindparam, select, update

from app.db.session import Database, Statement, Transaction, is_one_of, json_list, value_of
from app.db.tables import ACCOUNT, MAILBOX
from app.mail.storable import json_bytes
from app.mail.types import AccountId, AccountKind, MailboxId

_ADDRESS: BindParameter[str] = bindparam("address_given")
_LOGIN: Statement = select(
    ACCOUNT.c.id, ACCOUNT.c.password_hash, ACCOUNT.c.status, ACCOUNT.c.credentials_version
).where(ACCOUNT.c.address == _ADDRESS)
_VERSIONS: Statement = select(ACCOUNT.c.id, ACCOUNT.c.credentials_version).where(
    is_one_of(ACCOUNT.c.id, bindparam("ids")), ACCOUNT.c.status != "disabled"
)
_HELD_VERSION: Statement = (
    select(ACCOUNT.c.credentials_version)
    .where(ACCOUNT.c.id == bindparam("account_id"), ACCOUNT.c.status != "disabled")
    .with_for_update(read=True)
)
_NEXT_VERSION: Statement = (
    update(ACCOUNT)
    .where(ACCOUNT.c.id == bindparam("account_id"))
    .values(credentials_version=ACCOUNT.c.credentials_version + 1)
)
_INBOX: Statement = (
    select(ACCOUNT.c.id, MAILBOX.c.id)
    .join(MAILBOX, and_(MAILBOX.c.account_id == ACCOUNT.c.id, MAILBOX.c.path == "INBOX"))
    .where(ACCOUNT.c.address == _ADDRESS, ACCOUNT.c.status != "disabled")
)
_ADDRESS_OF: Statement = select(ACCOUNT.c.address).where(ACCOUNT.c.id == bindparam("account_id"))
_SETTINGS: Statement = select(ACCOUNT.c.settings).where(ACCOUNT.c.id == bindparam("account_id"))
_SET_SETTINGS: Statement = (
    update(ACCOUNT).where(ACCOUNT.c.id == bindparam("account_id")).values(settings=bindparam("new_value"))
)
_KIND_OF: Statement = select(ACCOUNT.c.kind).where(ACCOUNT.c.id == bindparam("account_id"))


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """The stored credentials of an embedded account. `repr` never shows the hash."""

    account_id: AccountId
    password_hash: str | None
    is_disabled: bool
    credentials_version: int

    def __repr__(self) -> str:
        return f"StoredLogin({self.account_id!r})"


async def login_of(database: Database, address: str) -> StoredLogin | None:
    """Return the stored credentials of the embedded account with an address in lower case."""
    row = await database.row(_LOGIN, address_given=address)
    if row is None:
        return None
    id_, password_hash, status, version = row
    return StoredLogin(AccountId(id_), password_hash, status == "disabled", version)


async def inbox_of(database: Database, address: str) -> tuple[AccountId, MailboxId] | None:
    """Return the embedded account of an address (in lower case) and its INBOX."""
    row = await database.row(_INBOX, address_given=address)
    if row is None:
        return None
    account_id, mailbox_id = row
    return AccountId(account_id), MailboxId(mailbox_id)


async def address_of(database: Database, account_id: AccountId) -> str | None:
    """Return the address of an embedded account, in lower case."""
    address: str | None = value_of(await database.row(_ADDRESS_OF, account_id=account_id))
    return address


async def kind_of(database: Database, account_id: AccountId) -> AccountKind | None:
    kind = value_of(await database.row(_KIND_OF, account_id=account_id))
    return None if kind is None else AccountKind(kind)


async def credentials_versions(source: Database | Transaction, account_ids: Sequence[str]) -> dict[str, int]:
    """Return the versions by account, for accounts that exist and are not disabled."""
    rows = await source.rows(_VERSIONS, ids=json_list(account_ids))
    return dict(rows)


async def credentials_version(source: Database | Transaction, account_id: AccountId) -> int | None:
    return (await credentials_versions(source, [account_id])).get(account_id)


async def held_credentials_version(transaction: Transaction, account_id: AccountId) -> int | None:
    """Return the version, locked until the transaction ends; None if the account accepts no logins."""
    version: int | None = value_of(await transaction.row(_HELD_VERSION, account_id=account_id))
    return version


async def raise_credentials_version(transaction: Transaction, account_id: AccountId) -> None:
    """End the sessions of the old credentials: sign-ins and mail sessions."""
    await transaction.execute(_NEXT_VERSION, account_id=account_id)


async def files_sent(database: Database, account_id: str) -> bool:
    """Whether the account's mail server was observed to store sent mail by itself."""
    stored: str | None = value_of(await database.row(_SETTINGS, account_id=account_id))
    return bool(stored) and bool(orjson.loads(stored or "{}").get("files_sent"))


async def set_files_sent(database: Database, account_id: str, *, files_sent: bool) -> None:
    async def work(transaction: Transaction) -> None:
        stored: str | None = value_of(await transaction.row(_SETTINGS, account_id=account_id))
        settings = orjson.loads(stored or "{}") | {"files_sent": files_sent}
        await transaction.execute(_SET_SETTINGS, account_id=account_id, new_value=json_bytes(settings).decode())

    await database.write(work, is_durable=False)
