"""How a message of many megabytes is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.mailstore.blobs import CHUNK_BYTES, BlobWriter

from tests.harness import open_harness

CONTENT = b"Subject: large\r\n\r\n" + b"x" * 5 * CHUNK_BYTES


async def in_one_piece() -> AsyncIterator[bytes]:
    yield CONTENT


async def test_a_message_that_comes_in_one_piece_is_written_turn_by_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [0]
    write = BlobWriter.write

    def counted(writer: BlobWriter, piece: bytes | memoryview) -> None:
        turns[-1] += len(piece)
        asyncio.get_running_loop().call_soon(turns.append, 0)
        write(writer, piece)

    async with open_harness(tmp_path) as harness:
        with monkeypatch.context() as patched:
            patched.setattr(BlobWriter, "write", counted)
            kept = await harness.store.keep_stream(in_one_piece())

        assert await harness.store.blobs.get(kept.blob) == CONTENT
    assert sum(turns) == len(CONTENT)
    assert max(turns) <= CHUNK_BYTES
