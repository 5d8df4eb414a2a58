"""Index data that a mirror compares with its mail server, including which messages may be the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, and_, bindparam, select

from app.db.session import Database, Statement, is_one_of, json_list, value_of
from app.db.tables import ACCOUNT, DETAIL, EVENT, MESSAGE, PLACEMENT
from app.mail.delta import Known
from app.mail.flag_table import FlagTable
from app.mail.metadata import Metadata, metadata_of
from app.mail.types import AccountId, Flags, MailboxId, Message, MessageId
from app.mailstore.placed import KNOWN_ORIGINS, of_both
from app.mailstore.reading.columns import ACCOUNT_ID, IN_MAILBOX, MESSAGE_COLUMNS, OF_ACCOUNT
from app.mailstore.rows import flags_of, message_of

_KNOWN: Statement = (
    of_both(
        (MESSAGE.c.uid, MESSAGE.c.flags, MESSAGE.c.modseq),
        (MESSAGE.c.uid > bindparam("after_uid"),),
        (PLACEMENT.c.uid > bindparam("after_uid"),),
    )
    .order_by("uid")
    .limit(bindparam("limit"))
)
_WITHOUT_PREVIEW: Statement = (
    select(*MESSAGE_COLUMNS)
    .where(OF_ACCOUNT, IN_MAILBOX, MESSAGE.c.preview.is_(None))
    .order_by(MESSAGE.c.uid.desc())
    .limit(bindparam("limit"))
)
_BY_HEADERS: Statement = select(*MESSAGE_COLUMNS).where(
    OF_ACCOUNT, is_one_of(MESSAGE.c.message_id_header, bindparam("headers"))
)
_WITHOUT_HEADER: Statement = select(*MESSAGE_COLUMNS).where(
    OF_ACCOUNT, MESSAGE.c.message_id_header.is_(None), is_one_of(MESSAGE.c.received_at_ms, bindparam("times"))
)
_BY_ORIGINS: Statement = select(MESSAGE.c.origin_id, *MESSAGE_COLUMNS).where(
    OF_ACCOUNT, MESSAGE.c.origin_id.is_not(None), is_one_of(MESSAGE.c.origin_id, bindparam("origin_ids"))
)
_ORIGINAL = MESSAGE.alias("original")


def _pairs(*are_alike: ColumnElement[bool]) -> Statement:
    return (
        select(_ORIGINAL.c.id, MESSAGE.c.created_seq > _ORIGINAL.c.created_seq, *MESSAGE_COLUMNS)
        .join(_ORIGINAL, and_(_ORIGINAL.c.account_id == MESSAGE.c.account_id, *are_alike))
        .where(OF_ACCOUNT, MESSAGE.c.id != _ORIGINAL.c.id, is_one_of(_ORIGINAL.c.id, bindparam("ids")))
    )


_SAME = _pairs(MESSAGE.c.origin_id.is_not(None), MESSAGE.c.origin_id == _ORIGINAL.c.origin_id)
_NOT_TOLD_APART = _ORIGINAL.c.origin_id.is_(None)
_ALIKE: tuple[Statement, ...] = (
    _pairs(_NOT_TOLD_APART, MESSAGE.c.message_id_header == _ORIGINAL.c.message_id_header),
    _pairs(
        _NOT_TOLD_APART,
        _ORIGINAL.c.message_id_header.is_(None),
        MESSAGE.c.message_id_header.is_(None),
        MESSAGE.c.received_at_ms == _ORIGINAL.c.received_at_ms,
    ),
)
_ARRIVED_SINCE: Statement = (
    select(MESSAGE.c.id)
    .join(EVENT, and_(EVENT.c.account_id == MESSAGE.c.account_id, EVENT.c.seq == MESSAGE.c.created_seq))
    .where(OF_ACCOUNT, is_one_of(MESSAGE.c.id, bindparam("ids")), EVENT.c.at_ms >= bindparam("since_ms"))
)
_PROOFS: Statement = select(DETAIL.c.id, DETAIL.c.structure, DETAIL.c.digest).where(
    DETAIL.c.account_id == ACCOUNT_ID, is_one_of(DETAIL.c.id, bindparam("ids"))
)
_SETTINGS: Statement = select(ACCOUNT.c.settings).where(ACCOUNT.c.id == ACCOUNT_ID)
KNOWN_AT_ONCE = 5_000
"""Rows that are read at a time."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A message's stored structure, and the digest of its bytes if they were read."""

    structure: bytes | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A message that may be a copy of another, or the reverse. `is_same`: their origin ids are equal.

    `is_later`: it arrived after the other.
    """

    of_id: MessageId
    message: Message
    is_later: bool
    is_same: bool


class MirrorReader:
    """Reads what a mirror compares with its mail server."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def metadata(self, account_id: AccountId) -> Metadata:
        """Return the metadata of an account, which its events include; empty if the account does not exist."""
        return metadata_of(value_of(await self._database.row(_SETTINGS, account_id=account_id)) or "")

    async def known(self, account_id: AccountId, mailbox_id: MailboxId) -> Mapping[int, Known]:
        """Return UID → flags of all indexed messages of a mailbox, read in batches."""
        roster = FlagTable()
        flags: dict[str, Flags] = {}
        values = {"account_id": account_id, "mailbox_id": mailbox_id, "limit": KNOWN_AT_ONCE}
        uid = 0
        while True:
            rows = await self._database.rows(_KNOWN, is_long=True, after_uid=uid, **values)
            for uid, text, modseq in rows:
                if text not in flags:
                    flags[text] = flags_of(text)
                roster.put(uid, flags[text], modseq)
            if len(rows) < KNOWN_AT_ONCE:
                return roster

    async def known_origins(self, account_id: AccountId, origin_ids: Collection[str]) -> set[str]:
        """Return those of the origin ids that are in the index."""
        values = json_list(list(origin_ids))
        rows = await self._database.rows(KNOWN_ORIGINS, account_id=account_id, origin_ids=values)
        return {origin_id for (origin_id,) in rows}

    async def without_preview(self, account_id: AccountId, mailbox_id: MailboxId, limit: int) -> list[Message]:
        """Return messages whose preview has not been read yet, newest first."""
        rows = await self._database.rows(
            _WITHOUT_PREVIEW, is_long=True, account_id=account_id, mailbox_id=mailbox_id, limit=limit
        )
        return [message_of(row) for row in rows]

    async def with_headers(self, account_id: AccountId, message_id_headers: Collection[str]) -> list[Message]:
        """Return messages with one of these Message-IDs, in any mailbox, in no order."""
        headers = json_list(list(message_id_headers))
        rows = await self._database.rows(_BY_HEADERS, account_id=account_id, headers=headers)
        return [message_of(row) for row in rows]

    async def without_header(self, account_id: AccountId, times_ms: Collection[int]) -> list[Message]:
        """Return messages without a Message-ID whose INTERNALDATE is one of these, in any mailbox, in no order."""
        rows = await self._database.rows(_WITHOUT_HEADER, account_id=account_id, times=json_list(list(times_ms)))
        return [message_of(row) for row in rows]

    async def with_origin_ids(self, account_id: AccountId, origin_ids: Collection[str]) -> list[tuple[str, Message]]:
        """Return messages with one of these origin ids, each with that id, in no order."""
        rows = await self._database.rows(_BY_ORIGINS, account_id=account_id, origin_ids=json_list(list(origin_ids)))
        return [(origin_id, message_of(message)) for origin_id, *message in rows]

    async def pairs(self, account_id: AccountId, ids: Collection[MessageId]) -> list[Pair]:
        """Pair each of the messages with every other one that has the same origin id.

        Without an origin id, the Message-ID is compared; without that, the INTERNALDATE. In no order.
        """
        pairs: list[Pair] = []
        for statement in (_SAME, *_ALIKE):
            rows = await self._database.rows(statement, account_id=account_id, ids=json_list(list(ids)))
            pairs += [
                Pair(MessageId(id_), message_of(message), bool(is_certain), statement is _SAME)
                for id_, is_certain, *message in rows
            ]
        return pairs

    async def arrived_since(self, account_id: AccountId, ids: Collection[MessageId], since_ms: int) -> set[MessageId]:
        """Return the messages that were announced as new since then."""
        rows = await self._database.rows(
            _ARRIVED_SINCE, account_id=account_id, ids=json_list(list(ids)), since_ms=since_ms
        )
        return {MessageId(id_) for (id_,) in rows}

    async def proofs(self, account_id: AccountId, ids: Collection[MessageId]) -> Mapping[MessageId, Proof]:
        """Return the stored data of each message that distinguishes it from similar ones."""
        rows = await self._database.rows(_PROOFS, account_id=account_id, ids=json_list(list(ids)))
        return defaultdict(Proof, {MessageId(id_): Proof(*proof) for id_, *proof in rows})
