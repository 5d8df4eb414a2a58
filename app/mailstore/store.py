"""The store of embedded accounts: how the IMAP, POP3 and SMTP servers and the API change their mail.

Each operation reads and decides under the account's lock, so that any number of clients see consistent results. It
returns only when its rows are on disk, and a message's bytes before them.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy import BindParameter, bindparam, select, update

from app.db.session import Database, Row, Statement, Transaction, is_one_of, json_list, value_of
from app.db.tables import MAILBOX, MESSAGE
from app.errors import InvalidRequest, MailboxNotFound, NotStorable, TooComplex, TooLarge
from app.mail.confirmed import Applied
from app.mail.delta import (
    Arrived,
    Copied,
    Delta,
    Flagged,
    Location,
    Moved,
    Removed,
)
from app.mail.identifiers import now_ms
from app.mail.types import DELETED, AccountId, Flags, MailboxId, with_flags
from app.mailstore.blobs import CHUNK_BYTES, Blobs, BlobWriter
from app.mailstore.content import StoredContent, read_beginning, read_content, read_small, weight_of
from app.mailstore.index import Conclude, Decide, Index
from app.mailstore.mailboxes import StoredMailboxes, require_mailbox
from app.mailstore.rows import flags_of
from app.parsing.jobs import IN_THREADS, SMALL_BYTES, Parsers
from app.telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

FLAGS_LIMIT = 100
"""The most flags on one message."""
MESSAGE_LIMIT_BYTES = 100 * 1024 * 1024
EXPUNGED_AT_ONCE = 1_000
"""Messages removed in one transaction."""
LARGE_READS = 2
"""Large messages that are in memory for parsing at a time."""
_ARRIVALS = "arrivals"
"""The parsers' queue for messages that arrive for any account."""

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_HERE = (MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.mailbox_id == bindparam("mailbox_id"))
_STATES = (MESSAGE.c.uid, MESSAGE.c.flags, MESSAGE.c.modseq)
_THESE: Statement = select(*_STATES).where(*_HERE, is_one_of(MESSAGE.c.uid, bindparam("uids"))).order_by(MESSAGE.c.uid)
_DELETED: Statement = (
    select(MESSAGE.c.uid).where(*_HERE, MESSAGE.c.flags.contains(DELETED, autoescape=True)).order_by(MESSAGE.c.uid)
)
_CLAIM_RECENT: Statement = (
    update(MAILBOX)
    .where(
        MAILBOX.c.account_id == _ACCOUNT,
        MAILBOX.c.id == bindparam("mailbox_id"),
        MAILBOX.c.recent_from_uid < MAILBOX.c.uid_next,
    )
    .values(recent_from_uid=MAILBOX.c.uid_next)
)
_RECENT_FROM: Statement = (
    select(MAILBOX.c.recent_from_uid)
    .where(MAILBOX.c.account_id == _ACCOUNT, MAILBOX.c.id == bindparam("mailbox_id"))
    .with_for_update()
)
"""Locks the row: of two concurrent sessions, the second reads what the first has left."""


Content = tuple[StoredContent, Flags, int | None]
"""A stored message, its flags and its INTERNALDATE in ms; None: now."""
Alongside = Callable[[Transaction], Awaitable[Delta | None]]
"""Writes further rows in the same transaction, and returns further facts."""


@dataclass(frozen=True, slots=True)
class FlagChange:
    """Flags to add and to remove; `is_replacing` removes all other flags too (RFC 9051 §6.4.6)."""

    add: Flags = frozenset()
    remove: Flags = frozenset()
    is_replacing: bool = False

    def of(self, before: Flags) -> Flags:
        """Return the flags after the change. Raises InvalidRequest for too many."""
        after = with_flags(frozenset() if self.is_replacing else before, add=self.add, remove=self.remove)
        if len(after) > FLAGS_LIMIT:
            raise InvalidRequest(f"A message may have at most {FLAGS_LIMIT} flags")
        return after


@dataclass(frozen=True, slots=True)
class FlagsStored:
    """`modified`: UIDs left unchanged, because they changed after the given MODSEQ (RFC 7162 §3.1.3)."""

    applied: Applied
    modified: tuple[int, ...]


