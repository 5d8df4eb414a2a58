from __future__ import annotations

import pytest
from app.errors import MalformedRequest
from app.wire.pop3 import DotWriter, Pop3Command, Top, error, ok, parse_command
from hypothesis import given
from hypothesis import strategies as st


def test_a_password_keeps_its_spaces() -> None:
    assert parse_command(b"PASS a  b \r\n") == Pop3Command("PASS", "a  b ")
    assert parse_command(b"quit\n") == Pop3Command("QUIT", "")


@pytest.mark.parametrize("line", [b"US\0ER\r\n", b"USER \xff\r\n", b"USER a\rb\r\n"])
def test_control_characters_and_other_charsets_are_refused(line: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_command(line)


@pytest.mark.parametrize("argument", ["x", "-1", "1 2", "٣", "1" * 11, "1.0"])
def test_only_numbers_are_numbers(argument: str) -> None:
    with pytest.raises(MalformedRequest):
        Pop3Command("RETR", argument).numbers(1)


def test_responses() -> None:
    assert ok() == b"+OK\r\n"
    assert ok("2 320") == b"+OK 2 320\r\n"
    assert error("No", "IN-USE") == b"-ERR [IN-USE] No\r\n"


def written(content: bytes, size: int) -> bytes:
    writer = DotWriter()
    pieces = [writer.feed(content[at : at + size]) for at in range(0, len(content), size)]
    return b"".join(pieces) + writer.finish()


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b"", b".\r\n"),
        (b".\r\n..\r\na.\r\n", b"..\r\n...\r\na.\r\n.\r\n"),
        (b"a\n.\nb", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r", b"a\r\n.\r\n"),
    ],
)
def test_a_message_is_sent_with_its_dots_doubled(content: bytes, sent: bytes, size: int) -> None:
    assert written(content, size) == sent


@given(st.lists(st.sampled_from([b".", b"\r\n", b"\n", b"\r", b"x"]), max_size=30).map(b"".join), st.integers(1, 5))
def test_no_line_of_a_message_ends_the_response_before_its_end(content: bytes, size: int) -> None:
    sent = written(content, size)

    assert sent == written(content, 1000)
    assert sent.find(b"\n.\r\n") in (-1, len(sent) - 4)
    assert sent == b".\r\n" or sent.endswith(b"\r\n.\r\n")


MESSAGE = b"Subject: Hi\r\nTo: ann\r\n\r\none\r\ntwo\r\nthree\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (0, b"Subject: Hi\r\nTo: ann\r\n\r\n"),
        (2, b"Subject: Hi\r\nTo: ann\r\n\r\none\r\ntwo\r\n"),
        (9, MESSAGE),
    ],
)
def test_top_shows_the_header_and_so_many_lines(lines: int, shown: bytes, size: int) -> None:
    top, found = Top(lines), b""
    for at in range(0, len(MESSAGE), size):
        if not top.is_full:
            found += top.feed(MESSAGE[at : at + size])

    assert found == shown


def test_a_message_without_header_begins_with_its_body() -> None:
    assert Top(1).feed(b"\r\none\r\ntwo\r\n") == b"\r\none\r\n"
