"""Deletes values that were encrypted with a lost master key: nobody can decrypt them any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Column, ColumnElement, LargeBinary, bindparam, case, delete, func, select, update

from app.db.session import Statement, Transaction
from app.db.tables import ACCOUNT, CONNECT_SESSION, OAUTH_APP, OAUTH_GRANT


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many accounts need a new login, and how many OAuth apps their client secret."""

    accounts: int
    apps: int


def _is_sealed(column: Column[bytes]) -> ColumnElement[bool]:
    """The condition that the key encrypted it: see `security.vault` for the format of an encrypted value."""
    return func.substr(column, 2, 4, type_=LargeBinary()) == bindparam("key_id", type_=LargeBinary())


_LOGIN_NEEDED = case((ACCOUNT.c.status == "disabled", "disabled"), else_="auth_required")
_GRANTS: Statement = select(OAUTH_GRANT.c.id, OAUTH_GRANT.c.account_id).where(_is_sealed(OAUTH_GRANT.c.secrets))
_END_GRANT: Statement = (
    update(OAUTH_GRANT)
    .where(OAUTH_GRANT.c.id == bindparam("grant_id"))
    .values(is_over=True, secrets=bindparam("no_tokens", type_=LargeBinary()), version=OAUTH_GRANT.c.version + 1)
)
_ASK_FOR_CONSENT: Statement = (
    update(ACCOUNT).where(ACCOUNT.c.id == bindparam("account_id")).values(status=_LOGIN_NEEDED, sync_status="down")
)
_FORGET_PASSWORDS: Statement = (
    update(ACCOUNT)
    .where(_is_sealed(ACCOUNT.c.secrets))
    .values(secrets=None, status=_LOGIN_NEEDED, sync_status="down")
    .returning(ACCOUNT.c.id)
)
_FORGET_CLIENTS: Statement = update(OAUTH_APP).where(_is_sealed(OAUTH_APP.c.secret)).values(secret=None)
_END_SESSIONS: Statement = delete(CONNECT_SESSION).where(_is_sealed(CONNECT_SESSION.c.verifier))


async def forget(transaction: Transaction, key_id: bytes, no_tokens: Callable[[str], bytes]) -> Forgotten:
    """Delete passwords, tokens and client secrets. `no_tokens` encrypts, for a grant id, that there are no tokens."""
    accounts = {str(id_) for (id_,) in await transaction.rows(_FORGET_PASSWORDS, key_id=key_id)}
    for grant_id, account_id in await transaction.rows(_GRANTS, key_id=key_id):
        await transaction.execute(_END_GRANT, grant_id=grant_id, no_tokens=no_tokens(grant_id))
        if account_id is not None:
            await transaction.execute(_ASK_FOR_CONSENT, account_id=account_id)
            accounts.add(account_id)
    apps = await transaction.execute(_FORGET_CLIENTS, key_id=key_id)
    await transaction.execute(_END_SESSIONS, key_id=key_id)
    return Forgotten(len(accounts), apps)
