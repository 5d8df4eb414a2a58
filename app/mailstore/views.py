"""Reads of a mailbox for the mail servers: rows by UID with only the requested columns, and changes.

Columns have their names in the tables `message` and `detail`, so that a FETCH of several items is one query.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, select

from app.db.session import Database, Row, Statement, is_one_of, json_list, value_of
from app.db.tables import ACCOUNT, DETAIL, EVENT, MAILBOX, MESSAGE
from app.mail.types import DELETED, AccountId, BodyPart, MailboxId
from app.mailstore.rows import detail_of

HEADER_LIMIT_BYTES = 64 * 1024
"""The most of a header that is read with a row: some are megabytes, and hundreds of rows are read at a time."""
LONG_FROM_ROWS = 500
"""Reads of this many rows or more run in a thread."""

_ACCOUNT_ID = MESSAGE.c.account_id == bindparam("account_id")
_HERE = (_ACCOUNT_ID, MESSAGE.c.mailbox_id == bindparam("mailbox_id"))
_UIDS: Statement = (
    select(MESSAGE.c.uid)
    .where(*_HERE, MESSAGE.c.uid > bindparam("uid"))
    .order_by(MESSAGE.c.uid)
    .limit(bindparam("limit"))
)
_FLAGS: Statement = (
    select(MESSAGE.c.flags, func.min(MESSAGE.c.uid).label("first_uid"))
    .where(*_HERE)
    .group_by(MESSAGE.c.flags)
    .order_by("first_uid")
    .limit(bindparam("limit"))
)
_CHANGES: Statement = (
    select(
        EVENT.c.seq,
        EVENT.c.type,
        EVENT.c.mailbox_id,
        EVENT.c.uid,
        EVENT.c.target_mailbox_id,
        EVENT.c.target_uid,
        EVENT.c.subject,
    )
    .where(EVENT.c.account_id == bindparam("account_id"), EVENT.c.seq > bindparam("seq"))
    .order_by(EVENT.c.seq)
    .limit(bindparam("limit"))
)
_POSITION: Statement = select(ACCOUNT.c.last_seq).where(ACCOUNT.c.id == bindparam("account_id"))
_RECENT_FROM: Statement = select(MAILBOX.c.recent_from_uid).where(
    MAILBOX.c.account_id == bindparam("account_id"), MAILBOX.c.id == bindparam("mailbox_id")
)
_RECENT_COUNT: Statement = select(func.count()).where(*_HERE, MESSAGE.c.uid >= bindparam("uid"))
_SIZE: Statement = select(func.coalesce(func.sum(MESSAGE.c.size_bytes), 0)).where(*_HERE)
_DELETED_COUNT: Statement = select(func.count()).where(*_HERE, MESSAGE.c.flags.contains(DELETED, autoescape=True))


class MessageValues(Protocol):
    """The columns of a message that a session requested; reading any other raises AttributeError.

    `header` is its first HEADER_LIMIT_BYTES, `header_bytes` the size of all of it. If the content of a message is not
    stored, `blob` and the fields from the content are None or empty; an embedded account has no such message.
    `summary` is the JSON that lists show.
    """

    uid: int
    flags: str
    modseq: int
    received_at_ms: int
    date_ms: int | None
    size_bytes: int
    blob: str
    thread_id: str
    preview: str | None
    subject_folded: str
    from_folded: str
    to_folded: str
    cc_folded: str
    bcc_folded: str
    structure: bytes
    imap_envelope: bytes
    imap_body_structure: bytes
    header: bytes
    header_bytes: int
    saved_at_ms: int | None
    summary: bytes


class FlagCombination(NamedTuple):
    """Flags as the database holds them, separated by spaces, and the lowest UID that has exactly these."""

    flags: str
    first_uid: int


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """An entry of the account's log without its body. `subject` is the id of the message or mailbox."""

    seq: int
    type: str
    mailbox_id: str | None
    uid: int | None
    target_mailbox_id: str | None
    target_uid: int | None
    subject: str


_ON_MESSAGE = and_(DETAIL.c.account_id == MESSAGE.c.account_id, DETAIL.c.id == MESSAGE.c.id)
_DETAIL_COLUMNS: dict[str, ColumnElement[Any]] = {
    **{name: DETAIL.c[name] for name in ("structure", "imap_envelope", "imap_body_structure")},
    "header": func.substr(DETAIL.c.header, 1, HEADER_LIMIT_BYTES),
    "header_bytes": func.length(DETAIL.c.header),
}


def _select(columns: tuple[str, ...]) -> Select[Any]:
    statement = select(*(_DETAIL_COLUMNS[name] if name in _DETAIL_COLUMNS else MESSAGE.c[name] for name in columns))
    if not _DETAIL_COLUMNS.keys().isdisjoint(columns):
        statement = statement.select_from(MESSAGE.outerjoin(DETAIL, _ON_MESSAGE))
    return statement.where(*_HERE).order_by(MESSAGE.c.uid)


