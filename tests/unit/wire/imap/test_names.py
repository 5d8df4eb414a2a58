from __future__ import annotations

import pytest
from app.wire.imap.names import decode_utf7, encode_utf7, is_below, known_as, read_name, rebased, shown_as, wire_of
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


@pytest.mark.parametrize(
    ("wire", "shown"),
    [
        (b"Work", "Work"),
        (b"R&-D", "R&D"),
        (b"&BBQEPgQ8ACYEIQQwBDQ-", "\u0414\u043e\u043c&\u0421\u0430\u0434"),
        (b"A&B", "A&B"),
        (b"&AGE-", "a"),
        (b"&U,BTFw-&ZeVnLIqe-", "\u53f0\u5317\u65e5\u672c\u8a9e"),
        ("Gr\u00f6\u00dfe".encode(), "Gr\u00f6\u00dfe"),
        (b"Gr\xf6\xdfe", "Gr\u00f6\u00dfe"),
        (b"&2D0-", "&2D0-"),
        (b"&4AA-x", "\ue000x"),
    ],
)
def test_a_name_goes_back_in_the_bytes_that_the_server_gave(wire: bytes, shown: str) -> None:
    text = wire.decode("utf-8", "surrogateescape")

    assert wire_of(known_as(text)) == wire
    assert shown_as(text) == shown
    known_as(text).encode()


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_go_back_as_they_came(wire: bytes, is_utf8: bool) -> None:
    text = wire.decode("utf-8", "surrogateescape")

    assert wire_of(known_as(text, is_utf8=is_utf8), is_utf8=is_utf8) == wire
    shown_as(text).encode()


def test_two_names_that_read_alike_are_two_mailboxes() -> None:
    assert known_as("A&B") != known_as("A&-B")


def test_a_mailbox_below_a_renamed_one_keeps_its_own_bytes() -> None:
    child = known_as("Work/A&B")

    assert is_below(child, "Work", "/")
    assert not is_below(child, "Wor", "/")
    assert wire_of(rebased(child, "Work", "B\u00fcro")) == b"B&APw-ro/A&B"
    assert rebased("Work/x", "Work", "Done") == "Done/x"
