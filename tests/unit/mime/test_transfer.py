"""Content-Transfer-Encoding undone."""

from __future__ import annotations

import base64
import quopri

import pytest
from app.mime.transfer import MAX_LINE_BYTES, Base64, decode_transfer, transfer_decoder
from hypothesis import given
from hypothesis import strategies as st

ENCODINGS = ("7bit", "8bit", "binary", "base64", "quoted-printable", "x-uuencode", "unheard-of")


def in_pieces(raw: bytes, encoding: str, size: int) -> bytes:
    decoder = transfer_decoder(encoding)
    pieces = [decoder.feed(raw[start : start + size]) for start in range(0, len(raw), size)]
    return b"".join((*pieces, decoder.finish()))


@pytest.mark.parametrize(
    ("encoding", "raw", "decoded", "is_damaged"),
    [
        ("base64", b"aGVs\r\nbG8=\r\n", b"hello", False),
        ("base64", b"aGVsbG8", b"hello", False),
        ("base64", b"aGV*s bG8=", b"hello", True),
        ("base64", b"aGVsbG8=\r\naGVsbG8=", b"hellohello", False),
        ("base64", b"aGVsb", b"hel", True),
        ("base64", b"====", b"", False),
        ("base64", b"", b"", False),
        ("quoted-printable", b"caf=C3=A9 =\r\nnoir  \r\n", "café noir\r\n".encode(), False),
        ("quoted-printable", b"a=\nb", b"ab", False),
        ("quoted-printable", b"a=  \r\nb", b"ab", False),
        ("quoted-printable", b"100=% =zz", b"100=% =zz", True),
        ("quoted-printable", b"end=", b"end", False),
        ("x-uuencode", b"begin 644 a\n#86)C\n`\nend\nafter", b"abc", False),
        ("x-uuencode", b"begin 644 a\n#86)Cxx\nend\n", b"abc", True),
        ("8bit", b"\xff\r\n", b"\xff\r\n", False),
        ("quoted-printable", b"a==b ==\r\nc==C3", b"a==b =c=\xc3", True),
        *((name, b"aGVsbG8=", b"hello", False) for name in ("Base64", '"base64"', "base-64", "base_64")),
        *((name, b"=41", b"A", False) for name in ("quoted printable", "QUOTED_PRINTABLE", "quotedprintable")),
        ("unheard-of", b"=41", b"=41", False),
    ],
)
def test_encodings_are_undone(encoding: str, raw: bytes, decoded: bytes, is_damaged: bool) -> None:
    assert decode_transfer(raw, encoding) == (decoded, is_damaged)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_base64_comes_back_whole_in_any_pieces(data: bytes, size: int) -> None:
    raw = base64.encodebytes(data)

    assert in_pieces(raw, "base64", size) == data
    assert decode_transfer(raw, "base64") == (data, False)


@given(st.binary(max_size=400).filter(lambda data: b"\r" not in data), st.integers(1, 50))
def test_quoted_printable_comes_back_whole_in_any_pieces(data: bytes, size: int) -> None:
    raw = quopri.encodestring(data)

    assert in_pieces(raw, "quoted-printable", size) == data


@given(st.binary(max_size=200), st.sampled_from(ENCODINGS), st.integers(1, 20))
def test_any_bytes_decode_alike_whole_and_in_pieces(raw: bytes, encoding: str, size: int) -> None:
    decoded, _ = decode_transfer(raw, encoding)

    assert in_pieces(raw, encoding, size) == decoded


def test_an_endless_line_is_not_held_back() -> None:
    decoder = transfer_decoder("quoted-printable")

    decoded = [decoder.feed(b"=41" * 10_000) for _ in range(20)]

    assert len(b"".join(decoded)) > 200_000 - MAX_LINE_BYTES
    assert set(b"".join((*decoded, decoder.finish()))) == {0x41}


@given(
    st.binary(max_size=60), st.integers(1, 9), st.lists(st.tuples(st.integers(0, 99), st.sampled_from(b"=Az\n \0-")))
)
def test_base64_is_read_the_same_the_fast_way_and_the_slow(
    content: bytes, size: int, faults: list[tuple[int, int]]
) -> None:
    encoded = bytearray(base64.encodebytes(content))
    for place, byte in faults:
        if encoded:
            encoded[place % len(encoded)] = byte

    fast, slow = Base64(), Base64()
    slow.feed = slow._feed_damaged  # type: ignore[method-assign]
    outcomes = []
    for decoder in (fast, slow):
        pieces = [decoder.feed(bytes(encoded[start : start + size])) for start in range(0, len(encoded), size)]
        outcomes.append((b"".join(pieces) + decoder.finish(), decoder.is_damaged))

    assert outcomes[0] == outcomes[1]
