from __future__ import annotations

from contextlib import suppress

import pytest
from app.errors import ServerProtocolError
from app.wire.imap.framing import StreamedLiteral
from app.wire.imap.grammar import MAX_TOKENS, list_of, number_of, parse, text_of
from hypothesis import given
from hypothesis import strategies as st

from tests.cpu import assert_linear


def test_atoms_strings_nil_and_lists_become_values() -> None:
    values = parse([rb'* LIST (\HasNoChildren () "a b" NIL nil "NIL") "\\" "a\"b" INBOX 12'])

    assert values == ["*", "LIST", ["\\HasNoChildren", [], "a b", None, None, "NIL"], "\\", 'a"b', "INBOX", "12"]


def test_literals_stay_bytes_wherever_they_stand() -> None:
    streamed = StreamedLiteral(1, 70_000)

    assert parse([b"* 1 FETCH (BODY[] ", b'(") NIL', b" RFC822 ", streamed, b")"]) == [
        "*",
        "1",
        "FETCH",
        ["BODY[]", b'(") NIL', "RFC822", streamed],
    ]


def test_a_section_with_spaces_and_parentheses_is_one_atom() -> None:
    assert parse([b"(BODY[HEADER.FIELDS (DATE FROM)]<0> NIL binary.size[1] 5)"]) == [
        ["BODY[HEADER.FIELDS (DATE FROM)]<0>", None, "binary.size[1]", "5"]
    ]


def test_parentheses_and_stars_inside_strings_are_text() -> None:
    assert parse([b'("((( :-) )" "buy 2* now * or 3*" ")")']) == [["((( :-) )", "buy 2* now * or 3*", ")"]]


def test_eight_bit_text_is_utf8_and_other_bytes_survive() -> None:
    (utf8, latin1) = parse(['"é"'.encode() + b' "\xe9"'])

    assert utf8 == "é"
    assert isinstance(latin1, str)
    assert latin1.encode("utf-8", "surrogateescape") == b"\xe9"


@pytest.mark.parametrize(
    "text", [b'"no end', b'"', rb'"no end\"', rb'"\"', b"(a", b"a)", b"(a))", b"(" * 200 + b")" * 200]
)
def test_text_that_breaks_the_grammar_is_a_protocol_error(text: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        parse([text])


@pytest.mark.parametrize("piece", [b'"', b'\\"', b"(", b")", b"BODY[ ", b"[", b"\\", b" ", b'"" ', b"a", b"()", b'"\\'])
def test_no_repeated_piece_makes_the_parser_slower_than_linear(piece: bytes) -> None:
    def read(count: int) -> None:
        for start in (b'"', b""):
            with suppress(ServerProtocolError):
                parse([start + piece * count])

    assert_linear(read, 20_000)


def test_the_wrong_kind_of_value_is_a_protocol_error() -> None:
    for read, value in ((text_of, []), (list_of, "a"), (number_of, None), (number_of, "-1"), (number_of, "9" * 21)):
        with pytest.raises(ServerProtocolError):
            read(value)


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_any_bytes_are_values_or_a_protocol_error(parts: list[bytes]) -> None:
    try:
        assert isinstance(parse(parts), list)
    except ServerProtocolError:
        return


@pytest.mark.parametrize("text", [b"()" * MAX_TOKENS, b"a " * 5 * MAX_TOKENS, b'""' * 5 * MAX_TOKENS])
def test_more_values_than_are_read_at_once_are_refused(text: bytes) -> None:
    with pytest.raises(ServerProtocolError, match="more than"):
        parse([b"(" + text + b")"])


def test_a_long_string_is_one_value() -> None:
    assert parse([b'("' + b"a " * MAX_TOKENS + b'")']) == [["a " * MAX_TOKENS]]
