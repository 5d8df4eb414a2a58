from __future__ import annotations

from collections.abc import Callable

import pytest
from app.wire.imap.command_framing import (
    ClientEvent,
    CommandFramer,
    CommandLimits,
    CommandTooLarge,
    LiteralRequested,
    ReceivedCommand,
)
from app.wire.imap.framing import LiteralChunk, LiteralEnd, LiteralStart, StreamedLiteral
from hypothesis import given
from hypothesis import strategies as st

from tests.cpu import assert_linear
from tests.unit.wire.imap.streams import byte_by_byte, in_packets, whole

TIGHT = CommandLimits(line_bytes=30, command_bytes=60, stream_from_bytes=20, literals=3)


def events(packets: list[bytes], framer: CommandFramer | None = None) -> list[ClientEvent]:
    """All events, with the chunks of a literal joined, so that different cuts compare equal."""
    framer = framer or CommandFramer()
    found: list[ClientEvent] = []
    for packet in packets:
        for event in framer.feed(packet):
            if isinstance(event, LiteralChunk) and found and isinstance(found[-1], LiteralChunk):
                found[-1] = LiteralChunk(event.literal, found[-1].data + event.data)
            else:
                found.append(event)
    return found


def taking_messages(limit: int = 100_000, limits: CommandLimits | None = None) -> CommandFramer:
    framer = CommandFramer(limits) if limits else CommandFramer()
    framer.message_limit_bytes = limit
    return framer


@pytest.mark.parametrize("cut", [whole, byte_by_byte, lambda stream: in_packets(stream, 7)])
def test_a_stream_is_cut_into_commands_however_it_is_split(cut: Callable[[bytes], list[bytes]]) -> None:
    stream = (
        b"a1 NOOP\r\na2 LOGIN {3}\r\na\r\n {2+}\r\n{} x\r\n\r\nDONE\r\n"
        b'a3 SELECT "{5}"\r\na4 SELECT {0+}\r\n\r\na5 APPEND a ~{4+}\r\n\x00{1}\r\n'
    )

    assert events(cut(stream)) == [
        ReceivedCommand((b"a1 NOOP",)),
        LiteralRequested(3, (b"a2 LOGIN ",)),
        ReceivedCommand((b"a2 LOGIN ", b"a\r\n", b" ", b"{}", b" x")),
        ReceivedCommand((b"",)),
        ReceivedCommand((b"DONE",)),
        ReceivedCommand((b'a3 SELECT "{5}"',)),
        ReceivedCommand((b"a4 SELECT ", b"", b"")),
        ReceivedCommand((b"a5 APPEND a ", b"\x00{1}", b"")),
    ]


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
def test_an_appended_message_is_streamed(cut: Callable[[bytes], list[bytes]]) -> None:
    literal = StreamedLiteral(1, 70_000)
    body = b"\r\n" * 35_000

    found = events(cut(b"a1 append INBOX {70000}\r\n" + body + b"\r\na2 NOOP\r\n"), taking_messages())

    assert found == [
        LiteralRequested(70_000, (b"a1 append INBOX ",)),
        LiteralStart(literal, (b"a1 append INBOX ",)),
        LiteralChunk(literal, body),
        LiteralEnd(literal),
        ReceivedCommand((b"a1 append INBOX ", literal, b"")),
        ReceivedCommand((b"a2 NOOP",)),
    ]


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"a1 NOOP " + b"(" * 40 + b"\r\n", "The line is too long"),
        (b"a1 NOOP " + b"(" * 400 + b"\r\n", "The line is too long"),
        (
            b"a1 X " + b"y" * 40 + b" {3+}\r\nabc z {400+}\r\n" + b"\r\n" * 200 + b"\r\n",
            "The line is too long",
        ),
        (b"a1 X " + b"y" * 40 + b" {3}\r\n", "The line is too long"),
        (b"a1 SELECT {30}\r\n", "The literal is too large"),
        (b"a1 X {99999999999999999999}\r\n", "The literal is too large"),
        (b"a1 SELECT {30+}\r\n" + b"\r\n" * 15 + b" x\r\n", "The literal is too large"),
        (b"a1 SELECT {30+}\r\n" + b"\r\n" * 15 + b" {9}\r\n", "The literal is too large"),
        (b"a1 APPEND a {101+}\r\n" + b"x" * 101 + b" {2+}\r\n\r\n\r\n", "The literal is too large"),
        (
            b"a1 X {19+}\r\n" + (b"x" * 19 + b" {19+}\r\n") * 2 + b"\n" * 19 + b"\r\n",
            "The command",
        ),
        (b"a1 X" + b" {0+}\r\n" * 4 + b"\r\n", "The command has too many literals"),
    ],
)
def test_a_command_that_is_too_large_is_thrown_away_and_the_next_is_read(
    cut: Callable[[bytes], list[bytes]], stream: bytes, reason: str
) -> None:
    framer = taking_messages(100, TIGHT)

    refused, following = events(cut(stream + b"a3 NOOP\r\n"), framer)

    assert isinstance(refused, CommandTooLarge)
    assert refused.tag == "a1"
    assert refused.reason.startswith(reason)
    assert following == ReceivedCommand((b"a3 NOOP",))


