"""Messages by id, location, thread or Message-ID."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import orjson
from sqlalchemy import bindparam, select, union

from app.db.session import Database, Statement, Transaction, is_one_of, json_list
from app.db.tables import DETAIL, MESSAGE, SUBMISSION
from app.errors import MessageNotFound
from app.mail.delta import Location
from app.mail.types import AccountId, Detail, MailboxId, Message, MessageId
from app.mailstore.placed import PLACES, here
from app.mailstore.reading.columns import ACCOUNT_ID, MESSAGE_COLUMNS, OF_ACCOUNT
from app.mailstore.rows import detail_of, message_of

_BY_IDS: Statement = select(*MESSAGE_COLUMNS).where(OF_ACCOUNT, is_one_of(MESSAGE.c.id, bindparam("ids")))
_BY_ID: Statement = select(*MESSAGE_COLUMNS).where(OF_ACCOUNT, MESSAGE.c.id == bindparam("id"))
_BY_UIDS = here(*MESSAGE_COLUMNS, uid="uids")
_BY_HEADER: Statement = select(*MESSAGE_COLUMNS).where(OF_ACCOUNT, MESSAGE.c.message_id_header == bindparam("header"))
_DETAIL: Statement = select(DETAIL.c.structure, DETAIL.c.extra, DETAIL.c.header).where(
    DETAIL.c.account_id == ACCOUNT_ID, DETAIL.c.id == bindparam("id")
)
_IDS_AT = here(MESSAGE.c.id, uid="uids")
_OF_THREADS: Statement = (
    select(MESSAGE.c.thread_id, MESSAGE.c.id, MESSAGE.c.mailbox_id, MESSAGE.c.further, MESSAGE.c.summary)
    .where(OF_ACCOUNT, is_one_of(MESSAGE.c.thread_id, bindparam("threads")))
    .order_by(MESSAGE.c.received_at_ms, MESSAGE.c.uid)
)
_BLOBS_IN_USE: Statement = union(
    select(MESSAGE.c.blob).where(is_one_of(MESSAGE.c.blob, bindparam("names"))),
    select(SUBMISSION.c.blob).where(is_one_of(SUBMISSION.c.blob, bindparam("names"))),
)
LONG_FROM_ROWS = 500
"""Reads of this many rows or more run in a thread."""


class MessageReader:
    """Reads messages by id, location, thread or Message-ID. Inside a write, pass its transaction."""

    def __init__(self, database: Database | Transaction) -> None:
        self._database = database

    async def message(self, account_id: AccountId, message_id: str) -> Message:
        """Raises MessageNotFound."""
        row = await self._database.row(_BY_ID, account_id=account_id, id=message_id)
        if row is None:
            raise MessageNotFound
        return message_of(row)

    async def find(self, account_id: AccountId, ids: Sequence[str]) -> list[Message]:
        """Return those that exist, in the order of `ids`."""
        rows = await self._database.rows(_BY_IDS, account_id=account_id, ids=json_list(list(ids)))
        messages: dict[str, Message] = {message.id: message for message in map(message_of, rows)}
        return [messages[id_] for id_ in dict.fromkeys(ids) if id_ in messages]

    async def detail(self, account_id: AccountId, message_id: MessageId) -> Detail:
        """Return the data of one message that is not in its row. Raises MessageNotFound."""
        row = await self._database.row(_DETAIL, account_id=account_id, id=message_id)
        if row is None:
            raise MessageNotFound
        return detail_of(*row)

    async def locate(self, account_id: AccountId, mailbox_id: MailboxId, uids: Collection[int]) -> list[Message]:
        """Return messages of a mailbox by UID, in no order."""
        rows = await self._database.rows(
            _BY_UIDS, account_id=account_id, mailbox_id=mailbox_id, uids=json_list(list(uids))
        )
        return [message_of(row) for row in rows]

    async def at(self, account_id: AccountId, location: Location) -> Message:
        """Return the message at a location. Raises MessageNotFound."""
        messages = await self.locate(account_id, location.mailbox_id, [location.uid])
        if not messages:
            raise MessageNotFound
        return messages[0]

    async def places(self, message: Message) -> list[tuple[Location, int]]:
        """Return the places of a message, its first place first, each with the MODSEQ known there."""
        if not message.further:
            return [(Location(message.mailbox_id, message.uid), message.modseq)]
        rows = await self._database.rows(PLACES, account_id=message.account_id, id=message.id)
        return [(Location(MailboxId(mailbox_id), uid), modseq) for mailbox_id, uid, modseq in rows]

    async def ids_at(self, account_id: AccountId, mailbox_id: MailboxId, uids: Collection[int]) -> list[MessageId]:
        """Return the ids of a mailbox's messages by UID, in no order."""
        values = json_list(list(uids))
        rows = await self._database.rows(
            _IDS_AT, is_long=len(uids) > LONG_FROM_ROWS, account_id=account_id, mailbox_id=mailbox_id, uids=values
        )
        return [MessageId(id_) for (id_,) in rows]

    async def threads(
        self, account_id: AccountId, thread_ids: Collection[str]
    ) -> dict[str, list[tuple[MessageId, list[MailboxId]]]]:
        """Return the messages of each thread, with their mailboxes, oldest first."""
        rows = await self._database.rows(_OF_THREADS, account_id=account_id, threads=json_list(list(thread_ids)))
        members: dict[str, list[tuple[MessageId, list[MailboxId]]]] = {id_: [] for id_ in thread_ids}
        for thread_id, id_, mailbox_id, further, summary in rows:
            mailbox_ids = orjson.loads(summary)["mailbox_ids"] if further else [MailboxId(mailbox_id)]
            members[thread_id].append((MessageId(id_), mailbox_ids))
        return members

    async def with_header(self, account_id: AccountId, message_id_header: str) -> list[Message]:
        """Return messages with this Message-ID, in any mailbox."""
        rows = await self._database.rows(_BY_HEADER, account_id=account_id, header=message_id_header)
        return [message_of(row) for row in rows]

    async def blobs_in_use(self, names: Sequence[str]) -> set[str]:
        """Return those of the blobs that a message or a submission still needs."""
        rows = await self._database.rows(_BLOBS_IN_USE, is_long=True, names=json_list(list(names)))
        return {blob for (blob,) in rows}
