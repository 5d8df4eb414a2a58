"""The full-text index: which messages are in it, which are still to be added, and the stored text."""

from __future__ import annotations

import asyncio
import zlib
from array import array
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    bindparam,
    delete,
    false,
    func,
    select,
    text,
    true,
    union_all,
    update,
)

from app.db.row_types import RowType
from app.db.session import Database, Row, Statement, Transaction, is_one_of, json_list
from app.db.tables import MESSAGE, PLACEMENT, SEARCH_TEXT, UNINDEXED
from app.errors import AccountNotFound
from app.mail.searchable import TextState, field_mark, has_field
from app.mail.types import AccountId, MailboxId, Message, MessageId
from app.mailstore.index import lock_account
from app.mailstore.placed import ITS_MESSAGE
from app.mailstore.reading.columns import MESSAGE_COLUMNS
from app.mailstore.rows import message_of
from app.mailstore.search import text_condition

HEADERS_AT_ONCE = 500
TRIMMED_AT_ONCE = 50

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_OF_ACCOUNT = MESSAGE.c.account_id == _ACCOUNT
_IN_INDEX = SEARCH_TEXT.c.account_id == _ACCOUNT
_IS_UNINDEXED = text(UNINDEXED)
"""Literal, which a boolean column (`… = 1`) would not be, so that SQLite uses the partial index."""
_ITS_TEXT = (SEARCH_TEXT.c.account_id == MESSAGE.c.account_id) & (SEARCH_TEXT.c.message_id == MESSAGE.c.id)
_IS_AWAITED = MESSAGE.c.text_state == int(TextState.AWAITED)

