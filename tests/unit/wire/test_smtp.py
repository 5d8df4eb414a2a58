from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from app.errors import InvalidRequest, MalformedRequest
from app.wire.smtp import (
    ChunkReader,
    DotReader,
    Path,
    SmtpCommand,
    dot_stuffed,
    has_bare_line_end,
    is_helo_name,
    parse_command,
    parse_path,
    plain_address,
    reply,
    reply_lines,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.cpu import at_most_cpu_seconds

# ---- commands


def test_a_command_is_a_verb_and_the_rest() -> None:
    assert parse_command(b"mail FROM:<a@b>  \r\n") == SmtpCommand("MAIL", "FROM:<a@b>")
    assert parse_command(b"QUIT\r\n") == SmtpCommand("QUIT")


@pytest.mark.parametrize(
    "line", [b"NOOP\n", b"NOOP\0\r\n", b"NO\rOP\r\n", b"NOOP \xff\r\n", b"NOOP\r\r\n", b"A\tB\r\n"]
)
def test_a_line_with_another_end_or_control_characters_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedRequest):
        parse_command(line)


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("FROM:<ann@demo.test>", Path("ann@demo.test")),
        ("from: <ann@demo.test>", Path("ann@demo.test")),
        ("FROM:<>", Path("")),
        ("FROM:<> SIZE=10", Path("", {"SIZE": "10"})),
        ("FROM:<@relay.test,@other.test:ann@demo.test>", Path("ann@demo.test")),
        ("FROM:<a+b@demo.test> BODY=7BIT smtputf8", Path("a+b@demo.test", {"BODY": "7BIT", "SMTPUTF8": None})),
        ('FROM:<"ann b"@demo.test>', Path('"ann b"@demo.test')),
        ("FROM:<ann@[127.0.0.1]>", Path("ann@[127.0.0.1]")),
        ("FROM:<ann@[IPv6:::1]>", Path("ann@[IPv6:::1]")),
        ("FROM:<jürgen@müller.test>", Path("jürgen@müller.test")),
    ],
)  # fmt: skip
def test_a_path_is_an_address_with_parameters(argument: str, path: Path) -> None:
    assert parse_path(argument, "FROM") == path


@pytest.mark.parametrize(
    "argument",
    [
        "", "FROM", "TO:<ann@demo.test>", "FROM:ann@demo.test", "FROM:<ann@demo.test", "FROM:<ann>",
        "FROM:<@demo.test>", "FROM:<a b@demo.test>",
        "FROM:<ann@>", "FROM:<ann@demo..test>", "FROM:<.ann@demo.test>", "FROM:<ann.@demo.test>",
        "FROM:<ann@evil.test@demo.test>", 'FROM:<"a@evil.test x"y@demo.test>', "FROM:<ann@demo.test>SIZE=1",
        "FROM:<ann@demo.test> SIZE=", "FROM:<ann@demo.test> =1", "FROM:<ann@demo.test> SIZE=1 SIZE=2",
        "FROM:<ann(comment)@demo.test>", "FROM:<" + "a" * 65 + "@demo.test>", "FROM:<ann@" + "d" * 256 + ".test>",
        "FROM:<=?utf-8?q?ann?=@[evil]>x", "FROM:<ann@de mo.test>", "FROM:<ann@demo.test>>",
    ],
)  # fmt: skip
def test_what_is_not_certainly_one_address_is_refused(argument: str) -> None:
    with pytest.raises(MalformedRequest):
        parse_path(argument, "FROM")


def test_only_a_recipient_may_be_postmaster_without_a_domain() -> None:
    assert parse_path("TO:<Postmaster>", "TO").address == "Postmaster"
    with pytest.raises(MalformedRequest):
        parse_path("FROM:<Postmaster>", "FROM")
    with pytest.raises(MalformedRequest):
        parse_path("TO:<>", "TO")


@pytest.mark.parametrize(
    ("address", "plain"),
    [("Ann@Demo.Test", "ann@demo.test"), ('"ann"@demo.test', "ann@demo.test"), ('"a b"@demo.test', '"a b"@demo.test')],
)
def test_accounts_are_looked_up_by_one_spelling(address: str, plain: str) -> None:
    assert plain_address(address) == plain


def test_a_helo_name_can_neither_end_a_line_nor_open_a_comment() -> None:
    assert is_helo_name("[IPv6:2001:db8::1]")
    assert is_helo_name("mail.demo.test")
    assert not any(is_helo_name(name) for name in ("", "a b", "a\r\nb", "a(b", "x" * 256, "a;b", "<a>"))


@pytest.mark.parametrize("character", ['"', "(", "<", "\\", " ", "@", ".", "a.", "=", '"\\'])
def test_long_addresses_and_parameters_take_linear_time(character: str) -> None:
    for form in ("FROM:<{}", "FROM:<{}@demo.test>", "FROM:<a@b> {}", 'FROM:<"{}"@demo.test>'):
        with at_most_cpu_seconds(1), suppress(MalformedRequest):
            parse_path(form.format(character * 300_000), "FROM")


