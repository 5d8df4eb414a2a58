"""Bytes to text."""

from __future__ import annotations

import pytest
from app.mime.charset import decode, decode_damaged, decode_short
from app.mime.encodings import codec_of
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("label", "raw", "text"),
    [
        ("gb2312", "㐀".encode("gb18030"), "㐀"),
        ("ISO-8859-1", b"\x80", "€"),
        ("ks_c_5601-1987", "똠".encode("cp949"), "똠"),
        ("shift_jis", "①".encode("cp932"), "①"),
        ("iso-8859-9", b"\x80\xfd", "€ı"),
        ("'utf8'", "ü".encode(), "ü"),
        ("us-ascii", b"abc", "abc"),
    ],
)
def test_a_label_is_read_as_browsers_read_it(label: str, raw: bytes, text: str) -> None:
    decoded = decode(raw, label)

    assert (decoded.text, decoded.is_guess, decoded.is_damaged) == (text, False, False)


@pytest.mark.parametrize(
    "label", [None, "us-ascii", "x-unknown", "rot13", "base64", "punycode", "\udce9", "a" * 1000, "hex"]
)
def test_without_a_usable_label_utf_8_is_tried_and_said_to_be_a_guess(label: str | None) -> None:
    decoded = decode("grün".encode(), label)

    assert (decoded.text, decoded.charset, decoded.is_guess) == ("grün", "utf-8", True)


def test_ascii_without_a_label_is_no_guess() -> None:
    assert not decode(b"abc", None).is_guess


def test_short_8_bit_text_without_a_label_is_western() -> None:
    decoded = decode("Grüße".encode("latin-1"), None)

    assert (decoded.text, decoded.charset, decoded.is_guess) == ("Grüße", "cp1252", True)


def test_long_text_without_a_label_is_guessed() -> None:
    text = "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 20

    decoded = decode(text.encode("cp1251"), None)

    assert (decoded.text, decoded.is_guess) == (text, True)


def test_utf_8_under_a_wrong_label_is_found_out() -> None:
    decoded = decode("日本".encode(), "iso-2022-jp")

    assert (decoded.text, decoded.is_guess) == ("日本", True)


def test_bytes_that_are_not_what_the_label_says_are_replaced_and_told() -> None:
    decoded = decode(b"a\xff\xfeb", "utf-8")

    assert (decoded.text, decoded.is_damaged) == ("a\ufffd\ufffdb", True)


def test_a_character_cut_off_by_a_window_is_left_out() -> None:
    assert decode("grün ü".encode()[:-1], None).text == "grün "


def test_a_short_piece_is_never_guessed() -> None:
    assert decode_short(b"Jos\xe9") == "José"


@pytest.mark.parametrize("raw", [b"a+2AA-b", b"+2AA-\xff", b"+3AA"])
def test_half_a_surrogate_pair_which_nothing_can_store_does_not_come_out(raw: bytes) -> None:
    for text in (decode(raw, "utf-7").text, decode_short(raw, "utf-7"), decode_damaged(raw, "utf-7")):
        text.encode()


@given(st.binary(max_size=200), st.text(max_size=20))
def test_any_bytes_under_any_label_are_text(raw: bytes, label: str) -> None:
    decode(raw, label).text.encode()
    assert codec_of(label) is None or isinstance(codec_of(label), str)
