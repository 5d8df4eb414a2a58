from __future__ import annotations

import pytest
from app.errors import TooLarge
from app.wire.lines import LineBuffer
from hypothesis import given
from hypothesis import strategies as st

from tests.cpu import at_most_cpu_seconds


def lines_of(buffer: LineBuffer) -> list[bytes]:
    found = []
    while (line := buffer.line()) is not None:
        found.append(line)
    return found


def test_a_line_is_given_once_it_is_whole() -> None:
    buffer = LineBuffer(100)

    buffer.feed(b"NOO")
    assert buffer.line() is None
    buffer.feed(b"P\r\nQUIT\r\nhal")

    assert lines_of(buffer) == [b"NOOP\r\n", b"QUIT\r\n"]
    assert buffer.take() == b"hal"


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), min_size=1))
def test_lines_do_not_depend_on_how_the_stream_was_split(stream: bytes, sizes: list[int]) -> None:
    whole, pieces = LineBuffer(1000), LineBuffer(1000)
    whole.feed(stream)
    found, at, turn = [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        pieces.feed(stream[at : at + size])
        found += lines_of(pieces)
        at, turn = at + size, turn + 1

    assert found == lines_of(whole)
    assert pieces.take() == whole.take()


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_line_without_end_is_refused_at_its_limit(step: int) -> None:
    buffer = LineBuffer(1000)

    def feed_on() -> None:
        for _ in range(0, 2000, step):
            buffer.feed(b"(" * step)
            assert buffer.line() is None

    with pytest.raises(TooLarge):
        feed_on()
    assert len(buffer) <= 1000 + step


def test_a_line_may_just_have_the_limit() -> None:
    buffer = LineBuffer(10)
    buffer.feed(b"12345678\r\nnext")

    assert buffer.line() == b"12345678\r\n"


def test_a_part_can_be_taken_for_a_chunk() -> None:
    buffer = LineBuffer(100)
    buffer.feed(b"chunkRSET\r\n")

    assert buffer.take(5) == b"chunk"
    assert buffer.line() == b"RSET\r\n"


def test_many_short_lines_take_linear_time() -> None:
    buffer = LineBuffer(100)
    buffer.feed(b"NOOP\r\n" * 200_000)

    with at_most_cpu_seconds(2):
        assert len(lines_of(buffer)) == 200_000
