"""Replies of POP3 servers, cut from a stream that arrives in any pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from app.errors import InvalidRequest, ServerProtocolError
from app.wire import pop3_client
from app.wire.pop3 import DotWriter
from app.wire.pop3_client import (
    LINE_LIMIT_BYTES,
    Pop3Status,
    ReplyReader,
    command,
    parse_capabilities,
    parse_sizes,
    parse_status,
    parse_uidls,
)
from hypothesis import given
from hypothesis import strategies as st

ANY_BYTES = st.binary(max_size=200)
DOTTED = st.lists(st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"..", b"\r\n."]), max_size=40).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The same bytes in pieces."""
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:stop] for start, stop in pairwise(ends)]


def stuffed(content: bytes) -> bytes:
    """As RFC 1939 §3 wants a message sent: lines that begin with a dot get another one."""
    return (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]


@given(content=DOTTED, places=st.lists(st.integers(0, 1000), max_size=12), rest=ANY_BYTES)
def test_a_message_is_what_was_sent_however_it_arrives(content: bytes, places: list[int], rest: bytes) -> None:
    whole = content + b"\r\n"
    reader, found, is_ended = ReplyReader(), b"", False
    for piece in cut(stuffed(whole) + b".\r\n", places):
        assert not is_ended
        reader.feed(piece)
        got, is_ended = reader.piece()
        found += got
    assert is_ended
    assert found == whole
    reader.feed(rest)
    assert len(reader) == len(rest)


@given(content=ANY_BYTES)
def test_what_our_own_server_sends_is_read_back(content: bytes) -> None:
    writer = DotWriter()
    sent = writer.feed(content) + writer.finish()
    reader = ReplyReader()
    reader.feed(sent + b"+OK next\r\n")
    found, is_ended = reader.piece()
    assert is_ended
    assert reader.status() == Pop3Status(True, "next")
    unix = content.replace(b"\r\n", b"\n")
    assert found.replace(b"\r\n", b"\n").rstrip(b"\n") == unix.rstrip(b"\n") or b"\r" in unix


@given(data=ANY_BYTES, places=st.lists(st.integers(0, 1000), max_size=6))
def test_no_bytes_of_a_server_break_the_reader(data: bytes, places: list[int]) -> None:
    reader = ReplyReader()
    try:
        for piece in cut(data, places):
            reader.feed(piece)
            reader.status()
            reader.lines()
    except ServerProtocolError:
        pass
    again = ReplyReader()
    again.feed(data)
    again.piece()


def test_a_bare_line_feed_ends_no_message() -> None:
    """Else what a sender wrote behind `LF . LF` would be read as the server's next reply."""
    reader = ReplyReader()
    reader.feed(b"text\n.\n-ERR forged\r\n.\r\n+OK true\r\n")

    assert reader.piece() == (b"text\n.\n-ERR forged\r\n", True)
    assert reader.status() == Pop3Status(True, "true")


def test_lists_end_at_their_dot_and_lose_none_of_what_follows() -> None:
    reader = ReplyReader()
    reader.feed(b"1 10\r\n2 ")
    assert reader.lines() == ([b"1 10"], False)
    reader.feed(b"20\r\n..x\r\n.\r\n+OK\r\n")
    assert reader.lines() == ([b"2 20", b".x"], True)
    assert reader.status() == Pop3Status(True)


def test_an_endless_line_is_refused_in_bounded_memory() -> None:
    reader = ReplyReader()
    reader.feed(b"+OK " + b"x" * LINE_LIMIT_BYTES)

    with pytest.raises(ServerProtocolError):
        reader.status()


