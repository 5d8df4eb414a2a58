"""Line ends."""

from __future__ import annotations

import pytest
from app.mime.lines import normalise_newlines
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\r\nb\n", b"a\r\nb\r\n"),
        (b"a\rb\n", b"a\rb\r\n"),
        (b"a=\r\r\nb", b"a=\r\r\nb"),
        (b"\n\r", b"\r\n\r"),
        (b"a\rb\r", b"a\rb\r"),
        (b"", b""),
    ],
)
def test_a_bare_lf_becomes_crlf_and_a_bare_cr_stays(data: bytes, expected: bytes) -> None:
    assert normalise_newlines(data) == expected


def test_sane_bytes_are_not_copied() -> None:
    data = b"a\r\nb\r\n"

    assert normalise_newlines(data) is data


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"."])).map(b"".join))
def test_no_bare_lf_is_left_and_nothing_else_changes(data: bytes) -> None:
    normal = normalise_newlines(data)

    assert normal.count(b"\n") == normal.count(b"\r\n")
    assert normal.replace(b"\r", b"").replace(b"\n", b"") == data.replace(b"\r", b"").replace(b"\n", b"")
    assert normalise_newlines(normal) is normal
