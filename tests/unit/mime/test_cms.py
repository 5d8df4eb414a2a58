"""What is inside an opaque S/MIME signature."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from app.mime.cms import signed_content
from hypothesis import given
from hypothesis import strategies as st

SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
DATA = bytes.fromhex("06092a864886f70d010701")
ENVELOPED_DATA = bytes.fromhex("06092a864886f70d010703")


def element(tag: int, *content: bytes) -> bytes:
    body = b"".join(content)
    size = len(body).to_bytes(3, "big")
    return bytes((tag, 0x83)) + size + body if len(body) > 127 else bytes((tag, len(body))) + body


def endless(tag: int, *content: bytes) -> bytes:
    return bytes((tag, 0x80)) + b"".join(content) + b"\0\0"


def signed(content: bytes, wrap: Callable[..., bytes] = element, kind: bytes = SIGNED_DATA) -> bytes:
    """ContentInfo with what a reader looks at, and a certificate that it does not."""
    enclosed = wrap(0x30, DATA, wrap(0xA0, content))
    version, algorithms = element(2, b"\1"), element(0x31, element(0x30, b""))
    return wrap(0x30, kind, wrap(0xA0, wrap(0x30, version, algorithms, enclosed, element(0xA0, b"x" * 300))))


@pytest.mark.parametrize("wrap", [element, endless])
def test_the_content_is_found_in_definite_and_indefinite_lengths(wrap: Callable[..., bytes]) -> None:
    pieces = element(0x24, element(4, b"one "), element(0x24, element(4, b"two ")), element(4, b"three"))

    assert signed_content(signed(element(4, b"words" * 100), wrap)) == b"words" * 100
    assert signed_content(signed(pieces, wrap)) == b"one two three"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"0" * 1_000,
        b"\x30\x80" * 1_000,
        signed(element(4, b"x"), kind=ENVELOPED_DATA),
        signed(b""),
        signed(element(2, b"x")),
        signed(element(4, b"x"))[:-1],
        element(0x30, SIGNED_DATA),
        element(0x30, SIGNED_DATA, element(0xA0, b"")),
    ],
)
def test_what_holds_no_signed_content_is_not_opened(data: bytes) -> None:
    assert not signed_content(data)


@given(st.binary(max_size=60), st.integers(0, 400))
def test_no_bytes_make_the_reader_fail(noise: bytes, position: int) -> None:
    data = signed(element(4, b"words"))

    signed_content(data[:position] + noise + data[position:])
    signed_content(noise)
