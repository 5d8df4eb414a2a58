from __future__ import annotations

import pytest
from app.wire.imap.names import decode_utf7, encode_utf7, read_name
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("INBOX", "INBOX"),
        ("Entwürfe", "Entw&APw-rfe"),
        ("R&D", "R&-D"),
        ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
        ("📮", "&2D3c7g-"),
        ("a\tb", "a&AAk-b"),
        ("", ""),
    ],
)
def test_a_name_and_its_modified_utf7_are_one(name: str, wire: str) -> None:
    assert encode_utf7(name) == wire
    assert decode_utf7(wire) == name


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_every_name_comes_back(name: str) -> None:
    assert decode_utf7(encode_utf7(name)) == name


@pytest.mark.parametrize(
    "wire",
    ["R&D", "&", "&AGE-", "&U,BTFw-&ZeVnLIqe-", "&!-", "&A-", "&2D0-", "é", "&APw", "a\tb&-"],
)
def test_what_no_name_encodes_to_is_refused_but_can_still_be_read(wire: str) -> None:
    with pytest.raises(ValueError, match=r"UTF-7|codec"):
        decode_utf7(wire)
    assert read_name(wire) == wire


@given(st.text(max_size=60))
def test_any_wire_form_can_be_read(wire: str) -> None:
    assert isinstance(read_name(wire), str)


def test_half_a_character_has_no_wire_form() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        encode_utf7("\ud83d")
