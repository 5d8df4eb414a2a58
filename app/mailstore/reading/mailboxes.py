"""Mailboxes of an account, and the status of its index."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields

from sqlalchemy import Boolean, and_, bindparam, literal, select

from app.db.session import Database, Row, Statement, Transaction, in_code_order, value_of
from app.db.tables import ACCOUNT, MAILBOX, MESSAGE, PLACEMENT
from app.errors import AccountNotFound, MailboxNotFound
from app.mail.types import AccountId, AccountKind, Mailbox, MailboxId, Position, Role
from app.mailstore.reading.columns import ACCOUNT_ID

MANY_MAILBOXES = 500
"""More mailboxes than this are built from their rows in a thread."""

_FIELDS = [field.name for field in fields(Mailbox)]
_PARENT = _FIELDS.index("parent_id")
"""The only field without a column."""
_NAMES = [*_FIELDS[:_PARENT], *_FIELDS[_PARENT + 1 :]]
_MAILBOX_COLUMNS = [MAILBOX.c[name] for name in _NAMES]
_ID, _PATH, _ROLE = map(_NAMES.index, ("id", "path", "role"))
_FLAGS = [index for index, column in enumerate(_MAILBOX_COLUMNS) if isinstance(column.type, Boolean)]
_THE_MAILBOX: Statement = select(*_MAILBOX_COLUMNS).where(
    MAILBOX.c.account_id == ACCOUNT_ID, MAILBOX.c.id == bindparam("mailbox_id")
)
_MAILBOX_AT: Statement = select(MAILBOX.c.id).where(
    MAILBOX.c.account_id == ACCOUNT_ID, MAILBOX.c.path == bindparam("path")
)
_MAILBOXES: Statement = (
    select(*_MAILBOX_COLUMNS).where(MAILBOX.c.account_id == ACCOUNT_ID).order_by(in_code_order(MAILBOX.c.path))
)
_ROLES: Statement = (
    select(MAILBOX.c.id, MAILBOX.c.role)
    .where(MAILBOX.c.account_id == ACCOUNT_ID, MAILBOX.c.role.is_not(None))
    .order_by(MAILBOX.c.id)
)
_COUNTS: Statement = (
    select(MAILBOX.c.id, MAILBOX.c.unread, MAILBOX.c.total)
    .where(MAILBOX.c.account_id == ACCOUNT_ID, MAILBOX.c.is_selectable)
    .order_by(in_code_order(MAILBOX.c.path))
)
_STANDING: Statement = (
    select(
        ACCOUNT.c.last_seq,
        ACCOUNT.c.last_event_ms,
        ACCOUNT.c.sync_status,
        ACCOUNT.c.sync_mode,
        ACCOUNT.c.checked_at_ms,
        MAILBOX.c.uid_validity,
        MAILBOX.c.is_complete,
        MAILBOX.c.total,
        ACCOUNT.c.has_placements,
        ACCOUNT.c.kind,
    )
    .outerjoin(MAILBOX, and_(MAILBOX.c.account_id == ACCOUNT.c.id, MAILBOX.c.id == bindparam("mailbox_id")))
    .where(ACCOUNT.c.id == ACCOUNT_ID)
)


_IN_MAILBOX = tuple(
    select(literal(1)).where(table.c.account_id == ACCOUNT_ID, table.c.mailbox_id == bindparam("mailbox_id")).limit(1)
    for table in (MESSAGE, PLACEMENT)
)
_IN_ACCOUNT: Statement = select(literal(1)).where(MESSAGE.c.account_id == ACCOUNT_ID).limit(1)


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """The status of an account's index, read in one query before a list.

    `seq` and `at_ms` are of its last event. The three from `uid_validity` are of one mailbox; None if none was given.
    """

    seq: int
    at_ms: int
    sync_status: str
    sync_mode: str
    checked_at_ms: int
    uid_validity: int | None
    is_complete: bool | None
    total: int | None
    has_placements: bool | None = None
    """Whether messages of the account have been in several mailboxes at once."""
    kind: str = AccountKind.IMAP.value

    @property
    def position(self) -> Position:
        """The end of the account's log."""
        return Position(self.seq, self.at_ms)


def _mailboxes_of(rows: Sequence[Row]) -> list[Mailbox]:
    parents = {row[_PATH]: MailboxId(row[_ID]) for row in rows}
    return [_mailbox_of(row, parents) for row in rows]


def _mailbox_of(row: Row, parents: Mapping[str, MailboxId]) -> Mailbox:
    """`parents` maps paths to ids."""
    values, path = list(row), row[_PATH]
    values[_ROLE] = Role(values[_ROLE]) if values[_ROLE] else None
    for index in _FLAGS:  # SQLite returns 0 and 1
        values[index] = bool(values[index])
    values.insert(_PARENT, parents.get(path.rpartition("/")[0]) if "/" in path else None)
    return Mailbox(*values)


class MailboxReader:
    """Reads mailboxes, and the status of an account's index. Inside a write, pass its transaction."""

    def __init__(self, database: Database | Transaction) -> None:
        self._database = database

    async def mailbox(self, account_id: AccountId, mailbox_id: str) -> Mailbox:
        """Raises MailboxNotFound."""
        row = await self._database.row(_THE_MAILBOX, account_id=account_id, mailbox_id=mailbox_id)
        if row is None:
            raise MailboxNotFound
        above = row[_PATH].rpartition("/")[0]
        parent = await self._database.row(_MAILBOX_AT, account_id=account_id, path=above) if above else None
        return _mailbox_of(row, {} if parent is None else {above: value_of(parent)})

    async def mailboxes(self, account_id: AccountId) -> list[Mailbox]:
        """Return all mailboxes of an account, by path."""
        rows = await self._database.rows(_MAILBOXES, account_id=account_id)
        return await asyncio.to_thread(_mailboxes_of, rows) if len(rows) > MANY_MAILBOXES else _mailboxes_of(rows)

    async def counts(self, account_id: AccountId) -> dict[MailboxId, tuple[int, int]]:
        """Return unread and total messages of each mailbox that can hold messages, by path."""
        rows = await self._database.rows(_COUNTS, account_id=account_id)
        return {MailboxId(id_): (unread, total) for id_, unread, total in rows}

    async def mailbox_named(self, account_id: AccountId, path: str) -> Mailbox | None:
        """Return the mailbox with this path, or None."""
        mailbox_id: str | None = value_of(await self._database.row(_MAILBOX_AT, account_id=account_id, path=path))
        if mailbox_id is None:
            return None
        with suppress(MailboxNotFound):
            return await self.mailbox(account_id, mailbox_id)
        return None

    async def roles(self, account_id: AccountId) -> list[tuple[MailboxId, Role]]:
        """Return the mailboxes of an account that have a role."""
        rows = await self._database.rows(_ROLES, account_id=account_id)
        return [(MailboxId(id_), Role(role)) for id_, role in rows]

    async def is_empty(self, account_id: AccountId, mailbox_id: str | None) -> bool:
        """Whether the index has no message of a mailbox, or of the account."""
        if mailbox_id is None:
            return await self._database.row(_IN_ACCOUNT, account_id=account_id) is None
        for statement in _IN_MAILBOX:
            if await self._database.row(statement, account_id=account_id, mailbox_id=mailbox_id) is not None:
                return False
        return True

    async def standing(self, account_id: AccountId, mailbox_id: str | None = None) -> IndexStatus:
        """Raises AccountNotFound."""
        row = await self._database.row(_STANDING, account_id=account_id, mailbox_id=mailbox_id)
        if row is None:
            raise AccountNotFound
        return IndexStatus(*row)