def test_replies_say_their_enhanced_code_and_continue_with_a_hyphen() -> None:
    assert reply(250, "2.1.0", "Ok") == b"250 2.1.0 Ok\r\n"
    assert reply_lines(250, ["one", "two"]) == b"250-one\r\n250 two\r\n"


# ---- the message


def read(stream: bytes, size: int) -> tuple[bytes, DotReader]:
    reader = DotReader()
    content = b""
    for at in range(0, len(stream), size):
        content += reader.feed(stream[at : at + size])
        if reader.rest is not None:
            reader.rest += stream[at + size :]
            break
    return content, reader


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    ("stream", "content"),
    [
        (b"a\r\n.\r\n", b"a\r\n"),
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"a\r\n..b\r\n...\r\n.\r\n", b"a\r\n.b\r\n..\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"\r\n\r\n\r\n.\r\n", b"\r\n\r\n\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n"),
    ],
)
def test_dots_are_taken_out_and_the_end_is_found(stream: bytes, content: bytes, size: int) -> None:
    found, reader = read(stream + b"QUIT\r\n", size)

    assert found == content
    assert reader.rest == b"QUIT\r\n"
    assert not reader.has_bare_line_end


SMUGGLED = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r.\n", b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n", b"\n\n.\r\n", b"\r\n.\n\r\n",
]  # fmt: skip
"""The forms of end that some server takes for one (CVE-2023-51764, -51765, -51766)."""


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("form", SMUGGLED)
def test_smuggling_a_second_message_fails_in_every_form(form: bytes, size: int) -> None:
    """Only CRLF . CRLF ends it; what came before is part of the message, which is spoiled."""
    hidden = b"MAIL FROM:<eve@evil.test>\r\nRCPT TO:<ann@demo.test>\r\nDATA\r\nhidden\r\n"
    content, reader = read(b"visible" + form + hidden + b".\r\nQUIT\r\n", size)

    assert reader.rest == b"QUIT\r\n"
    assert reader.has_bare_line_end
    assert hidden in content


@pytest.mark.parametrize("form", [b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\0\n"])
def test_a_nul_near_the_dot_makes_no_end(form: bytes) -> None:
    _, reader = read(b"visible" + form + b"NOOP\r\n.\r\nQUIT\r\n", 1000)

    assert reader.rest == b"QUIT\r\n"


def splits(stream: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = turn = 0
    while at < len(stream):
        yield stream[at : at + sizes[turn % len(sizes)]]
        at, turn = at + sizes[turn % len(sizes)], turn + 1


MESSAGES = st.lists(st.sampled_from([b".", b"a", b"\r\n", b"..", b"x" * 9]), max_size=30).map(
    lambda words: b"".join(words) + b"\r\n"
)


@given(MESSAGES, st.lists(st.integers(1, 9), min_size=1))
def test_a_message_comes_out_as_it_was_stuffed_however_it_is_split(content: bytes, sizes: list[int]) -> None:
    reader, found = DotReader(), b""
    for piece in splits(dot_stuffed(content) + b"QUIT\r\n", sizes):
        if reader.rest is None:
            found += reader.feed(piece)
        else:
            reader.rest += piece

    assert found == content
    assert reader.rest == b"QUIT\r\n"
    assert not reader.has_bare_line_end


@given(st.binary(max_size=60).map(lambda text: text.replace(b"a", b"\r").replace(b"b", b"\n")), st.integers(1, 7))
def test_any_bare_line_end_is_noticed_however_it_is_split(text: bytes, size: int) -> None:
    content = text.replace(b".", b"_") + b"\r\n"
    _, reader = read(content + b".\r\n", size)

    assert reader.rest == b""
    assert reader.has_bare_line_end is has_bare_line_end(content)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x"]), max_size=20).map(b"".join), st.integers(1, 5))
def test_chunks_notice_bare_line_ends_across_their_borders(content: bytes, size: int) -> None:
    reader = ChunkReader()
    for at in range(0, len(content), size):
        reader.feed(content[at : at + size])
    missing = reader.finish()

    assert reader.has_bare_line_end is has_bare_line_end(content)
    if content and not reader.has_bare_line_end:
        assert (content + missing).endswith(b"\r\n")


def test_a_message_of_dots_takes_linear_time() -> None:
    for stream in (b"\r\n." * 500_000, b"." * 2_000_000, b"\r\n" * 500_000, b"\r" * 1_000_000):
        reader = DotReader()
        with at_most_cpu_seconds(1):
            for at in range(0, len(stream), 10_000):
                reader.feed(stream[at : at + 10_000])


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\r", b"\n", b"a\r\r\nb"])
def test_no_bare_line_end_is_stuffed(content: bytes) -> None:
    with pytest.raises(InvalidRequest):
        dot_stuffed(content)
