"""Reads the original of a reply or forward: its text for a quotation, its attachments to attach."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from app.errors import PartNotFound, TooComplex, TooLarge
from app.mail.backend import Backends
from app.mail.types import AccountId, BodyPart, Message
from app.mailstore.reader import MailReader
from app.mime.compose import MAX_ENCLOSURES, Enclosure, enclosure_of
from app.mime.transfer import decode_transfer
from app.parsing.jobs import IN_THREADS, Parsers
from app.services.reading.opening import OpenedMessage, Opener, held
from app.services.reading.rendering import attachment_id, attachment_parts, plain_body, render_body, text_parts
from app.services.sending.composing import ATTACHMENTS_LIMIT_BYTES, ReadableText


async def _until_too_large(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a part, which may be larger than its server reported. Raises TooLarge."""
    remaining = ATTACHMENTS_LIMIT_BYTES * 4 // 3
    async for piece in pieces:
        remaining -= len(piece)
        if remaining < 0:
            raise TooLarge(f"The attachments together have more than {ATTACHMENTS_LIMIT_BYTES} bytes")
        yield piece


class Originals:
    """See `composing.ContentReader`."""

    def __init__(self, reader: MailReader, backends: Backends, parsers: Parsers = IN_THREADS) -> None:
        self._reader = reader
        self._backends = backends
        self._parsers = parsers
        self._opener = Opener(backends, reader, parsers)

    async def readable(self, message: Message) -> ReadableText:
        if (await self._reader.messages.detail(message.account_id, message.id)).structure is None:
            return ReadableText(None, None)
        opened = await self._opener.open(message)
        structure = opened.structure
        contents = await self._opener.contents(opened, text_parts(structure).parts)
        size_bytes = sum(map(len, contents.values()))
        try:
            body = await self._parsers.run(message.account_id, size_bytes, render_body, structure, contents, None)
        except TooComplex:
            body = plain_body(structure, contents)
        return ReadableText(body.text, body.html)

    async def enclosure(self, account_id: AccountId, message_id: str, attachment: str) -> Enclosure:
        message = await self._reader.messages.message(account_id, message_id)
        opened = await self._opener.open(message)
        for part in attachment_parts(opened.structure):
            if attachment_id(message.id, part.section) == attachment:
                return await self._read(opened, part)
        raise PartNotFound

    async def enclosures(self, message: Message) -> Sequence[Enclosure]:
        opened = await self._opener.open(message)
        parts = attachment_parts(opened.structure)
        if sum(part.size_bytes for part in parts) > ATTACHMENTS_LIMIT_BYTES * 4 // 3:
            raise TooLarge(f"The attachments together have more than {ATTACHMENTS_LIMIT_BYTES} bytes")
        if len(parts) > MAX_ENCLOSURES:
            raise TooLarge(f"The message has more than {MAX_ENCLOSURES} attachments")
        if message.blob is None or opened.inside or opened.local is not None:
            return [await self._read(opened, part) for part in parts]
        backend = await self._backends.of(message.account_id)
        contents = await backend.read_parts(message, [part.section for part in parts]) if parts else {}
        return [await self._decoded(message, part, contents[part.section]) for part in parts]

    async def _read(self, opened: OpenedMessage, part: BodyPart) -> Enclosure:
        message, content = opened.message, held(opened, part)
        if content is not None:
            return enclosure_of(part, content)
        backend = await self._backends.of(message.account_id)
        raw = bytearray()
        async with aclosing(_until_too_large(backend.read_part(message, part.section))) as pieces:
            async for piece in pieces:
                raw += piece
        return await self._decoded(message, part, bytes(raw))

    async def _decoded(self, message: Message, part: BodyPart, raw: bytes) -> Enclosure:
        content, _ = await self._parsers.run(message.account_id, len(raw), decode_transfer, raw, part.encoding)
        return enclosure_of(part, content)
