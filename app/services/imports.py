"""Mail put into a mailbox by a caller: bytes as they are, but for line ends, or a message written as JSON."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import IO

from app.errors import InvalidRequest, TooLarge
from app.mail.backend import Backends
from app.mail.delta import Location
from app.mail.types import AccountId, Flags, Message, Position
from app.mailstore.index import Index
from app.mime.fields import MAX_HEADER_BYTES
from app.mime.header import message_id_in
from app.mime.lines import normalise_newlines
from app.parsing.jobs import IN_THREADS, Parsers
from app.services.callers import Caller
from app.services.messages import Messages

MEMORY_BYTES = 1024 * 1024
"""What is held in memory of a message that is taken in; the rest goes to a temporary file."""
_PIECE_BYTES = 256 * 1024
_READ_LIMIT = 200
"""Messages with one Message-ID that are looked at when a repetition is suspected."""


class Spool:
    """A message while it comes in: its line ends made CRLF, its size and hash known at the end."""

    def __init__(self, limit_bytes: int) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY_BYTES)  # noqa: SIM115 - closed by `close`
        self._limit = limit_bytes
        self._held = b""
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    async def take(self, pieces: AsyncIterator[bytes]) -> None:
        """Raises TooLarge beyond the limit, InvalidRequest for no bytes at all."""
        async for piece in pieces:
            await self._write(piece, is_last=False)
        await self._write(b"", is_last=True)
        if self.size_bytes == 0:
            raise InvalidRequest.at("", "There is no message in the body")

    async def _write(self, piece: bytes, *, is_last: bool) -> None:
        content = self._held + piece
        self._held = b"\r" if content.endswith(b"\r") and not is_last else b""
        content = normalise_newlines(content[: len(content) - len(self._held)])
        self.size_bytes += len(content)
        if self.size_bytes > self._limit:
            raise TooLarge(f"A message may have {self._limit} bytes")
        self._hash.update(content)
        if self.size_bytes <= MEMORY_BYTES:
            self._file.write(content)
        else:
            await asyncio.to_thread(self._file.write, content)

    @property
    def hash(self) -> str:
        return self._hash.hexdigest()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The message from its beginning."""
        self._file.seek(0)
        is_small = self.size_bytes <= MEMORY_BYTES
        while piece := (
            self._file.read(_PIECE_BYTES) if is_small else await asyncio.to_thread(self._file.read, _PIECE_BYTES)
        ):
            yield piece

    def header(self) -> bytes:
        """Its header block, as far as it is read."""
        self._file.seek(0)
        return self._file.read(MAX_HEADER_BYTES).partition(b"\r\n\r\n")[0]

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class ImportOrder:
    """Where a message goes, and what it is marked with. `received_at_ms` None is now."""

    mailbox_id: str
    flags: Flags = frozenset()
    received_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    message: Message
    position: Position


class Imports:
    """Puts messages into mailboxes."""

    def __init__(
        self, backends: Backends, index: Index, messages: Messages, limit_bytes: int, parsers: Parsers = IN_THREADS
    ) -> None:
        self._backends = backends
        self._index = index
        self._messages = messages
        self._limit = limit_bytes
        self._parsers = parsers

    async def message_id_header(self, account_id: AccountId, spool: Spool) -> str | None:
        """A message's Message-ID as the index will hold it. TooComplex."""
        block = spool.header()
        return await self._parsers.run(account_id, len(block), message_id_in, block)

    async def spooled(self, pieces: AsyncIterator[bytes]) -> Spool:
        """Take in a message whole; whoever asked closes it."""
        spool = Spool(self._limit)
        try:
            await spool.take(pieces)
        except BaseException:
            spool.close()
            raise
        return spool

    async def add(self, account_id: AccountId, caller: Caller, order: ImportOrder, spool: Spool) -> Imported:
        """Put it in. MailboxNotFound, Conflict, TooLarge, MailServerError."""
        mailbox = await self._messages.target(account_id, caller, order.mailbox_id)
        backend = await self._backends.of(account_id)
        delta = await backend.append(mailbox, spool.pieces(), spool.size_bytes, order.flags, order.received_at_ms)
        position = await self._messages.apply(account_id, delta)
        (arrived,) = delta.arrived
        return Imported(await self._index.at(account_id, Location(arrived.mailbox_id, arrived.uid)), position)

    async def find(
        self, account_id: AccountId, mailbox_id: str, message_id_header: str | None, size_bytes: int
    ) -> Message | None:
        """A message that a request put in before it was cut off: the same Message-ID and size in the same mailbox."""
        if message_id_header is None:
            return None
        for one in (await self._index.with_header(account_id, message_id_header))[:_READ_LIMIT]:
            if one.mailbox_id == mailbox_id and one.size_bytes == size_bytes:
                return one
        return None
