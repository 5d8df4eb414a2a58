from __future__ import annotations

from collections.abc import Callable
from sys import getsizeof

import pytest
from app.errors import ServerProtocolError
from app.wire.imap.framing import (
    ClientFramer,
    ClientLimits,
    LiteralChunk,
    LiteralEnd,
    LiteralStart,
    Response,
    ServerEvent,
    StreamedLiteral,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.cpu import assert_linear
from tests.unit.wire.imap.streams import byte_by_byte, events, in_packets, joined, responses, whole

CONVERSATION = (
    b"* OK [CAPABILITY IMAP4rev1] ready\r\n"
    b"* 1 FETCH (UID 1 BODY[] {11}\r\nHello\r\nBye. FLAGS ())\r\n"
    b'* LIST () "/" {3}\r\na{1}\r\n'
    b"* 2 FETCH (BODY[1] {0}\r\n BODY[2] ~{4}\r\n\x00)\r\n)\r\n"
    b"a1 OK done {5}\r\n"
    b"+ go ahead {5}\r\n"
)
PARTS: list[tuple[bytes, ...]] = [
    (b"* OK [CAPABILITY IMAP4rev1] ready",),
    (b"* 1 FETCH (UID 1 BODY[] ", b"Hello\r\nBye.", b" FLAGS ())"),
    (b'* LIST () "/" ', b"a{1", b"}"),
    (b"* 2 FETCH (BODY[1] ", b"", b" BODY[2] ", b"\x00)\r\n", b")"),
    (b"a1 OK done {5}",),
    (b"+ go ahead {5}",),
]


def parts(stream: bytes) -> list[tuple[object, ...]]:
    return [response.parts for response in responses(stream)]


@pytest.mark.parametrize("cut", [whole, byte_by_byte, lambda stream: in_packets(stream, 7)])
def test_a_stream_is_cut_into_responses_however_it_is_split(cut: Callable[[bytes], list[bytes]]) -> None:
    found = [event.parts for event in events(cut(CONVERSATION)) if isinstance(event, Response)]

    assert found == PARTS


def test_bytes_after_a_response_stay_unread_until_they_make_one() -> None:
    framer = ClientFramer()

    assert list(framer.feed(b"* 1 EXISTS\r\n* 2 EX")) == [Response((b"* 1 EXISTS",))]
    assert framer.unread_bytes == len(b"* 2 EX")
    assert list(framer.feed(b"ISTS\r\n")) == [Response((b"* 2 EXISTS",))]
    assert framer.unread_bytes == 0


def test_a_reader_that_stops_at_an_event_finds_the_rest_of_the_stream_unread() -> None:
    framer = ClientFramer()

    first = next(framer.feed(b"a1 OK begin TLS\r\n* CAPABILITY evil\r\n"))

    assert first == Response((b"a1 OK begin TLS",))
    assert framer.unread_bytes == len(b"* CAPABILITY evil\r\n")
    assert framer.take_unread() == b"* CAPABILITY evil\r\n"
    assert framer.next_event() is None
    assert list(framer.feed(b"* 1 EXISTS\r\n")) == [Response((b"* 1 EXISTS",))]


@pytest.mark.parametrize("word", ["* OK", "* no", "* BAD", "* BYE", "* PREAUTH", "a1 OK", "a1 NO", "+"])
def test_a_status_text_that_ends_in_a_literal_mark_is_no_literal(word: str) -> None:
    assert parts(f"{word} see {{5}}\r\n* 1 EXISTS\r\n".encode()) == [(f"{word} see {{5}}".encode(),), (b"* 1 EXISTS",)]


def test_a_star_inside_a_line_is_kept() -> None:
    line = b'* 1 FETCH (ENVELOPE (NIL "buy 2* now * or 3*"))'

    assert parts(line + b"\r\n") == [(line,)]


def test_parentheses_inside_quoted_strings_do_not_end_a_response() -> None:
    line = b'* 1 FETCH (ENVELOPE (NIL "((( :-) ) {5" NIL))'

    assert parts(line + b"\r\n* 1 EXISTS\r\n") == [(line,), (b"* 1 EXISTS",)]


def test_a_large_literal_is_streamed_and_a_small_one_held() -> None:
    body = b"x" * 65_536
    stream = b"* 3 FETCH (UID 9 BODY[1] {3}\r\nabc BODY[2] {65536}\r\n" + body + b" FLAGS ())\r\na1 OK\r\n"
    literal = StreamedLiteral(1, 65_536)

    found = joined(list(events(in_packets(stream, 1000))))

    assert found == [
        LiteralStart(literal, (b"* 3 FETCH (UID 9 BODY[1] ", b"abc", b" BODY[2] ")),
        body,
        LiteralEnd(literal),
        Response((b"* 3 FETCH (UID 9 BODY[1] ", b"abc", b" BODY[2] ", literal, b" FLAGS ())")),
        Response((b"a1 OK",)),
    ]


def test_a_streamed_literal_is_never_held() -> None:
    framer = ClientFramer()
    list(framer.feed(b"* 3 FETCH (BODY[] {83886080}\r\n"))

    for _ in range(80 * 16):
        chunk = next(framer.feed(b"x" * 65_536))
        assert isinstance(chunk, LiteralChunk)
        assert len(chunk.data) == 65_536
        assert framer.unread_bytes == 0


@pytest.mark.parametrize(
    ("limits", "stream"),
    [
        (ClientLimits(line_bytes=20), b"* 1 FETCH (FLAGS (a b c"),
        (ClientLimits(line_bytes=20), b"* 1 FETCH (FLAGS (a b c))\r\n"),
        (ClientLimits(literal_bytes=100_000), b"* 1 FETCH (BODY[] {100001}\r\n"),
        (ClientLimits(), b"* 1 FETCH (BODY[] {4294967295}\r\n"),
        (ClientLimits(), b"* 1 FETCH (BODY[] {99999999999999999999}\r\n"),
        (ClientLimits(response_bytes=30), b"* 1 FETCH (BODY[] {20}\r\n" + b"x" * 20),
        (ClientLimits(literals=2), b"* 1 FETCH (A " + b"{0}\r\n " * 3 + b")\r\n"),
    ],
)
def test_a_server_that_passes_a_limit_breaks_the_protocol(limits: ClientLimits, stream: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        list(ClientFramer(limits).feed(stream))
    with pytest.raises(ServerProtocolError):
        list(events(byte_by_byte(stream), ClientFramer(limits)))


def test_three_thousand_lines_in_one_read_are_linear_and_do_not_recurse() -> None:
    line = b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n"

    assert len(responses(line * 3_000)) == 3_000


def test_a_hundred_thousand_literals_are_linear() -> None:
    def read(count: int) -> None:
        stream = b"* 1 FETCH (" + b"{1}\r\nx " * count + b")\r\n"
        assert len(list(events(in_packets(stream, 4_096)))) == 1

    assert_linear(read, 10_000)


def test_a_long_line_fed_byte_by_byte_is_linear() -> None:
    def read(size: int) -> None:
        assert len(list(events(byte_by_byte(b"* SEARCH" + b" 1" * size + b"\r\n")))) == 1

    assert_linear(read, 20_000)


@given(st.binary(max_size=300), st.integers(1, 9))
def test_any_bytes_give_the_same_events_however_they_are_split(stream: bytes, size: int) -> None:
    limits = ClientLimits(literal_bytes=50, stream_from_bytes=10)

    def outcome(packets: list[bytes]) -> tuple[list[object], bool]:
        found: list[ServerEvent] = []
        try:
            found.extend(events(packets, ClientFramer(limits)))
        except ServerProtocolError:
            return list(joined(found)), True
        return list(joined(found)), False

    assert outcome(in_packets(stream, size)) == outcome([stream])


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.binary(min_size=64, max_size=100)), max_size=5), st.integers(1, 50)
)
def test_literals_of_any_bytes_come_through(literals: list[bytes], size: int) -> None:
    stream = b"* 1 FETCH ("
    for literal in literals:
        stream += b"X {%d}\r\n%b " % (len(literal), literal)
    stream += b")\r\n"
    framer = ClientFramer(ClientLimits(stream_from_bytes=64))
    bodies: list[bytes] = []

    for event in events(in_packets(stream, size), framer):
        if isinstance(event, LiteralStart):
            bodies.append(b"")
        elif isinstance(event, LiteralChunk):
            bodies[-1] += event.data
        elif isinstance(event, Response):
            streamed = iter(bodies)
            found = [part if isinstance(part, bytes) else next(streamed) for part in event.parts[1::2]]
            assert found == literals


def test_an_idle_framer_holds_no_memory_of_what_it_read() -> None:
    framer = ClientFramer()
    idle = getsizeof(framer._buffer._bytes)

    list(framer.feed(b"* 1 EXISTS\r\n" * 10_000))
    list(framer.feed(b"* 1 FETCH (BODY[] {100000}\r\n" + b"x" * 100_000 + b")\r\n"))

    assert framer.unread_bytes == 0
    assert getsizeof(framer._buffer._bytes) <= idle + 8