_make_tuple_type: Callable[[str, tuple[str, ...]], Any] = namedtuple  # mypy knows no columns chosen at run time


@lru_cache(maxsize=256)
def _tuple_type(columns: tuple[str, ...]) -> Any:
    return _make_tuple_type("MessageValues", columns)


def _named(columns: tuple[str, ...], rows: Iterable[Row]) -> list[MessageValues]:
    return list(map(_tuple_type(columns)._make, rows))


@lru_cache(maxsize=256)
def _rows_statement(columns: tuple[str, ...]) -> Statement:
    return _select(columns).where(is_one_of(MESSAGE.c.uid, bindparam("uids")))


@lru_cache(maxsize=256)
def _between_statement(columns: tuple[str, ...]) -> Statement:
    return _select(columns).where(MESSAGE.c.uid.between(bindparam("first_uid"), bindparam("last_uid")))


class MailboxViews:
    """Reads for sessions on a mailbox."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rows(
        self,
        account_id: AccountId,
        mailbox_id: MailboxId,
        uids: Sequence[int],
        columns: tuple[str, ...],
        *,
        is_long: bool = False,
    ) -> list[MessageValues]:
        """Return these columns of the messages that exist, by ascending UID. `is_long`: read in a thread."""
        rows = await self._database.rows(
            _rows_statement(columns),
            is_long=is_long or len(uids) > LONG_FROM_ROWS,
            account_id=account_id,
            mailbox_id=mailbox_id,
            uids=json_list(list(uids)),
        )
        return _named(columns, rows)

    async def rows_between(
        self, account_id: AccountId, mailbox_id: MailboxId, first: int, last: int, columns: tuple[str, ...]
    ) -> list[MessageValues]:
        """Return these columns of all messages with UIDs from `first` to `last`, read in a thread."""
        rows = await self._database.rows(
            _between_statement(columns),
            is_long=True,
            account_id=account_id,
            mailbox_id=mailbox_id,
            first_uid=first,
            last_uid=last,
        )
        return _named(columns, rows)

    async def uids_after(self, account_id: AccountId, mailbox_id: MailboxId, uid: int, limit: int) -> list[int]:
        """Return the UIDs of up to `limit` messages above a UID, ascending."""
        rows = await self._database.rows(
            _UIDS, is_long=True, account_id=account_id, mailbox_id=mailbox_id, uid=uid, limit=limit
        )
        return [uid for (uid,) in rows]

    async def flags_in(
        self, account_id: AccountId, mailbox_id: MailboxId, limit: int, *, is_long: bool
    ) -> list[FlagCombination]:
        """Return up to `limit` combinations of flags, by their lowest UID."""
        rows = await self._database.rows(
            _FLAGS, is_long=is_long, account_id=account_id, mailbox_id=mailbox_id, limit=limit
        )
        return [FlagCombination(*row) for row in rows]

    async def position(self, account_id: AccountId) -> int:
        """Return the number of the account's last event; 0 if the account does not exist."""
        return value_of(await self._database.row(_POSITION, account_id=account_id)) or 0

    async def changes_after(self, account_id: AccountId, seq: int, limit: int) -> list[LoggedChange]:
        """Return up to `limit` entries of the log after `seq`, in order."""
        rows = await self._database.rows(_CHANGES, account_id=account_id, seq=seq, limit=limit)
        return [LoggedChange(*row) for row in rows]

    async def recent_from(self, account_id: AccountId, mailbox_id: MailboxId) -> int:
        r"""Return the first UID that no session has seen as \Recent."""
        row = await self._database.row(_RECENT_FROM, account_id=account_id, mailbox_id=mailbox_id)
        return 1 if row is None else int(value_of(row))

    async def recent_count(self, account_id: AccountId, mailbox_id: MailboxId) -> int:
        r"""Return how many messages no session has seen as \Recent."""
        uid = await self.recent_from(account_id, mailbox_id)
        row = await self._database.row(_RECENT_COUNT, account_id=account_id, mailbox_id=mailbox_id, uid=uid)
        return int(value_of(row))

    async def size_bytes(self, account_id: AccountId, mailbox_id: MailboxId) -> int:
        """Return the total size of all messages."""
        ((size_bytes,),) = await self._database.rows(_SIZE, is_long=True, account_id=account_id, mailbox_id=mailbox_id)
        return int(size_bytes)

    async def deleted_count(self, account_id: AccountId, mailbox_id: MailboxId) -> int:
        r"""Return how many messages are `\Deleted`."""
        ((count,),) = await self._database.rows(
            _DELETED_COUNT, is_long=True, account_id=account_id, mailbox_id=mailbox_id
        )
        return int(count)


def is_detailed(columns: tuple[str, ...]) -> bool:
    """Whether some of the columns may be large, so that fewer rows should be read at a time."""
    return "summary" in columns or not _DETAIL_COLUMNS.keys().isdisjoint(columns)


def structure_of(column: bytes) -> BodyPart:
    """Return the part tree of a column `structure`, with spans."""
    structure = detail_of(column, None, None).structure
    assert structure is not None
    return structure
