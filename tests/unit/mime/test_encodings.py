"""Charset labels and the decoders behind them."""

from __future__ import annotations

import pytest
from app.mime.charset import decode, decode_short
from app.mime.encodings import codec_of, read
from app.mime.guess import guessed_label
from hypothesis import given
from hypothesis import strategies as st
from webencodings.labels import LABELS

SAMPLES = {
    "utf-8": ("Ω✓", "cea9e29c93"),
    "ibm866": ("Привет", "8fe0a8a2a5e2"),
    "iso-8859-2": ("Łódź", "a3f364bc"),
    "iso-8859-3": ("ĦĤ", "a1a6"),
    "iso-8859-4": ("ĀĒ", "c0aa"),
    "iso-8859-5": ("Привет", "bfe0d8d2d5e2"),
    "iso-8859-6": ("سلام", "d3e4c7e5"),
    "iso-8859-7": ("Γειά", "c3e5e9dc"),
    "iso-8859-8": ("שלום", "f9ece5ed"),
    "iso-8859-8-i": ("שלום", "f9ece5ed"),
    "iso-8859-10": ("Āđ", "c0b9"),
    "iso-8859-13": ("Ąž", "c0fe"),
    "iso-8859-14": ("Ŵŷ", "d0fe"),
    "iso-8859-15": ("5 €", "3520a4"),
    "iso-8859-16": ("Șț", "aafe"),
    "koi8-r": ("Привет", "f0d2c9d7c5d4"),
    "koi8-u": ("Їжак Ўў", "b7d6c1cb20beae"),
    "macintosh": ("Åéî €", "818e9420db"),
    "windows-874": ("สวัสดี€", "cac7d1cab4d580"),
    "windows-1250": ("Łódź €", "a3f3649f2080"),
    "windows-1251": ("Привет", "cff0e8e2e5f2"),
    "windows-1252": ("“5 €”", "93352080" + "94"),
    "windows-1253": ("Γειά", "c3e5e9dc"),
    "windows-1254": ("ğış €", "f0fdfe2080"),
    "windows-1255": ("שלום", "f9ece5ed"),
    "windows-1256": ("سلام", "d3e1c7e3"),
    "windows-1257": ("Ąž", "c0fe"),
    "windows-1258": ("Đươ", "d0fdf5"),
    "x-mac-cyrillic": ("Привет Ґ", "8ff0e8e2e5f220a2"),
    "gbk": ("你好㐀€", "c4e3bac38139ee3980"),
    "gb18030": ("你好㐀", "c4e3bac38139ee39"),
    "big5": ("您好￥", "b17aa66ea244"),
    "euc-jp": ("日本①㈱～ｱ", "c6fccbdcada1adeaa1c18eb1"),
    "iso-2022-jp": ("日本①㈱", "1b2442467c4b5c2d212d6a1b2842"),
    "shift_jis": ("日本①㈱", "93fa967b8740878a"),
    "euc-kr": ("똠방", "8c63b9e6"),
    "utf-16be": ("Ωa", "03a90061"),
    "utf-16le": ("Ωa", "a9036100"),
    "x-user-defined": ("a\uf7ff", "61ff"),
}
"""For each encoding, text and its bytes, found with a browser's decoder."""


@pytest.mark.parametrize("label", [label for label, encoding in LABELS.items() if encoding != "replacement"])
def test_each_label_of_the_standard_is_read_as_its_encoding_in_a_body_and_in_a_header(label: str) -> None:
    text, raw = SAMPLES[LABELS[label]]

    decoded = decode(bytes.fromhex(raw), label.upper())

    assert decoded.text == text
    assert not decoded.is_guess or label in ("ascii", "us-ascii", "ansi_x3.4-1968")
    assert decode_short(bytes.fromhex(raw), label) == text


@pytest.mark.parametrize(
    ("label", "raw", "text"),
    [
        ("iso-2022-kr", b"\x1b$)C\x0e>H3g\x0f", "안녕"),
        ("hz-gb-2312", b"~{<:Ky2;S{~}", "己所不欲"),
        ("cp850", b"\x84", "ä"),
        ("x-sjis", b"\xb1\xb2", "ｱｲ"),
        ("cp50221", b"\x1b(I12\x1b(B", "ｱｲ"),
        ("cp51932", b"\xad\xea", "㈱"),
        ("iso_8859_2", b"\xa3", "Ł"),
        ("utf8", b"\xef\xbb\xbfa", "\ufeffa"),
        ("iso-8859-1", b"\xef\xbb\xbf\xc3\xa9", "\ufeffé"),
        ("utf-16", b"\xfe\xff\x00a", "\ufeffa"),
        *((label, b"\xcf\xf0\xe8", "При") for label in ("cp-1251", "windows1251", "win_1251", "ANSI-1251", "x-cp1251")),
        ("koi8r", b"\xf0\xd2\xc9", "При"),
        ("dos-862", b"\x99\x8c", "של"),
        ("windows-932", b"\x87\x40", "①"),
        ("windows-936", b"\xc4\xe3", "你"),
        ("windows-950", b"\xb1z", "您"),
        ("x-mac-greek", b"\xe1", "α"),
        ("x-mac-ce", b"\x88", "ą"),
        ("x-mac-turkish", b"\xdb", "ğ"),
        ("cp20866", b"\xf0\xd2\xc9", "При"),
        ("cp28592", b"\xa3", "Ł"),
        ("cp65001", "ä".encode(), "ä"),
        ("cp1200", b"a\x00", "a"),
        ("cp50220", b"\x1b$BF|\x1b(B", "日"),
    ],
)
def test_labels_and_marks_that_mail_has_beyond_the_standard_are_read(label: str, raw: bytes, text: str) -> None:
    assert decode(raw, label).text == text


