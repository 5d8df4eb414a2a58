from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import pytest
from app.mail.backend import WHOLE, ByteRange, MailBackend
from app.mail.types import AccountId, BodyPart, MailboxId, Message, MessageId, ThreadId
from app.services.reading.downloads import WHOLE_LIMIT_BYTES, DecodedPart, PartSizes, Stored, cut


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


class Server:
    """Has one message, which is also its part 1, and tells a size of it."""

    def __init__(self, content: bytes, *, gives_ranges: bool = True) -> None:
        self.content = content
        self.asked: list[ByteRange] = []
        self._gives_ranges = gives_ranges

    async def read_raw(self, _message: Message, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        self.asked.append(span)
        content = self.content[span.start : span.stop] if self._gives_ranges else self.content
        for start in range(0, len(content), 100_000):
            yield content[start : start + 100_000]

    def read_part(self, message: Message, section: str, span: ByteRange = WHOLE) -> AsyncIterator[bytes]:
        assert section == "1"
        return self.read_raw(message, span)


MESSAGE = Message(
    id=MessageId("msg_1"),
    account_id=AccountId("acc_1"),
    mailbox_id=MailboxId("mbx_1"),
    uid=1,
    modseq=1,
    version=1,
    flags=frozenset(),
    received_at_ms=0,
    size_bytes=0,
    thread_id=ThreadId("thr_1"),
    message_id_header=None,
    preview=None,
    blob=None,
    summary=b"{}",
)
LARGE = b"0123456789abcdef" * 20_000


def stored(server: Server, told: int, sizes: PartSizes | None = None, section: str = "") -> Stored:
    return Stored(cast("MailBackend", server), MESSAGE, section, told, sizes or PartSizes())


@pytest.mark.parametrize("off", [-29, -1, 1, 29, -len(LARGE)])
@pytest.mark.parametrize("section", ["", "1"])
async def test_a_size_that_the_server_tells_wrongly_is_not_believed(off: int, section: str) -> None:
    server = Server(LARGE)
    source = stored(server, len(LARGE) + off, section=section)

    assert await source.size(is_needed=False) is None
    assert await source.size(is_needed=True) == len(LARGE)
    assert b"".join([piece async for piece in source.stream(WHOLE)]) == LARGE


async def test_a_size_that_the_server_tells_rightly_is_known_by_one_byte() -> None:
    server = Server(LARGE)

    assert await stored(server, len(LARGE)).size(is_needed=False) == len(LARGE)
    assert server.asked == [ByteRange(len(LARGE) - 1, len(LARGE) + 1)]


async def test_the_size_of_what_was_read_once_is_known() -> None:
    server, sizes = Server(LARGE), PartSizes()
    source = stored(server, 5, sizes)
    async for _ in source.stream(WHOLE):
        pass

    assert await stored(server, 5, sizes).size(is_needed=False) == len(LARGE)
    assert server.asked == [WHOLE]


async def test_a_server_that_gives_no_ranges_has_its_message_counted() -> None:
    assert await stored(Server(LARGE, gives_ranges=False), len(LARGE)).size(is_needed=True) == len(LARGE)


async def test_what_is_told_to_be_small_costs_no_question_about_its_size() -> None:
    server = Server(b"small")

    assert await stored(server, 5).size(is_needed=False) is None
    assert server.asked == []


async def test_an_encoded_part_that_is_told_to_be_small_is_not_read_into_memory_beyond_the_limit() -> None:
    server = Server(b"QUJD" * 1_000_000)
    part = BodyPart("1", "image/png", encoding="base64", size_bytes=100)
    decoded = DecodedPart(cast("MailBackend", server), MESSAGE, part, PartSizes())

    assert await decoded.size(is_needed=False) is None
    assert server.asked == [ByteRange(0, WHOLE_LIMIT_BYTES + 1)]
    assert await decoded.size(is_needed=True) == 3_000_000
