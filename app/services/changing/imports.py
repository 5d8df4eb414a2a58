"""Imports: messages that a caller puts into a mailbox, as bytes (with CRLF line ends) or written as JSON."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import IO

from app.db.session import Transaction
from app.errors import InvalidRequest, MailboxNotFound, TooLarge
from app.mail.backend import Backends, MailBackend
from app.mail.confirmed import Applied
from app.mail.delta import Arrived, Delta, Location
from app.mail.types import AccountId, AccountKind, Flags, Mailbox, Message, Position
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mailstore.reading.messages import MessageReader
from app.mailstore.store import MailStore
from app.mime.fields import MAX_HEADER_BYTES
from app.mime.header import message_id_in
from app.mime.lines import normalise_newlines
from app.parsing.jobs import IN_THREADS, Parsers
from app.services.access.callers import Caller
from app.services.access.idempotency import Answer, Attempt
from app.services.changing.lost_responses import has_mark, landed_since, note_mark
from app.services.changing.messages import Messages

MEMORY_BYTES = 1024 * 1024
"""How much of an imported message stays in memory; a larger one goes to a temporary file."""
_PIECE_BYTES = 256 * 1024


class Spool:
    """A message while it arrives. Line ends become CRLF; size and hash are known at the end.

    A bare CR is content and stays. If the message has no other line end, each CR becomes CRLF.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._pending = b""
        self._has_lf = False
        self._begin()

    def _begin(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115 - closed by `close`
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    async def take(self, pieces: AsyncIterator[bytes]) -> None:
        """Read all pieces. Raises TooLarge above the limit, InvalidRequest for an empty message."""
        async for piece in pieces:
            await self._write(piece, is_last=False)
        await self._write(b"", is_last=True)
        if self.size_bytes == 0:
            raise InvalidRequest.at("", "There is no message in the body")
        if not self._has_lf:
            await self._end_lines_at_cr()

    async def _write(self, piece: bytes, *, is_last: bool) -> None:
        content = self._pending + piece
        self._pending = b"\r" if content.endswith(b"\r") and not is_last else b""
        self._has_lf = self._has_lf or b"\n" in content
        await self._append(normalise_newlines(content[: len(content) - len(self._pending)]))

    async def _end_lines_at_cr(self) -> None:
        with self._file as file:
            pieces = _pieces_of(file, is_small=self.size_bytes <= MEMORY_BYTES)
            self._begin()
            async for piece in pieces:
                await self._append(piece.replace(b"\r", b"\r\n"))

    async def _append(self, content: bytes) -> None:
        self.size_bytes += len(content)
        if self.size_bytes > self._limit:
            raise TooLarge(f"A message may have at most {self._limit} bytes")
        self._hash.update(content)
        if self.size_bytes <= MEMORY_BYTES:
            self._file.write(content)
        else:
            await asyncio.to_thread(self._file.write, content)

    @property
    def hash(self) -> str:
        return self._hash.hexdigest()

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the message from its beginning."""
        return _pieces_of(self._file, is_small=self.size_bytes <= MEMORY_BYTES)

    def is_as_large_as(self, arrived: Arrived) -> bool:
        return self.size_bytes == arrived.size_bytes

    def header(self) -> bytes:
        """Return the header, or the part of it that is read."""
        self._file.seek(0)
        return self._file.read(MAX_HEADER_BYTES).partition(b"\r\n\r\n")[0]

    def close(self) -> None:
        self._file.close()


async def _pieces_of(file: IO[bytes], *, is_small: bool) -> AsyncIterator[bytes]:
    """Yield a file from its beginning. A small one is in memory."""
    file.seek(0)
    while piece := file.read(_PIECE_BYTES) if is_small else await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """The target mailbox and the flags of an import. `received_at_ms` None means now."""

    mailbox_id: str
    flags: Flags = frozenset()
    received_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    message: Message
    position: Position


AnswerFor = Callable[[Imported], Answer]
"""Makes the answer to the request that imported the message."""


class Imports:
    """Puts messages into mailboxes."""

    def __init__(
        self,
        backends: Backends,
        index: Index,
        reader: MailReader,
        store: MailStore,
        messages: Messages,
        limit_bytes: int,
        parsers: Parsers = IN_THREADS,
    ) -> None:
        self._backends = backends
        self._index = index
        self._reader = reader
        self._store = store
        self._messages = messages
        self._limit = limit_bytes
        self._parsers = parsers

    async def _message_id_header(self, account_id: AccountId, spool: Spool) -> str | None:
        """Return a message's Message-ID as the index will hold it. Raises TooComplex."""
        block = spool.header()
        return await self._parsers.run(account_id, len(block), message_id_in, block)

    async def spooled(self, pieces: AsyncIterator[bytes]) -> Spool:
        """Receive a complete message. The caller closes the spool."""
        spool = Spool(self._limit)
        try:
            await spool.take(pieces)
        except BaseException:
            spool.close()
            raise
        return spool

    async def add(
        self,
        account_id: AccountId,
        caller: Caller,
        order: ImportOrder,
        spool: Spool,
        attempt: Attempt,
        answer_for: AnswerFor,
    ) -> Answer:
        """Import a message, once in all attempts. Raises MailboxNotFound, Conflict, TooLarge, MailServerError.

        For embedded accounts, the message and the answer are written in one transaction.
        """
        try:
            mailbox = await self._messages.target(account_id, caller, order.mailbox_id)
        except MailboxNotFound as error:
            raise error.naming("mailbox_id") from None
        if AccountKind((await self._reader.mailboxes.standing(account_id)).kind).is_kept_here:
            return await self._keep(mailbox, order, spool, attempt, answer_for)
        return answer_for(await self._append(mailbox, order, spool, attempt))

    async def _keep(
        self, mailbox: Mailbox, order: ImportOrder, spool: Spool, attempt: Attempt, answer_for: AnswerFor
    ) -> Answer:
        account_id = mailbox.account_id
        content = await self._store.keep_stream(spool.pieces())
        answers: list[Answer] = []

        async def conclude(transaction: Transaction, applied: Applied) -> None:
            (message_id,) = applied.message_ids.values()
            message = await MessageReader(transaction).message(account_id, message_id)
            answer = answer_for(Imported(message, applied.position))
            await attempt.record(transaction, answer)
            transaction.after_commit(partial(answers.append, answer))

        contents = [(content, order.flags, order.received_at_ms)]
        await self._store.add(account_id, mailbox.id, contents, conclude=conclude)
        return answers[-1]

    async def _append(self, mailbox: Mailbox, order: ImportOrder, spool: Spool, attempt: Attempt) -> Imported:
        account_id = mailbox.account_id
        backend = await self._backends.of(account_id)
        if has_mark(attempt):
            message = await self._landed(backend, mailbox, spool, attempt)
            if message is not None:
                return Imported(message, (await self._reader.mailboxes.standing(account_id)).position)
        await note_mark(attempt, backend, mailbox)
        confirmed = await backend.append(mailbox, spool.pieces(), spool.size_bytes, order.flags, order.received_at_ms)
        position = await self._messages.confirm(account_id, confirmed)
        (arrived,) = confirmed.delta.arrived
        return Imported(await self._reader.messages.at(account_id, Location(arrived.mailbox_id, arrived.uid)), position)

    async def _landed(self, backend: MailBackend, mailbox: Mailbox, spool: Spool, attempt: Attempt) -> Message | None:
        """Find the message of an earlier attempt: the same Message-ID, or without one the same bytes."""
        header = await self._message_id_header(mailbox.account_id, spool)
        for arrived in await landed_since(attempt, backend, mailbox):
            if arrived.overview.message_id_header != header or (header is None and not spool.is_as_large_as(arrived)):
                continue
            await self._index.apply(mailbox.account_id, Delta(arrived=(arrived,)))
            message = await self._reader.messages.at(mailbox.account_id, Location(mailbox.id, arrived.uid))
            if header is not None or await _hash_of(backend.read_raw(message)) == spool.hash:
                return message
        return None


async def _hash_of(pieces: AsyncIterator[bytes]) -> str:
    digest = hashlib.sha256()
    async for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
