"""Base64 of many megabytes, decoded in slices: at once, 33 MB would hold the event loop for 70 ms."""

from __future__ import annotations

import asyncio
import base64

from app.mime.writer import Content

SLICE_BYTES = 1024 * 1024
"""Base64 that is decoded before others have their turn: some 2 ms."""


async def decoded(text: str | memoryview) -> tuple[bytes, ...]:
    """The content of base64 in pieces. ValueError for what is no base64.

    The text is ASCII; of a memoryview `\\/` stands for `/`, as JSON may have it.
    """
    pieces = []
    held = b""
    for start in range(0, len(text), SLICE_BYTES):
        piece = text[start : start + SLICE_BYTES]
        held = held + piece.encode("ascii") if isinstance(piece, str) else (held + bytes(piece)).replace(b"\\/", b"/")
        whole = len(held) - len(held) % 4 - 4 if start + SLICE_BYTES < len(text) else len(held)
        pieces.append(_decoded(held[:whole], is_last=whole == len(held)))
        held = held[whole:]
        if start:
            await asyncio.sleep(0)
    return tuple(pieces)


def _decoded(raw: bytes, *, is_last: bool) -> bytes:
    """Padding may end the last slice alone."""
    if not is_last and b"=" in raw:
        raise ValueError("Data follows the padding")
    return base64.b64decode(raw, validate=True)


def size_of(content: Content) -> int:
    """How much content there is, as far as it is known before it is read."""
    if isinstance(content, bytes):
        return len(content)
    return sum(map(len, content)) if isinstance(content, tuple) else 0
