"""Decoded sizes of attachments: exact, or None."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from app.errors import PartNotFound, ServerProtocolError, ServerRefused
from app.mail.backend import Backends, ByteRange
from app.mail.types import BodyPart, Message
from app.mime.transfer import decode_transfer
from app.services.reading.downloads import ENCODED, DecodedPart, PartSizes

MEASURED_BYTES = 16 * 1024 * 1024
"""Encoded bytes of an embedded account's message that are decoded to get the sizes of its attachments."""
LOCAL_READS, REMOTE_READS = 50, 10
"""Attachments of one message that are read for their sizes."""
TAIL_BYTES = 256


class AttachmentSizes:
    """Determines and caches sizes. For base64 that is not read whole, the last lines give the length of all lines."""

    def __init__(self, backends: Backends, known: PartSizes) -> None:
        self._backends = backends
        self._known = known

    async def of(self, message: Message, parts: Sequence[BodyPart], *, is_cheap: bool) -> list[int | None]:
        """Return the size of each part, None if only reading more would tell. Not `is_cheap`: nothing is read."""
        reads = (REMOTE_READS if message.blob is None else LOCAL_READS) if is_cheap else 0
        remaining = MEASURED_BYTES if message.blob is not None else 0
        sizes: list[int | None] = []
        for part in parts:
            size = self._size_known(message, part)
            if size is None and reads:
                reads -= 1
                is_whole = part.size_bytes <= remaining
                remaining -= part.size_bytes if is_whole else 0
                with suppress(PartNotFound, ServerRefused, ServerProtocolError):
                    size = await self._measured(message, part, is_whole=is_whole)
            sizes.append(size)
        return sizes

    def _size_known(self, message: Message, part: BodyPart) -> int | None:
        if part.encoding not in ENCODED:
            return part.size_bytes
        return self._known.get(message.id, part.section)

    async def _measured(self, message: Message, part: BodyPart, *, is_whole: bool) -> int | None:
        backend = await self._backends.of(message.account_id)
        if is_whole:
            return await DecodedPart(backend, message, part, self._known).size(is_needed=True)
        if part.encoding != "base64":
            return None
        span = ByteRange(max(0, part.size_bytes - TAIL_BYTES), part.size_bytes)
        tail = b"".join([piece async for piece in backend.read_part(message, part.section, span)])
        size = base64_size(part.size_bytes, tail)
        if size is not None:
            self._known.put(message.id, part.section, size)
        return size


def base64_size(size_bytes: int, tail: bytes) -> int | None:
    """Return the decoded size of base64 of `size_bytes` that ends in `tail`; None if its lines differ in length."""
    if size_bytes <= len(tail):
        return len(decode_transfer(tail, "base64")[0])
    content = tail.rstrip(b"\r\n")
    total = size_bytes - (len(tail) - len(content))
    lines = content.split(b"\n")
    if len(lines) < 3 or {len(line) for line in lines[1:-1]} != {len(lines[1])}:
        return None
    stride, last = len(lines[1]) + 1, lines[-1]
    full, rest = divmod(total, stride)
    characters = total - full * (stride - len(lines[1].rstrip(b"\r")))
    if rest != len(last) or characters % 4:
        return None
    return characters // 4 * 3 - last.count(b"=")