_UNINDEXED: Statement = union_all(
    select(MESSAGE.c.mailbox_id, MESSAGE.c.uid).where(_OF_ACCOUNT, _IS_UNINDEXED),
    select(PLACEMENT.c.mailbox_id, PLACEMENT.c.uid)
    .join_from(PLACEMENT, MESSAGE, ITS_MESSAGE)
    .where(PLACEMENT.c.account_id == bindparam("account_id"), _IS_UNINDEXED),
)
_COUNT_UNINDEXED: Statement = select(func.count()).select_from(MESSAGE).where(_OF_ACCOUNT, _IS_UNINDEXED)
_COUNT_INDEXED: Statement = select(func.count()).select_from(SEARCH_TEXT).where(_IN_INDEX)
_AWAITED: Statement = (
    select(*MESSAGE_COLUMNS)
    .where(_OF_ACCOUNT, _IS_UNINDEXED, _IS_AWAITED)
    .order_by(MESSAGE.c.received_at_ms.desc())
    .limit(bindparam("limit"))
)
_KEPT_HERE: Statement = (
    select(MESSAGE.c.account_id)
    .where(_IS_UNINDEXED, _IS_AWAITED, MESSAGE.c.blob.is_not(None))
    .distinct()
    .limit(bindparam("limit"))
)
_AWAIT_AGAIN: Statement = (
    update(MESSAGE)
    .where(_OF_ACCOUNT, _IS_UNINDEXED, MESSAGE.c.text_state == int(TextState.LEFT_OUT))
    .values(text_state=int(TextState.AWAITED))
)
_SIZE: Statement = select(func.coalesce(func.sum(SEARCH_TEXT.c.size_bytes), 0)).where(_IN_INDEX)
_SIZES: Statement = select(SEARCH_TEXT.c.account_id, func.sum(SEARCH_TEXT.c.size_bytes)).group_by(
    SEARCH_TEXT.c.account_id
)


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the index without its text."""

    id: int
    message_id: str
    received_at_ms: int
    size_bytes: int


_ENTRIES = RowType(_Entry, SEARCH_TEXT)
_OLDEST: Statement = (
    select(*_ENTRIES.columns).where(_IN_INDEX).order_by(SEARCH_TEXT.c.received_at_ms).limit(bindparam("limit"))
)
_REMOVE: Statement = delete(SEARCH_TEXT).where(is_one_of(SEARCH_TEXT.c.id, bindparam("ids")))
_LEAVE_OUT: Statement = (
    update(MESSAGE)
    .where(_OF_ACCOUNT, is_one_of(MESSAGE.c.id, bindparam("message_ids")))
    .values(text_state=int(TextState.LEFT_OUT))
)
_SHOWN: Statement = select(SEARCH_TEXT.c.message_id, SEARCH_TEXT.c.shown).where(
    _IN_INDEX, is_one_of(SEARCH_TEXT.c.message_id, bindparam("ids"))
)


@dataclass(frozen=True, slots=True)
class TextMatches:
    """The result of a text search in one mailbox, by UID: matches, and messages that are not indexed. Both ascend.

    No other message of the mailbox matches. For a field, `found` are messages that may match.
    """

    found: Sequence[int] = ()
    unindexed: Sequence[int] = ()


class TextIndex:
    """Reads the index, and the state of filling it. Texts are added by a fact of a Delta (`TextExtracted`)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- for searches

    async def unindexed(self, account_id: AccountId) -> dict[MailboxId, list[int]]:
        """Return UIDs by mailbox of the messages whose text is not in the index, in no order."""
        uids: dict[MailboxId, list[int]] = {}
        for mailbox_id, uid in await self._database.rows(_UNINDEXED, is_long=True, account_id=account_id):
            uids.setdefault(MailboxId(mailbox_id), []).append(uid)
        return uids

    async def look(self, account_id: AccountId, mailbox_id: MailboxId, scope: str, folded: str) -> TextMatches:
        """Search a mailbox of an embedded account for folded text; `scope` as in `filter.Text`.

        One statement, so that texts added or removed meanwhile are not missed.
        """
        # written so that SQLite reads matches and unindexed messages rather than the whole mailbox
        in_mailbox = (MESSAGE.c.account_id == account_id, MESSAGE.c.mailbox_id.concat("") == mailbox_id)
        statement: Statement = union_all(
            select(MESSAGE.c.uid, true()).where(*in_mailbox, _may_hold(account_id, scope, folded)),
            select(MESSAGE.c.uid, false()).where(*in_mailbox, _IS_UNINDEXED),
        )
        rows = await self._database.rows(statement, is_long=True)
        return await asyncio.to_thread(_looked, rows)

    async def coverage(self, account_id: AccountId) -> tuple[int, int]:
        """Return how many messages are in the index, and how many there are."""
        (indexed,) = await self._database.rows(_COUNT_INDEXED, is_long=True, account_id=account_id)
        (others,) = await self._database.rows(_COUNT_UNINDEXED, is_long=True, account_id=account_id)
        return indexed[0], indexed[0] + others[0]

    async def with_field(self, account_id: AccountId, name: str, folded: str) -> list[MessageId]:
        """Return indexed messages whose header has a field of this name that contains folded text."""
        statement: Statement = (
            select(SEARCH_TEXT.c.id, MESSAGE.c.id, SEARCH_TEXT.c.header)
            .join_from(MESSAGE, SEARCH_TEXT, _ITS_TEXT)
            .where(
                _OF_ACCOUNT, _may_hold(account_id, f"header:{name}", folded), SEARCH_TEXT.c.id > bindparam("above_id")
            )
            .order_by(SEARCH_TEXT.c.id)
            .limit(HEADERS_AT_ONCE)
        )
        ids: list[MessageId] = []
        above_id = -1
        while rows := await self._database.rows(statement, is_long=True, account_id=account_id, above_id=above_id):
            ids += [MessageId(id_) for _, id_, header in rows if has_field(header, name, folded)]
            above_id = rows[-1][0]
        return ids

    async def shown(self, account_id: AccountId, ids: Collection[str]) -> dict[MessageId, str]:
        """Return the readable text of those of these messages that are in the index."""
        rows = await self._database.rows(_SHOWN, is_long=True, account_id=account_id, ids=json_list(list(ids)))
        return {MessageId(id_): zlib.decompress(compressed).decode() for id_, compressed in rows if compressed}

    # ---- for the worker that fills it

    async def awaited(self, account_id: AccountId, limit: int) -> list[Message]:
        """Return the newest messages whose text is still to be added."""
        rows = await self._database.rows(_AWAITED, is_long=True, account_id=account_id, limit=limit)
        return [message_of(row) for row in rows]

    async def accounts_to_fill(self, limit: int) -> list[AccountId]:
        """Return accounts with stored messages whose text is still to be added."""
        return [AccountId(id_) for (id_,) in await self._database.rows(_KEPT_HERE, is_long=True, limit=limit)]

    async def await_again(self, account_id: AccountId) -> None:
        """Reconsider messages that were left out, because the limits may have changed."""

        async def work(transaction: Transaction) -> None:
            await lock_account(transaction, account_id)
            await transaction.execute(_AWAIT_AGAIN, account_id=account_id)

        with suppress(AccountNotFound):
            await self._database.write(work, is_durable=False, turn=account_id)

    async def size_bytes(self, account_id: AccountId) -> int:
        """Return how much text of an account is in the index."""
        rows: Sequence[tuple[int]] = await self._database.rows(_SIZE, is_long=True, account_id=account_id)
        return int(rows[0][0])

    async def sizes(self) -> dict[AccountId, int]:
        """Return the size of every account with indexed text."""
        return {AccountId(id_): int(size) for id_, size in await self._database.rows(_SIZES, is_long=True)}

    async def oldest_ms(self, account_id: AccountId) -> int | None:
        """Return when the oldest message in the index was received; None if there is none."""
        oldest = _ENTRIES.read_optional(await self._database.row(_OLDEST, account_id=account_id, limit=1))
        return None if oldest is None else oldest.received_at_ms

    async def trim(self, account_id: AccountId, excess_bytes: int) -> int:
        """Remove the oldest texts until the index is this much smaller, in short transactions.

        Return the bytes removed.
        """
        freed = 0
        while freed < excess_bytes:

            async def work(transaction: Transaction, still: int = excess_bytes - freed) -> int:
                await lock_account(transaction, account_id)
                rows = await transaction.rows(_OLDEST, account_id=account_id, limit=TRIMMED_AT_ONCE)
                chosen = list(_first_of(_ENTRIES.read_all(rows), still))
                await transaction.execute(_REMOVE, ids=json_list([entry.id for entry in chosen]))
                ids = json_list([entry.message_id for entry in chosen])
                await transaction.execute(_LEAVE_OUT, account_id=account_id, message_ids=ids)
                return sum(entry.size_bytes for entry in chosen)

            try:
                less = await self._database.write(work, is_durable=False, turn=account_id)
            except AccountNotFound:
                break
            if not less:
                break
            freed += less
        return freed


def _looked(rows: Sequence[Row]) -> TextMatches:
    matches, unindexed = ({uid for uid, is_in in rows if bool(is_in) is is_found} for is_found in (True, False))
    return TextMatches(array("I", sorted(matches)), array("I", sorted(unindexed)))


def _may_hold(account_id: AccountId, scope: str, folded: str) -> ColumnElement[bool]:
    """The condition that an indexed message contains this text; if `scope` is a field, that it may."""
    if not scope.startswith("header:"):
        return text_condition(account_id, scope, folded)
    name = scope.removeprefix("header:")
    return text_condition(account_id, "header", folded if len(folded) > 2 else field_mark(name))


def _first_of(entries: Sequence[_Entry], size_bytes: int) -> Iterator[_Entry]:
    """Yield as many entries as it takes to reach a size."""
    for entry in entries:
        if size_bytes <= 0:
            return
        yield entry
        size_bytes -= entry.size_bytes
