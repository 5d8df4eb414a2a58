"""Streams of a message's bytes and of its decoded parts, whole or by range, in flat memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from app.mail.backend import WHOLE, ByteRange, MailBackend
from app.mail.types import BodyPart, Message
from app.mime.transfer import decode_transfer, transfer_decoder

WHOLE_LIMIT_BYTES = 1024 * 1024
"""An encoded part up to this size is decoded at once, so that its exact size is known before it is sent."""
READ_ON_BYTES = 1024 * 1024
"""Up to so much is read and thrown away rather than a connection with it."""
SIZES_LIMIT = 20_000
ENCODED = frozenset({"base64", "quoted-printable", "uuencode", "x-uuencode", "x-uue", "uue"})
"""What changes the size; everything else is sent as it is stored."""


class PartSizes:
    """Decoded sizes that were once found out."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], int] = OrderedDict()

    def get(self, message_id: str, part: BodyPart) -> int | None:
        if part.encoding not in ENCODED:
            return part.size_bytes
        return self._known.get((message_id, part.section))

    def put(self, message_id: str, part: BodyPart, size_bytes: int) -> None:
        self._known[message_id, part.section] = size_bytes
        if len(self._known) > SIZES_LIMIT:
            self._known.popitem(last=False)


class RawMessage:
    """A message as it was received."""

    def __init__(self, backend: MailBackend, message: Message) -> None:
        self._backend = backend
        self._message = message

    async def size(self, *, is_needed: bool) -> int | None:  # noqa: ARG002 - it is always known
        return self._message.size_bytes

    def stream(self, span: ByteRange) -> AsyncIterator[bytes]:
        return self._backend.read_raw(self._message, span)


class DecodedPart:
    """A part without its transfer encoding. Its exact size may only be known once it has been read."""

    def __init__(self, backend: MailBackend, message: Message, part: BodyPart, sizes: PartSizes) -> None:
        self._backend = backend
        self._message = message
        self.part = part
        self._sizes = sizes
        self._content: bytes | None = None

    async def size(self, *, is_needed: bool) -> int | None:
        """The decoded size; None where only reading all of a large part would tell, unless it `is_needed`."""
        known = self._sizes.get(self._message.id, self.part)
        if known is not None:
            return known
        if self.part.size_bytes <= WHOLE_LIMIT_BYTES:
            pieces = self._backend.read_part(self._message, self.part.section)
            raw = b"".join([piece async for piece in pieces])
            self._content = decode_transfer(raw, self.part.encoding)[0]
            self._sizes.put(self._message.id, self.part, len(self._content))
            return len(self._content)
        if is_needed:
            return sum([len(piece) async for piece in self._decoded()])
        return None

    def stream(self, span: ByteRange) -> AsyncIterator[bytes]:
        """The decoded bytes of a span of them."""
        if self._content is not None:
            return _of(self._content[span.start : span.stop])
        if self.part.encoding not in ENCODED:
            return self._backend.read_part(self._message, self.part.section, span)
        if span == WHOLE:
            return self._decoded()
        rest = 0 if span.stop is None else self.part.size_bytes - span.stop
        return self._part_of(span, is_read_on=rest <= READ_ON_BYTES)

    async def _part_of(self, span: ByteRange, *, is_read_on: bool) -> AsyncIterator[bytes]:
        async with aclosing(self._decoded()) as pieces:
            async for piece in cut(pieces, span, is_read_on=is_read_on):
                yield piece

    async def _decoded(self) -> AsyncGenerator[bytes, None]:
        """All of it; what was found to be its size is remembered."""
        decoder = transfer_decoder(self.part.encoding)
        size = 0
        async for raw in self._backend.read_part(self._message, self.part.section):
            piece = decoder.feed(raw)
            size += len(piece)
            if piece:
                yield piece
        rest = decoder.finish()
        self._sizes.put(self._message.id, self.part, size + len(rest))
        if rest:
            yield rest


async def cut(pieces: AsyncIterator[bytes], span: ByteRange, *, is_read_on: bool = True) -> AsyncIterator[bytes]:
    """A span of a stream. `is_read_on`: the rest is read too, which keeps the connection that it comes by."""
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
