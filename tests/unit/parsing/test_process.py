"""How a job is sent to a process: large contents as they are, in pieces."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
from app.parsing.child import Job
from app.parsing.process import PIECE_BYTES, ParserProcess, ProcessFailed

CONTENT = b"x" * (10 * PIECE_BYTES)


class Writer:
    """Notes what is written, and how much between two turns of the event loop."""

    def __init__(self) -> None:
        self.turns: list[int] = [0]
        self.written = bytearray()

    def write(self, piece: bytes | memoryview) -> None:
        self.turns[-1] += len(piece)
        self.written += piece

    async def drain(self) -> None:
        asyncio.get_running_loop().call_soon(self.turns.append, 0)


def sized(*_: Any) -> int:
    return 0


@pytest.mark.parametrize("argument", [CONTENT, {"1": CONTENT}], ids=["bytes", "bytes by section"])
async def test_a_large_content_is_not_copied_and_others_have_their_turn_while_it_is_sent(
    monkeypatch: pytest.MonkeyPatch, argument: Any
) -> None:
    pickled: list[int] = []
    dumps = pickle.dumps

    def counted(value: Any, **options: Any) -> bytes:
        made = dumps(value, **options)
        pickled.append(len(made))
        return made

    monkeypatch.setattr(pickle, "dumps", counted)
    writer, reader = Writer(), asyncio.StreamReader()
    reader.feed_eof()
    process = ParserProcess(None, reader, writer)  # type: ignore[arg-type]  # it has no process, and a fake writer
    job: Job = (sized, (argument,), {})

    with pytest.raises(ProcessFailed):
        await process.call(job)

    assert max(pickled) < 1_000
    assert len(writer.written) > len(CONTENT)
    assert max(writer.turns) < PIECE_BYTES + 1_000
