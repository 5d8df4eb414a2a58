"""The size of an account, as far as its mail is in the index."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import bindparam, func, select

from app.db.session import Database, Statement, is_one_of, json_list
from app.db.tables import MESSAGE
from app.mail.types import AccountId

_USAGE: Statement = select(func.count(), func.coalesce(func.sum(MESSAGE.c.size_bytes), 0)).where(
    MESSAGE.c.account_id == bindparam("account_id")
)
_USAGE_OF: Statement = select(func.count(), func.coalesce(func.sum(MESSAGE.c.size_bytes), 0)).where(
    MESSAGE.c.account_id == bindparam("account_id"), is_one_of(MESSAGE.c.mailbox_id, bindparam("ids"))
)


async def usage_of(
    database: Database, account_id: AccountId, mailbox_ids: Collection[str] | None = None
) -> tuple[int, int]:
    """Return messages and bytes, of some mailboxes or of all."""
    if mailbox_ids is None:
        row = await database.row(_USAGE, account_id=account_id)
    else:
        row = await database.row(_USAGE_OF, account_id=account_id, ids=json_list(sorted(mailbox_ids)))
    assert row is not None
    messages, size_bytes = row
    return int(messages), int(size_bytes)
