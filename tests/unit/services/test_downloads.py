from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from app.mail.backend import ByteRange
from app.services.downloads import cut


async def _pieces(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("start", [0, 1, 5, 26, 99])
@pytest.mark.parametrize("stop", [None, 0, 1, 6, 26, 99])
async def test_a_cut_stream_is_the_slice_however_it_comes(size: int, start: int, stop: int | None) -> None:
    content = b"abcdefghijklmnopqrstuvwxyz"

    pieces = [piece async for piece in cut(_pieces(content, size), ByteRange(start, stop))]

    assert b"".join(pieces) == content[start:stop]


async def test_a_cut_stream_ends_without_reading_on() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"
        raise AssertionError("read beyond what was wanted")

    assert [piece async for piece in cut(pieces(), ByteRange(1, 3), is_read_on=False)] == [b"bc"]


async def test_a_stream_that_is_read_on_is_read_to_its_end() -> None:
    is_at_end = False

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal is_at_end
        yield b"abc"
        yield b"def"
        is_at_end = True

    assert [piece async for piece in cut(pieces(), ByteRange(1, 3))] == [b"bc"]
    assert is_at_end