class MailStore:
    """Mail of embedded accounts. UIDs and UIDVALIDITY are never reused."""

    def __init__(self, database: Database, index: Index, blobs: Blobs, parsers: Parsers = IN_THREADS) -> None:
        self._database = database
        self._index = index
        self._large_reads = asyncio.Semaphore(LARGE_READS)
        self.blobs = blobs
        self.parsers = parsers
        self.mailboxes = StoredMailboxes(database, index)

    # ---- messages

    async def keep(self, content: bytes) -> StoredContent:
        """Store a message's bytes on disk and read its index data."""
        if len(content) > MESSAGE_LIMIT_BYTES:
            raise TooLarge(f"A message may have at most {MESSAGE_LIMIT_BYTES} bytes")
        blob = await self.blobs.put(content)
        return await self._read(content, blob)

    async def keep_stream(self, pieces: AsyncIterator[bytes], limit_bytes: int = MESSAGE_LIMIT_BYTES) -> StoredContent:
        """Store a message that arrives in pieces. Raises TooLarge beyond the limit; nothing is stored then."""
        writer = self.blobs.writer()
        try:
            async for piece in pieces:
                if writer.size_bytes + len(piece) > limit_bytes:
                    raise TooLarge(f"A message may have at most {limit_bytes} bytes")
                for start in range(0, len(piece), CHUNK_BYTES):  # some arrive in one piece of many megabytes
                    if start:
                        await asyncio.sleep(0)
                    writer.write(memoryview(piece)[start : start + CHUNK_BYTES])
        except BaseException:
            writer.discard()
            raise
        return await self.keep_written(writer)

    async def keep_written(self, writer: BlobWriter) -> StoredContent:
        """Store a message that was written to one of `blobs.writer()`, and end the writer."""
        return (await self.keep_all([writer]))[0]

    async def keep_all(self, writers: Sequence[BlobWriter]) -> list[StoredContent]:
        """Store several messages, parsing them while they are synced.

        Raises StorageUnavailable; none is stored then.
        """
        in_memory = [(writer.name, content) for writer in writers if (content := writer.content) is not None]
        small = [(name, content) for name, content in in_memory if weight_of(content) <= SMALL_BYTES]
        _, read = await asyncio.gather(self.blobs.commit(writers), read_small(small))
        return [read[writer.name] if writer.name in read else await self._read_large(writer.name) for writer in writers]

    async def _read_large(self, blob: str) -> StoredContent:
        async with self._large_reads:
            return await self._read(await self.blobs.get(blob), blob)

    async def _read(self, content: bytes, blob: str) -> StoredContent:
        try:
            arrived = await self.parsers.run(_ARRIVALS, weight_of(content), read_content, content, blob)
        except TooComplex:
            arrived = read_beginning(content, blob)
        return StoredContent(blob, arrived)

    async def add(
        self,
        account_id: AccountId,
        mailbox_id: MailboxId,
        contents: Sequence[Content],
        alongside: Alongside | None = None,
        conclude: Conclude | None = None,
    ) -> Applied:
        """Put messages, with their flags and INTERNALDATE (None: now), into a mailbox: all of them or none.

        `alongside` writes in the same transaction and returns further facts; `conclude` runs after both. If the
        database rejects a text of a message, the message is stored without its texts.
        """
        try:
            decide = arriving(account_id, mailbox_id, contents, alongside)
            return await self._index.change(account_id, decide, conclude=conclude)
        except NotStorable:
            log.warning("message_refused", account_id=account_id, mailbox_id=mailbox_id)
            decide = arriving(account_id, mailbox_id, contents, alongside, is_bare=True)
            return await self._index.change(account_id, decide, conclude=conclude)

    async def store_flags(
        self,
        account_id: AccountId,
        mailbox_id: MailboxId,
        uids: Sequence[int],
        change: FlagChange,
        unchanged_since: int | None = None,
    ) -> FlagsStored:
        """Change the flags of messages, ignoring missing ones."""
        modified: list[int] = []

        async def decide(transaction: Transaction) -> Delta:
            changes, passed_over = [], []
            for uid, text, modseq in await _states(transaction, account_id, mailbox_id, uids):
                if unchanged_since is not None and modseq > unchanged_since:
                    passed_over.append(uid)
                    continue
                changes.append(Flagged(Location(mailbox_id, uid), change.of(flags_of(text))))
            transaction.after_commit(partial(modified.extend, passed_over))
            return Delta(flagged=tuple(changes))

        return FlagsStored(await self._index.change(account_id, decide), tuple(modified))

    async def expunge(
        self,
        account_id: AccountId,
        mailbox_id: MailboxId,
        uids: Sequence[int] | None,
        *,
        only_deleted: bool = True,
        conclude: Conclude | None = None,
    ) -> Applied:
        r"""Remove messages permanently: those of `uids` (None: all) that are `\Deleted`, or all of `uids`.

        Many messages are removed in several transactions, so that other writers do not wait long. Returns the last
        result.
        """
        if uids is None:
            uids = await self._deleted_in(account_id, mailbox_id)
        remove = partial(self._expunge_some, account_id, mailbox_id, only_deleted=only_deleted, conclude=conclude)
        applied = await remove(uids[:EXPUNGED_AT_ONCE])
        for start in range(EXPUNGED_AT_ONCE, len(uids), EXPUNGED_AT_ONCE):
            applied = await remove(uids[start : start + EXPUNGED_AT_ONCE])
        return applied

    async def _deleted_in(self, account_id: AccountId, mailbox_id: MailboxId) -> array[int]:
        """Return the UIDs of the messages with the flag; each is checked again under the account's lock."""
        rows = await self._database.rows(_DELETED, is_long=True, account_id=account_id, mailbox_id=mailbox_id)
        return array("I", (uid for (uid,) in rows))

    async def _expunge_some(
        self,
        account_id: AccountId,
        mailbox_id: MailboxId,
        uids: Sequence[int],
        *,
        only_deleted: bool,
        conclude: Conclude | None,
    ) -> Applied:
        async def decide(transaction: Transaction) -> Delta:
            rows = await _states(transaction, account_id, mailbox_id, uids)
            removed = [uid for uid, flags, _ in rows if not only_deleted or DELETED in flags_of(flags)]
            return Delta(removed=tuple(Removed(Location(mailbox_id, uid)) for uid in removed))

        return await self._index.change(account_id, decide, conclude=conclude)

    async def copy(
        self,
        account_id: AccountId,
        mailbox_id: MailboxId,
        uids: Sequence[int],
        target_id: MailboxId,
        conclude: Conclude | None = None,
    ) -> Applied:
        """Copy messages; `Applied.copies` maps source to target. `conclude` is written in the same transaction."""

        async def decide(transaction: Transaction) -> Delta:
            await require_mailbox(transaction, account_id, target_id)
            rows = await _states(transaction, account_id, mailbox_id, uids)
            return Delta(copied=tuple(Copied(Location(mailbox_id, uid), Location(target_id, 0)) for uid, _, _ in rows))

        return await self._index.change(account_id, decide, conclude=conclude)

    async def move(
        self, account_id: AccountId, mailbox_id: MailboxId, uids: Sequence[int], target_id: MailboxId
    ) -> Applied:
        """Move messages, which keep their ids; `Applied.copies` maps source to target."""

        async def decide(transaction: Transaction) -> Delta:
            await require_mailbox(transaction, account_id, target_id)
            rows = await _states(transaction, account_id, mailbox_id, uids)
            return Delta(moved=tuple(Moved(Location(mailbox_id, uid), Location(target_id, 0)) for uid, _, _ in rows))

        return await self._index.change(account_id, decide)

    async def claim_recent(self, account_id: AccountId, mailbox_id: MailboxId) -> int:
        r"""Return the first UID that is \Recent to this session; no later session sees these messages as \Recent."""

        async def work(transaction: Transaction) -> int:
            row = await transaction.row(_RECENT_FROM, account_id=account_id, mailbox_id=mailbox_id)
            if row is None:
                raise MailboxNotFound
            await transaction.execute(_CLAIM_RECENT, account_id=account_id, mailbox_id=mailbox_id)
            return int(value_of(row))

        return await self._database.write(work, is_durable=False, turn=account_id)


