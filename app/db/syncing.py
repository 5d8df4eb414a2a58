"""Queries of the sync workers: the accounts to follow, and their states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import bindparam, select, update

from app.db.session import Database, Statement, Transaction, is_one_of, json_list, value_of
from app.db.tables import ACCOUNT, OAUTH_GRANT

UNFOLLOWED = ("disabled", "auth_required")
"""Accounts in one of these states wait for a user's change."""


@dataclass(frozen=True, slots=True)
class FollowedAccount:
    """An external account to follow, with the data of its login. `is_consent_over` is None without a grant."""

    id: str
    servers: str
    secrets: bytes | None = field(repr=False)
    is_consent_over: bool | None


_FOLLOWED: Statement = (
    select(ACCOUNT.c.id, ACCOUNT.c.servers, ACCOUNT.c.secrets, OAUTH_GRANT.c.is_over)
    .outerjoin(OAUTH_GRANT, OAUTH_GRANT.c.account_id == ACCOUNT.c.id)
    .where(ACCOUNT.c.kind != "embedded", ACCOUNT.c.status.not_in(UNFOLLOWED))
)
_UNWATCHED: Statement = (
    update(ACCOUNT)
    .where(is_one_of(ACCOUNT.c.id, bindparam("ids")), ACCOUNT.c.sync_status == "live")
    .values(sync_status="initial")
)
_CHANGEABLE = ("status", "sync_status", "sync_mode", "checked_at_ms", "quotas")
_STATUS: Statement = select(ACCOUNT.c.status).where(ACCOUNT.c.id == bindparam("account_id"))
_QUOTAS: Statement = select(ACCOUNT.c.quotas).where(ACCOUNT.c.id == bindparam("account_id"))
_SET: dict[str, Statement] = {
    name: update(ACCOUNT)
    .where(ACCOUNT.c.id == bindparam("account_id"), ACCOUNT.c.status != "disabled")
    .values({name: bindparam("new_value", type_=ACCOUNT.c[name].type)})
    for name in _CHANGEABLE
}


async def followed(database: Database) -> list[FollowedAccount]:
    """Return every external account that a worker should follow."""
    return [FollowedAccount(*row) for row in await database.rows(_FOLLOWED)]


async def mark_unwatched(transaction: Transaction, ids: Sequence[str]) -> None:
    """Reset the sync states of an earlier worker: no worker watches these accounts yet."""
    await transaction.execute(_UNWATCHED, ids=json_list(list(ids)))


async def set_state(transaction: Transaction, account_id: str, **columns: Any) -> None:
    """Set columns among status, sync_status, sync_mode, checked_at_ms, quotas; a disabled account is not changed."""
    for name, value in columns.items():
        await transaction.execute(_SET[name], account_id=account_id, new_value=value)


async def status(transaction: Transaction, account_id: str) -> str | None:
    """Return the status of an account; None if it was removed."""
    text: str | None = value_of(await transaction.row(_STATUS, account_id=account_id))
    return text


async def quotas_told(transaction: Transaction, account_id: str) -> str:
    """Return the quotas of the account as last reported; "" if never."""
    return value_of(await transaction.row(_QUOTAS, account_id=account_id)) or ""