def test_an_endless_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pop3_client, "LIST_LIMIT_LINES", 10)
    reader = ReplyReader()
    reader.feed(b"1 1\r\n" * 11)

    with pytest.raises(ServerProtocolError):
        reader.lines()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"+OK\r\n", Pop3Status(True)),
        (b"+ok ready\r\n", Pop3Status(True, "ready")),
        (b"-ERR [IN-USE] locked\r\n", Pop3Status(False, "[IN-USE] locked", "IN-USE")),
        (b"-ERR [sys/temp] later\r\n", Pop3Status(False, "[sys/temp] later", "SYS/TEMP")),
        (b"-ERR [not a code] x\r\n", Pop3Status(False, "[not a code] x")),
        (b"+ Zm9v\r\n", Pop3Status(True, "Zm9v", is_challenge=True)),
        (b"+ \r\n", Pop3Status(True, "", is_challenge=True)),
        (b"-ERR \x1b[31mred\x00\r\n", Pop3Status(False, "[31mred")),
    ],
)
def test_a_status_line_is_taken_apart(line: bytes, expected: Pop3Status) -> None:
    assert parse_status(line) == expected


@pytest.mark.parametrize("line", [b"\r\n", b"220 smtp\r\n", b"* OK imap\r\n", b"+OKAY\r\n", b"\xff\xfe\r\n"])
def test_what_is_no_pop3_is_refused(line: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        parse_status(line)


def test_capabilities_are_read_with_their_arguments() -> None:
    found = parse_capabilities([b"UIDL", b"sasl PLAIN login", b"LOGIN-DELAY 900 USER", b"", b"IMPLEMENTATION a b"])

    assert found.mechanisms == ("PLAIN", "LOGIN")
    assert found.login_delay_seconds == 900
    assert found.names() == ["IMPLEMENTATION A B", "LOGIN-DELAY 900 USER", "SASL PLAIN LOGIN", "UIDL"]
    assert "TOP" not in found


@pytest.mark.parametrize("delay", [b"LOGIN-DELAY", b"LOGIN-DELAY x", b"LOGIN-DELAY -1", b"LOGIN-DELAY 99999999999"])
def test_a_login_delay_that_is_none_is_none(delay: bytes) -> None:
    assert parse_capabilities([delay]).login_delay_seconds == 0


def test_lists_are_read() -> None:
    assert parse_sizes([b"1 120", b"2 200 extra"]) == {1: 120, 2: 200}
    assert parse_uidls([b"1 whqtswO00WBw418f9t5JxYwZ", b"2  a b"]) == {1: "whqtswO00WBw418f9t5JxYwZ", 2: "a b"}


@pytest.mark.parametrize("line", [b"", b"x 1", b"-1 5", b"9" * 30 + b" 1"])
def test_a_line_of_a_list_without_a_number_costs_the_others_nothing(line: bytes) -> None:
    assert parse_sizes([b"1 120", line, b"2 200"]) == {1: 120, 2: 200}


@pytest.mark.parametrize("line", [b"1", b"1 -5", b"1 x", b"1 " + b"9" * 30])
def test_a_size_that_cannot_be_read_is_0(line: bytes) -> None:
    assert parse_sizes([line, b"2 200"]) == {1: 0, 2: 200}


@pytest.mark.parametrize("line", [b"", b"1", b"1 ", b"x id"])
def test_a_unique_id_that_cannot_be_read_costs_the_others_nothing(line: bytes) -> None:
    assert parse_uidls([line, b"2 b"]) == {2: "b"}


@pytest.mark.parametrize("uidl", [b"i" * 300, b"a\x07", b"a\0", b"a\xff\x85"])
def test_a_unique_id_that_no_ledger_takes_is_known_by_its_hash(uidl: bytes) -> None:
    first, second = (parse_uidls([b"1 x", b"2 " + one]) for one in (uidl, uidl + b"i"))

    assert first == parse_uidls([b"1 x", b"2 " + uidl])
    assert first[1] == "x"
    assert first[2] != second[2]
    assert first[2].isascii()
    assert len(first[2]) == 65


@pytest.mark.parametrize("text", ["me\r\nDELE 1", "me\n", "me\r", "me\0"])
def test_a_command_is_one_line(text: str) -> None:
    with pytest.raises(InvalidRequest):
        command("USER", text)


def test_a_command_is_utf8() -> None:
    assert command("USER", "jörg") == "USER jörg\r\n".encode()
    assert command("TOP", 3, 0) == b"TOP 3 0\r\n"
