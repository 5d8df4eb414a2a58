"""Streams of a message's bytes and of its decoded parts, whole or by range, in constant memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from app.errors import PartNotFound, ServerProtocolError, ServerRefused
from app.mail.backend import WHOLE, ByteRange, MailBackend
from app.mail.types import BodyPart, Message
from app.mime.transfer import decode_transfer, transfer_decoder

WHOLE_LIMIT_BYTES = 1024 * 1024
"""An encoded part up to this size is decoded at once, so that its exact size is known before it is sent."""
READ_ON_BYTES = 1024 * 1024
"""Up to this many bytes are read and discarded rather than closing the connection."""
SIZES_LIMIT = 20_000
SMALL_BYTES = 128 * 1024
"""Content up to this size, as the server reports it, is read before the answer begins, so its bytes are counted."""
ENCODED = frozenset({"base64", "quoted-printable", "uuencode", "x-uuencode", "x-uue", "uue"})
"""The encodings that change the size; others are sent as stored."""


class PartSizes:
    """Known sizes by message and section: "" is the whole message, others are decoded parts."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], int] = OrderedDict()

    def get(self, message_id: str, section: str) -> int | None:
        return self._known.get((message_id, section))

    def put(self, message_id: str, section: str, size_bytes: int) -> None:
        self._known[message_id, section] = size_bytes
        if len(self._known) > SIZES_LIMIT:
            self._known.popitem(last=False)


class Stored:
    """A message or a part as its server has it.

    A size that a mail server reports may be wrong: it is trusted only if the last byte exists, and no byte after it.
    The size of an embedded account's message is exact.
    """

    def __init__(
        self, backend: MailBackend, message: Message, section: str, reported_bytes: int, sizes: PartSizes
    ) -> None:
        self._backend = backend
        self._message = message
        self._section = section
        self._reported = reported_bytes
        self._sizes = sizes

    async def size(self, *, is_needed: bool) -> int | None:
        """Return the size; None if only reading everything would tell, unless it `is_needed` or seems small."""
        if self._message.blob is not None:
            return self._reported
        known = self._sizes.get(self._message.id, self._section)
        if known is not None or not (is_needed or self._reported > SMALL_BYTES):
            return known
        if await self._is_as_reported():
            self._sizes.put(self._message.id, self._section, self._reported)
            return self._reported
        return await _length(self.stream(WHOLE)) if is_needed else None

    async def _is_as_reported(self) -> bool:
        last = ByteRange(max(0, self._reported - 1), self._reported + 1)
        try:
            return await _length(self._read(last)) == min(self._reported, 1)
        except (PartNotFound, ServerRefused, ServerProtocolError):
            return False

    def _read(self, span: ByteRange) -> AsyncIterator[bytes]:
        if not self._section:
            return self._backend.read_raw(self._message, span)
        return self._backend.read_part(self._message, self._section, span)

    async def stream(self, span: ByteRange) -> AsyncGenerator[bytes, None]:
        """Yield the bytes; those of the whole are counted."""
        size = 0
        async for piece in self._read(span):
            size += len(piece)
            yield piece
        if span == WHOLE:
            self._sizes.put(self._message.id, self._section, size)


class Held:
    """Bytes in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def size(self, *, is_needed: bool) -> int | None:  # noqa: ARG002 - it is always known
        return len(self._content)

    def stream(self, span: ByteRange) -> AsyncIterator[bytes]:
        return _of(self._content[span.start : span.stop])


class HeldPart(Held):
    """A part that was found inside another part, its content already decoded."""

    def __init__(self, part: BodyPart, content: bytes) -> None:
        super().__init__(content)
        self.part = part


class DecodedPart:
    """A part without its transfer encoding. Its exact size may only be known once it has been read."""

    def __init__(self, backend: MailBackend, message: Message, part: BodyPart, sizes: PartSizes) -> None:
        self._backend = backend
        self._message = message
        self.part = part
        self._sizes = sizes
        self._stored = Stored(backend, message, part.section, part.size_bytes, sizes)
        self._content: bytes | None = None

    @property
    def _is_encoded(self) -> bool:
        return self.part.encoding in ENCODED

    async def size(self, *, is_needed: bool) -> int | None:
        """Return the decoded size; None if only reading all of a large part would tell, unless it `is_needed`."""
        if not self._is_encoded:
            return await self._stored.size(is_needed=is_needed)
        known = self._sizes.get(self._message.id, self.part.section)
        if known is not None:
            return known
        if self.part.size_bytes <= WHOLE_LIMIT_BYTES and (raw := await self._small()) is not None:
            self._content = decode_transfer(raw, self.part.encoding)[0]
            self._sizes.put(self._message.id, self.part.section, len(self._content))
            return len(self._content)
        return await _length(self._decoded()) if is_needed else None

    async def _small(self) -> bytes | None:
        """Return the encoded part; None if it is larger than its server reported."""
        raw = bytearray()
        async with aclosing(self._stored.stream(ByteRange(0, WHOLE_LIMIT_BYTES + 1))) as pieces:
            async for piece in pieces:
                raw += piece
        return bytes(raw) if len(raw) <= WHOLE_LIMIT_BYTES else None

    def stream(self, span: ByteRange) -> AsyncIterator[bytes]:
        """Yield a span of the decoded bytes."""
        if self._content is not None:
            return _of(self._content[span.start : span.stop])
        if not self._is_encoded:
            return self._stored.stream(span)
        if span == WHOLE:
            return self._decoded()
        rest = 0 if span.stop is None else self.part.size_bytes - span.stop
        return self._part_of(span, is_read_on=rest <= READ_ON_BYTES)

    async def _part_of(self, span: ByteRange, *, is_read_on: bool) -> AsyncIterator[bytes]:
        async with aclosing(self._decoded()) as pieces:
            async for piece in cut(pieces, span, is_read_on=is_read_on):
                yield piece

    async def _decoded(self) -> AsyncGenerator[bytes, None]:
        """Yield all decoded bytes, and store their number."""
        decoder = transfer_decoder(self.part.encoding)
        size = 0
        async for raw in self._backend.read_part(self._message, self.part.section):
            piece = decoder.feed(raw)
            size += len(piece)
            if piece:
                yield piece
        rest = decoder.finish()
        self._sizes.put(self._message.id, self.part.section, size + len(rest))
        if rest:
            yield rest


async def _length(pieces: AsyncIterator[bytes]) -> int:
    return sum([len(piece) async for piece in pieces])


async def cut(pieces: AsyncIterator[bytes], span: ByteRange, *, is_read_on: bool = True) -> AsyncIterator[bytes]:
    """Yield a span of a stream. `is_read_on`: read the rest too, to keep the connection."""
    position = 0
    async for piece in pieces:
        low, high = max(0, span.start - position), len(piece)
        if span.stop is not None:
            high = min(high, span.stop - position)
        if low < high:
            yield piece[low:high]
        position += len(piece)
        if span.stop is not None and position >= span.stop and not is_read_on:
            return


async def _of(content: bytes) -> AsyncIterator[bytes]:
    yield content
