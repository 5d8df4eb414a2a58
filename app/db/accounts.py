"""Queries over accounts: who an address belongs to, and what proves it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BindParameter, and_, bindparam, select, update

from app.db.session import Database, Statement, Transaction
from app.db.tables import ACCOUNT, MAILBOX
from app.mail.types import AccountId, AccountKind, MailboxId

_ADDRESS: BindParameter[str] = bindparam("address_given")
_LOGIN: Statement = select(ACCOUNT.c.id, ACCOUNT.c.password_hash, ACCOUNT.c.status).where(ACCOUNT.c.address == _ADDRESS)
_INBOX: Statement = (
    select(ACCOUNT.c.id, MAILBOX.c.id)
    .join(MAILBOX, and_(MAILBOX.c.account_id == ACCOUNT.c.id, MAILBOX.c.path == "INBOX"))
    .where(ACCOUNT.c.address == _ADDRESS, ACCOUNT.c.status != "disabled")
)
_ADDRESS_OF: Statement = select(ACCOUNT.c.address).where(ACCOUNT.c.id == bindparam("account_id"))
_KIND_OF: Statement = select(ACCOUNT.c.kind).where(ACCOUNT.c.id == bindparam("account_id"))
_SET_PASSWORD: Statement = (
    update(ACCOUNT).where(ACCOUNT.c.id == bindparam("account_id")).values(password_hash=bindparam("new_hash"))
)


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """What a login of an embedded account is checked against. `repr` never shows the hash."""

    account_id: AccountId
    password_hash: str | None
    is_disabled: bool

    def __repr__(self) -> str:
        return f"StoredLogin({self.account_id!r})"


async def login_of(database: Database, address: str) -> StoredLogin | None:
    """The embedded account of an address in lower case."""
    row = await database.row(_LOGIN, address_given=address)
    return None if row is None else StoredLogin(AccountId(row[0]), row[1], row[2] == "disabled")


async def inbox_of(database: Database, address: str) -> tuple[AccountId, MailboxId] | None:
    """Where mail for an address (in lower case) goes: an embedded account and its INBOX."""
    row = await database.row(_INBOX, address_given=address)
    return None if row is None else (AccountId(row[0]), MailboxId(row[1]))


async def address_of(database: Database, account_id: AccountId) -> str | None:
    """The address of an embedded account, in lower case."""
    row = await database.row(_ADDRESS_OF, account_id=account_id)
    return None if row is None or row[0] is None else str(row[0])


async def kind_of(database: Database, account_id: AccountId) -> AccountKind | None:
    row = await database.row(_KIND_OF, account_id=account_id)
    return None if row is None else AccountKind(row[0])


async def set_password_hash(transaction: Transaction, account_id: AccountId, password_hash: str) -> bool:
    """Whether there is such an account."""
    return await transaction.execute(_SET_PASSWORD, account_id=account_id, new_hash=password_hash) == 1