@pytest.mark.parametrize("label", ["replacement", "iso-2022-cn", "idna", "rot13", "undefined", "x-nothing", ""])
def test_what_is_no_charset_of_mail_has_no_decoder(label: str) -> None:
    assert codec_of(label) is None


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b$B$$$D$b\n@$OC\x1b(B end", "いつも\n世話 end"),
        (b"\x1b$B$$\x1b(J\\~\x1b(B\\~", "い¥‾\\~"),
        (b"\x1b(I123\x1b(B \xb1\xb2 \x0e12\x0f a", "ｱｲｳ ｱｲ ｱｲ a"),
        (b"\x1b$(D0!\x1b(B", "丂"),
        (b"\x1b$A<:\x1b$(C>H\x1b(B", "己안"),
        (b"\x1b$B$$\x1b(B\x1b$B$", "い\ufffd"),
        (b"\x1b$B$$\xff$$\x1b(B", "い\ufffdい"),
    ],
)
def test_iso_2022_jp_is_read_as_it_is_written(raw: bytes, text: str) -> None:
    assert decode(raw, "iso-2022-jp").text == text


def test_iso_2022_jp_without_a_label_is_known_by_its_escapes() -> None:
    raw = b"\x1b$B$$$D$b\x1b(B"

    assert {decode(raw, label).text for label in (None, "us-ascii", "utf-8", "shift_jis", "x-nothing")} == {"いつも"}
    assert decode(raw, None).is_guess


@pytest.mark.parametrize(
    ("label", "raw", "text"),
    [
        ("utf-8", b"Caf\xc3\xa9 \xff ol\xc3\xa9", "Café \ufffd olé"),
        ("utf-8", b"caf\xc3\xa9 \xe2\x82", "café \ufffd"),
        ("utf-8", b"Caf\xe9", "Caf\ufffd"),
        (None, b"Caf\xc3\xa9 \xff ol\xc3\xa9", "Café \ufffd olé"),
        ("gb2312", b"\xc4\xe3\xff\xba\xc3", "你\ufffd好"),
        ("big5", b"\xb1z\x80 \xa6n", "您\ufffd 好"),
        ("shift_jis", b"\x93\xfa\xfd\x96{", "日\ufffd本"),
        ("shift_jis", b"\xff\xa0\x96{", "\ufffd\ufffd本"),
        ("gb18030", b"\xff\xe3\xba\xc3\xca\xc0a", "\ufffd好世a"),
        ("euc-kr", b"\xff\xe6\xb9\xe6", "\ufffd방"),
        ("euc-jp", b"\xff\xfc\xcb\xdc", "\ufffd本"),
        ("euc-jp", b"\xc6\xff\xcb\xdc", "\ufffd本"),
        ("euc-kr", b"\xb9\xe6\xffa", "방\ufffda"),
        ("euc-jp", b"\xc6\xfc\xff\xcb\xdc", "日\ufffd本"),
        ("windows-1252", b"a\x81b", "a\x81b"),
        ("windows-1253", b"a\xaab", "a\ufffdb"),
    ],
)
def test_a_bad_byte_costs_one_character(label: str | None, raw: bytes, text: str) -> None:
    assert decode_short(raw, label) == text


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("gb18030", "你好，附件是报价单，请查收。谢谢！"),
        ("gb18030", "您好"),
        ("big5", "請問明天下午開會嗎？"),
        ("cp932", "いつもお世話になっております。"),
        ("euc_jp", "明日の会議について"),
        ("cp949", "안녕하세요, 견적서를 첨부합니다."),
        ("cp1251", "Добрый день"),
        ("koi8-r", "Добрый день"),
        ("cp874", "สวัสดีครับ ขอบคุณมาก"),
        ("cp1253", "Καλημέρα σας"),
        ("cp1255", "תודה רבה"),
        ("cp1256", "مرحبا كيف حالك"),
        ("cp1252", "El Niño"),
        ("cp1252", "Übermäßig öde Öfen"),
        ("cp1252", "“Quoted” – it’s 5 €"),
    ],
)
def test_short_text_without_a_label_is_guessed_by_its_script(codec: str, text: str) -> None:
    decoded = decode(text.encode(codec), None)

    assert (decoded.text, decoded.is_guess) == (text, True)


def test_a_guess_looks_at_a_bounded_beginning() -> None:
    start = "Съешь же ещё этих мягких французских булок. ".encode("cp1251") * 500

    assert guessed_label(start + b"\xff\xfe" * 1_000_000) == guessed_label(start)


@given(st.sampled_from(sorted(LABELS)), st.binary(max_size=100))
def test_no_decoder_fails_on_any_bytes_or_gives_what_cannot_be_stored(label: str, raw: bytes) -> None:
    codec = codec_of(label)
    if codec is not None:
        read(raw, codec, "replace").encode()
