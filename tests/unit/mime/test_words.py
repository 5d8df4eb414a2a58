"""Encoded-words."""

from __future__ import annotations

import pytest
from app.mime.words import charset_of, decode_words
from app.mime.writer import encoded_words
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("=?utf-8?Q?J=C3=BCrgen_M?= x", "Jürgen M x"),
        ("=?UTF-8?B?w5w=?=", "Ü"),
        ("a =?utf-8?q?b?= c", "a b c"),
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?a?= \t =?iso-8859-1?q?=E9?=", "aé"),
        ("=?utf-8?q?a?=b=?utf-8?q?c?=", "abc"),
        ("=?utf-8*de?q?=C3=BC?=", "ü"),
        ("=?utf-8?q?with space?=", "with space"),
        ("=?utf-8?B?w5w?=", "Ü"),
        ("=?unknown-9?q?=C3=BC?=", "ü"),
        ("=?gb2312?B?gsSB4A==?=", "偰佮"),
        ("=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        ("=?", "=?"),
        ("caf\udce9", "café"),
        ("tab\there", "tab here"),
    ],
)
def test_words_are_decoded(text: str, expected: str) -> None:
    assert decode_words(text) == expected


def test_a_character_split_over_two_words_survives() -> None:
    assert decode_words("=?utf-8?B?5pel5g==?= =?utf-8?B?nKw=?=") == "日本"
    assert decode_words("=?UTF-8?Q?=E6=97?=\r\n =?utf-8?Q?=A5?=") == "日"


def test_controls_and_line_ends_do_not_come_out() -> None:
    assert decode_words("=?utf-8?Q?a=00b=0D=0ABcc:_x?=") == "a b Bcc: x"


def test_half_a_surrogate_pair_does_not_come_out() -> None:
    assert decode_words("=?utf-7?Q?a+2AA-?= =?utf-7?B?KzNBQS0=?=").encode() == b"a??"


@pytest.mark.parametrize(
    "text",
    [
        "=?iso-2022-jp?B?GyRCRnxLXA==?= =?iso-2022-jp?B?OGwbKEI=?=",
        "=?iso-2022-jp?B?GyRCRnxL?= =?iso-2022-jp?B?XDhsGyhC?=",
        "=?iso-2022-jp?Q?=1B$BF|K=5C?= =?iso-2022-jp?Q?=1B$B8l?=",
    ],
)
def test_an_escape_split_over_words_or_missing_at_their_end_costs_nothing(text: str) -> None:
    assert decode_words(text) == "日本語"


def test_words_that_make_no_sense_together_are_read_one_by_one() -> None:
    assert decode_words("=?iso-2022-jp?Q?=1B$BF|K=5C?= =?iso-2022-jp?Q?abc?=") == "日本abc"


def test_a_byte_order_mark_is_no_character_of_a_header() -> None:
    assert decode_words("=?utf-16?B?//5oAGkA?=") == "hi"


def test_padding_inside_a_word_ends_no_word() -> None:
    assert decode_words("=?utf-8?B?R3I=w7w=?=") == "Grü"


def test_base64_without_padding_or_with_rubbish_is_decoded() -> None:
    assert decode_words("=?utf-8?B?YWJj_ZA?=") == "abcd"
    assert decode_words("=?utf-8?B?Y?=") == ""


@given(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), max_size=200))
def test_what_we_encode_is_decoded_again(text: str) -> None:
    words = encoded_words(text)

    assert all(len(word) <= 75 for word in words)
    assert decode_words(" ".join(words)) == text.strip()


@given(st.text(alphabet="=?utf-8bBqQ_AZ \udce9\x00", max_size=80))
def test_any_text_is_decoded(text: str) -> None:
    decode_words(text).encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("=?UTF-8?Q?How are you??=", "How are you?"),
        ("=?UTF-8?Q?Why??? =C3=A9?=", "Why??? é"),
        ("=?UTF-8?B?SWhyIE3DpHJ6IOKC?=", "Ihr März \ufffd"),
        ("=?UTF-8?Q?Caf=C3=A9_=FF_ol=C3=A9?=", "Café \ufffd olé"),
        ("=?gb2312?B?xOM=?= =?gb2312?B?ug==?= =?gb2312?B?ww==?=", "你好"),
        ("=?iso-2022-jp?B?GyRCLSEbKEI=?=", "①"),
        ("\x1b$B$$$D$b\x1b(B", "いつも"),
    ],
)
def test_a_bad_or_cut_character_never_costs_the_words_around_it(text: str, words: str) -> None:
    assert decode_words(text) == words


def test_a_subject_without_a_label_is_read_in_the_charset_of_its_script() -> None:
    raw = "Счёт на оплату".encode("koi8-r").decode("utf-8", "surrogateescape")

    assert decode_words(raw, charset_of(raw)) == "Счёт на оплату"