def arriving(
    account_id: AccountId,
    mailbox_id: MailboxId,
    contents: Sequence[Content],
    alongside: Alongside | None = None,
    *,
    is_bare: bool = False,
) -> Decide:
    """Return the change that puts messages into a mailbox, for `Index.change` and `Index.change_in`.

    `is_bare`: without the texts that a database may reject. The change raises MailboxNotFound before it writes.
    """
    now = now_ms()
    placed = [
        _placed(content.arrived, mailbox_id, flags, now if received is None else received)
        for content, flags, received in contents
    ]
    arrived = tuple(message.bare() if is_bare else message for message in placed)

    async def decide(transaction: Transaction) -> Delta:
        await require_mailbox(transaction, account_id, mailbox_id)
        more = await alongside(transaction) if alongside is not None else None
        return Delta(arrived=arrived) + (more or Delta())

    return decide


def _placed(arrival: Arrived, mailbox_id: MailboxId, flags: Flags, received_at_ms: int) -> Arrived:
    if len(flags) > FLAGS_LIMIT:
        raise InvalidRequest(f"A message may have at most {FLAGS_LIMIT} flags")
    return Arrived(
        mailbox_id,
        0,
        flags,
        received_at_ms,
        arrival.size_bytes,
        arrival.overview,
        arrival.structure,
        preview=arrival.preview,
        blob=arrival.blob,
        problems=arrival.problems,
        rendered=arrival.rendered,
    )


async def _states(
    transaction: Transaction, account_id: AccountId, mailbox_id: MailboxId, uids: Sequence[int]
) -> Sequence[Row]:
    """Return (UID, flags, MODSEQ) of messages, ascending."""
    return await transaction.rows(_THESE, account_id=account_id, mailbox_id=mailbox_id, uids=json_list(list(uids)))
