"""Decoded sizes of attachments."""

from __future__ import annotations

import base64

import pytest
from app.services.reading.sizes import TAIL_BYTES, base64_size


def encoded(size: int, width: int, line_end: bytes, end: bytes) -> bytes:
    text = base64.b64encode(b"x" * size)
    return line_end.join(text[start : start + width] for start in range(0, len(text), width)) + end


@pytest.mark.parametrize("size", [0, 1, 2, 3, 55, 56, 57, 58, 114, 1_000, 99_999, 100_000])
@pytest.mark.parametrize("width", [4, 60, 64, 72, 76])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n"])
def test_the_size_of_base64_is_known_from_its_last_lines(size: int, width: int, line_end: bytes, end: bytes) -> None:
    raw = encoded(size, width, line_end, end)

    assert base64_size(len(raw), raw[-TAIL_BYTES:]) == size


@pytest.mark.parametrize(
    "raw",
    [
        encoded(1_000, 76, b"\r\n", b"\r\n")[1:],
        encoded(10_000, 20_000, b"\r\n", b""),
        encoded(1_000, 76, b"\r\n", b"\r\n") + b"-- \r\nfooter\r\n",
        b"x" + encoded(1_000, 76, b"\r\n", b""),
    ],
)
def test_there_is_no_size_where_the_lines_do_not_tell(raw: bytes) -> None:
    assert base64_size(len(raw), raw[-TAIL_BYTES:]) is None
