"""Long answers of numbers, cut into pieces that are parsed by themselves."""

from __future__ import annotations

import pytest
from app.errors import ServerProtocolError
from app.wire.imap.framing import Response
from app.wire.imap.long_numbers import BYTES_AT_ONCE, cut
from app.wire.imap.response_parser import MAX_RANGES, parse_response
from app.wire.imap.responses import ESearchResult, SearchResult, Vanished
from app.wire.imap.sets import SequenceSet

UIDS = range(1, 200_000, 2)
WRITTEN = ",".join(map(str, UIDS)).encode()


def pieces(line: bytes) -> list[Response]:
    return list(cut(Response((line,))))


@pytest.mark.parametrize(
    "line",
    [b"* SEARCH 1 2 3", b"* VANISHED 1:4294967295", b'* ESEARCH (TAG "a1") UID ALL 2,7:9 MODSEQ 4', b"* 3 EXISTS"],
)
def test_a_short_response_stays_whole(line: bytes) -> None:
    assert pieces(line) == [Response((line,))]


@pytest.mark.parametrize(
    ("head", "rest"),
    [(b"* VANISHED ", b""), (b"* VANISHED (EARLIER) ", b""), (b'* ESEARCH (TAG "a") UID ALL ', b" MODSEQ 7")],
)
def test_the_pieces_of_a_long_set_together_name_its_numbers(head: bytes, rest: bytes) -> None:
    found = [parse_response(piece) for piece in pieces(head + WRITTEN + rest)]

    assert len(found) > 10
    sets = [
        one.uids if isinstance(one, Vanished) else one.all
        for one in found
        if isinstance(one, (Vanished, ESearchResult))
    ]
    assert [low for one in sets if one is not None for low, _ in one.ranges] == list(UIDS)


def test_the_pieces_of_a_long_search_together_name_its_numbers() -> None:
    found = [parse_response(piece) for piece in pieces(b"* SEARCH " + WRITTEN.replace(b",", b" ") + b" (MODSEQ 7)")]

    assert [number for one in found if isinstance(one, SearchResult) for number in one.numbers] == list(UIDS)


@pytest.mark.parametrize("numbers", [WRITTEN, b"1," * 500_000 + b"2", b"1:2," * 500_000 + b"9", b"1" * 500_000])
def test_no_piece_is_longer_than_what_is_parsed_in_one_go(numbers: bytes) -> None:
    for piece in pieces(b"* VANISHED " + numbers):
        assert len(piece.text) <= BYTES_AT_ONCE + 32 or b"," not in numbers
        assert piece.text.count(b",") <= MAX_RANGES


@pytest.mark.parametrize("head", [b"* VANISHED (EARLIER) ", b'* ESEARCH (TAG "a") UID ALL '])
def test_a_long_set_is_not_parsed_in_one_go(head: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        parse_response(Response((head + WRITTEN,)))


def test_what_is_longest_in_one_go_is_parsed() -> None:
    longest = b",".join(b"%d" % number for number in range(1, 2 * MAX_RANGES, 2))

    found = parse_response(Response((b"* VANISHED " + longest,)))

    assert found == Vanished(SequenceSet.of(range(1, 2 * MAX_RANGES, 2)), is_earlier=False)