def test_no_message_is_taken_before_the_login() -> None:
    assert events([b"a1 APPEND INBOX {70000}\r\n"]) == [CommandTooLarge("a1", "The literal is too large")]


def test_a_line_without_end_is_not_held() -> None:
    framer = CommandFramer()

    assert events([b"NOOP " + b"(" * 70_000], framer) == [CommandTooLarge("NOOP", "The line is too long")]
    for _ in range(20):
        assert events([b"(" * 65_536], framer) == []
        assert framer.unread_bytes <= 65_537


def test_a_refused_go_ahead_ends_the_command() -> None:
    framer = taking_messages()
    (asked,) = framer.feed(b"a1 APPEND Missing {10}\r\n")
    assert asked == LiteralRequested(10, (b"a1 APPEND Missing ",))

    framer.refuse()

    assert events([b"a2 NOOP\r\n"], framer) == [ReceivedCommand((b"a2 NOOP",))]


def test_a_refused_go_ahead_for_a_large_message_ends_the_command() -> None:
    framer = taking_messages()
    assert next(framer.feed(b"a1 APPEND Missing {70000}\r\n")) == LiteralRequested(70_000, (b"a1 APPEND Missing ",))

    framer.refuse()

    assert events([b"a2 NOOP\r\n"], framer) == [ReceivedCommand((b"a2 NOOP",))]


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
def test_a_refused_message_that_comes_unasked_is_thrown_away(cut: Callable[[bytes], list[bytes]]) -> None:
    framer = taking_messages()
    start = next(framer.feed(b"a1 APPEND Missing {70000+}\r\n"))
    assert isinstance(start, LiteralStart)

    framer.refuse()

    rest = b"a2 NOOP\r\n" * 7_777 + b"1234567" + b" {5+}\r\n\r\n\r\n)\r\na3 NOOP\r\n"
    assert events(cut(rest), framer) == [ReceivedCommand((b"a3 NOOP",))]


def test_what_follows_starttls_in_the_clear_can_be_forgotten() -> None:
    framer = CommandFramer()

    command = next(framer.feed(b"a1 STARTTLS\r\na2 NOOP\r\n"))

    assert command == ReceivedCommand((b"a1 STARTTLS",))
    assert framer.take_unread() == b"a2 NOOP\r\n"
    assert events([b"a3 CAPABILITY\r\n"], framer) == [ReceivedCommand((b"a3 CAPABILITY",))]


def test_a_hundred_thousand_literals_are_linear() -> None:
    def read(count: int) -> None:
        framer = CommandFramer(CommandLimits(command_bytes=10**9, literals=10**6))
        stream = b"a1 X" + b" {1+}\r\nx" * count + b"\r\n"
        assert len(events(in_packets(stream, 4_096), framer)) == 1

    assert_linear(read, 10_000)


PIECES = (b"a1 ", b"APPEND ", b"x" * 25, b"{3}", b"{25+}", b"{9+}", b"\r\n", b"\r", b"\n", b"z")


@given(st.lists(st.sampled_from(PIECES)))
def test_any_stream_gives_the_same_events_however_it_is_split(pieces: list[bytes]) -> None:
    stream = b"".join(pieces)

    assert events(byte_by_byte(stream), taking_messages(50, TIGHT)) == events([stream], taking_messages(50, TIGHT))
