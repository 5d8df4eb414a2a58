"""The receive path on aioimaplib, and each fault of its own that it must not have."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator

import pytest
from app.backends.imap.connection import Exchange, ImapProtocol, LiteralStream, deadlines
from app.backends.imap.connection import exchange as exchange_module
from app.backends.imap.connection import protocol as protocol_module
from app.errors import InvalidRequest, MailServerError, ServerProtocolError, ServerRefused, TimedOut, Unreachable
from app.wire.imap import commands
from app.wire.imap.encode import Command
from app.wire.imap.sets import SequenceSet

from tests.unit.backends.imap.scripted import ScriptedServer

Silent = {"": ""}
"""A server that answers nothing by itself."""


def silent_server(capabilities: str = "IMAP4rev1") -> tuple[ScriptedServer, ImapProtocol]:
    server = ScriptedServer(Silent)
    return server, server.greet(capabilities)


def new(protocol: ImapProtocol, command: Command, **options: object) -> Exchange:
    return Exchange(command, protocol.new_tag(), **options)  # type: ignore[arg-type]


def noop(protocol: ImapProtocol) -> Exchange:
    return new(protocol, commands.noop())


async def test_three_thousand_lines_in_one_read_are_taken_without_recursion() -> None:
    server, protocol = silent_server()
    exchange = noop(protocol)
    await protocol.submit(exchange)

    server.say("* FLAGS (\\Seen)\r\n" * 3000 + f"{exchange.tag} OK done\r\n")

    assert len((await protocol.settle(exchange)).responses) == 3000


async def calls_of(lines: int) -> int:
    """How many functions are called, Python's and C's, to take so many envelopes in one read."""
    server, protocol = silent_server()
    exchange = noop(protocol)
    await protocol.submit(exchange)
    line = '* 1 FETCH (UID 1 ENVELOPE (NIL "s" NIL NIL NIL NIL NIL NIL NIL "<i@d>"))\r\n'
    text = line * lines + f"{exchange.tag} OK done\r\n"
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        server.say(text)
    finally:
        sys.setprofile(before)
    assert exchange.is_done
    return calls


async def test_the_work_for_envelopes_grows_with_their_number_alone() -> None:
    assert await calls_of(5_000) < 10.5 * await calls_of(500)


async def test_stars_and_parentheses_inside_strings_are_kept() -> None:
    server, protocol = silent_server()
    exchange = noop(protocol)
    await protocol.submit(exchange)
    line = '* 1 FETCH (ENVELOPE (NIL "buy 2* now * or 3* :-) ((" NIL NIL NIL NIL NIL NIL NIL NIL))'

    server.say(f"{line}\r\n{exchange.tag} OK done\r\n")

    assert [response.text for response in (await protocol.settle(exchange)).responses] == [line.encode()]


async def test_a_status_text_that_ends_like_a_literal_is_none() -> None:
    server, protocol = silent_server()
    exchange = noop(protocol)
    await protocol.submit(exchange)

    server.say(f"* OK see {{5}}\r\n{exchange.tag} OK done {{3}}\r\n")

    assert (await protocol.settle(exchange)).text == b"done {3}"


async def test_commands_wait_side_by_side_and_each_gets_its_own_answer() -> None:
    server, protocol = silent_server()
    first, second = noop(protocol), noop(protocol)
    await protocol.submit(first)
    await protocol.submit(second)

    server.say(f"* 1 EXISTS\r\n{first.tag} OK one\r\n* 2 EXISTS\r\n{second.tag} NO two\r\n")

    one, two = await protocol.settle(first), await protocol.settle(second)
    assert [response.text for response in one.responses] == [b"* 1 EXISTS"]
    assert [response.text for response in two.responses] == [b"* 2 EXISTS"]
    with pytest.raises(ServerRefused):
        two.check()


async def test_an_answer_that_overtakes_an_earlier_command_goes_to_the_one_that_asked() -> None:
    server, protocol = silent_server()
    first = noop(protocol)
    sink = LiteralStream(protocol.pause_reading, protocol.resume_reading)
    fetch = new(protocol, commands.fetch(SequenceSet.of([5]), ["UID"]), sink=sink)
    await protocol.submit(first)
    await protocol.submit(fetch)

    server.say(b"* 5 FETCH (UID 5 BODY[] {70000}\r\n" + b"x" * 70_000 + b")\r\n* 6 EXISTS\r\n")
    server.say(f"{first.tag} OK done\r\n{fetch.tag} OK done\r\n")

    assert [response.text for response in (await protocol.settle(first)).responses] == [b"* 6 EXISTS"]
    assert len((await protocol.settle(fetch)).responses) == 1
    assert b"".join([chunk async for chunk in sink]) == b"x" * 70_000


async def test_a_cancelled_command_keeps_its_tag_and_blocks_no_other() -> None:
    server, protocol = silent_server()
    given_up = noop(protocol)
    waiting = asyncio.ensure_future(protocol.execute(given_up))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    next_one = noop(protocol)
    await protocol.submit(next_one)

    assert not protocol.is_quiet
    server.say(f"* 1 FETCH (UID 1 FLAGS ())\r\n{given_up.tag} OK late\r\n{next_one.tag} OK done\r\n")

    assert (await protocol.settle(next_one)).responses == []
    assert protocol.is_quiet


async def test_a_lost_connection_fails_every_waiting_command_by_an_error_of_its_own() -> None:
    server, protocol = silent_server()
    exchanges = [noop(protocol), noop(protocol)]
    for exchange in exchanges:
        await protocol.submit(exchange)

    protocol.connection_lost(None)

    results = await asyncio.gather(*map(protocol.settle, exchanges), return_exceptions=True)
    assert [type(result) for result in results] == [Unreachable, Unreachable]
    assert results[0] is not results[1]
    with pytest.raises(Unreachable):
        await protocol.submit(noop(protocol))
    assert server.is_closed


async def test_a_command_to_a_wire_that_closed_and_has_not_said_so_is_unreachable() -> None:
    server, protocol = silent_server()
    server.close()

    with pytest.raises(Unreachable):
        await protocol.submit(noop(protocol))
    with pytest.raises(Unreachable):
        protocol.send(b"DONE")
    protocol.pause_reading()
    protocol.resume_reading()
    protocol.leave()


async def test_a_command_that_is_not_answered_in_time_ends_the_connection() -> None:
    server, protocol = silent_server()
    exchange = new(protocol, commands.noop(), timeout_seconds=0)
    await protocol.submit(exchange)

    with pytest.raises(TimedOut):
        await protocol.settle(exchange)
    assert server.is_closed


async def test_commands_of_aioimaplib_never_leave_since_it_quotes_nothing() -> None:
    server, protocol = silent_server()
    with pytest.raises(TypeError):
        await protocol.login('a b" c', "secret")
    assert server.sent == b""


async def test_arguments_cannot_add_commands() -> None:
    with pytest.raises(InvalidRequest):
        commands.login("user\r\nx DELETE INBOX", "secret")
    with pytest.raises(InvalidRequest):
        commands.select("INBOX\r\nx LOGOUT")


async def test_nothing_sent_or_received_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server, protocol = silent_server()
    exchange = new(protocol, commands.login("canary-user", "canary-password"))
    await protocol.submit(exchange)
    server.say(f"* OK canary text\r\n{exchange.tag} OK canary\r\n")
    protocol.send(b"canary")
    protocol.connection_lost(ValueError("canary"))

    assert "canary" not in caplog.text
    assert "canary-password" not in repr(exchange)


async def test_a_small_literal_is_inline_however_it_is_cut() -> None:
    for size in (1, 3, 7, 10_000):
        server, protocol = silent_server()
        exchange = noop(protocol)
        await protocol.submit(exchange)
        data = f"* 1 FETCH (BODY[] {{5}}\r\na\r\nb) FLAGS ())\r\n{exchange.tag} OK done\r\n".encode()
        for start in range(0, len(data), size):
            server.say(data[start : start + size])
        (response,) = (await protocol.settle(exchange)).responses
        assert response.parts == (b"* 1 FETCH (BODY[] ", b"a\r\nb)", b" FLAGS ())")


async def test_a_large_literal_without_a_sink_is_put_in_its_place() -> None:
    server, protocol = silent_server()
    exchange = noop(protocol)
    await protocol.submit(exchange)
    content = b"x" * 100_000

    server.say(b"* 1 FETCH (BODY[] {100000}\r\n" + content + b" UID 4)\r\n" + f"{exchange.tag} OK\r\n".encode())

    (response,) = (await protocol.settle(exchange)).responses
    assert response.parts == (b"* 1 FETCH (BODY[] ", content, b" UID 4)")


async def test_a_stream_that_is_not_read_stops_the_connection_until_it_is() -> None:
    server, protocol = silent_server()
    sink = LiteralStream(protocol.pause_reading, protocol.resume_reading)
    exchange = new(protocol, commands.noop(), sink=sink)
    await protocol.submit(exchange)
    server.say(b"* 1 FETCH (BODY[] {1000000}\r\n")
    sent = 0
    while server.reads_on and sent < 1_000_000:
        server.say(b"x" * 100_000)
        sent += 100_000
    assert sent <= 600_000

    chunks = aiter(sink)
    while not server.reads_on:
        await anext(chunks)

    server.say(b"x" * (1_000_000 - sent) + b")\r\n" + f"{exchange.tag} OK\r\n".encode())
    left = b"".join([chunk async for chunk in chunks])
    assert left.endswith(b"x" * 100_000)
    assert (await protocol.settle(exchange)).status == "OK"


async def test_progress_renews_the_deadline_of_a_download_and_a_trickle_does_not() -> None:
    server, protocol = silent_server()
    exchange = new(protocol, commands.noop(), sink=LiteralStream(lambda: None, lambda: None))
    await protocol.submit(exchange)
    began = exchange.deadline
    server.say(b"* 1 FETCH (BODY[] {1000000}\r\n" + b"x" * 1000)
    assert exchange.deadline is began

    server.say(b"x" * deadlines.PROGRESS_BYTES)

    assert exchange.deadline is not began


@pytest.mark.parametrize(
    "said",
    [
        b"* 1 FETCH (BODY[] {4294967295}\r\n",
        b"nonsense\r\n",
        b"ZZZZ99 OK never asked\r\n",
        b"* 1 FETCH (BODY[] {70000}\r\n",
        b"x" * (9 * 1024 * 1024),
    ],
    ids=["literal of 4 GiB", "nonsense", "foreign tag", "large literal unasked", "endless line"],
)
async def test_a_hostile_answer_ends_the_connection(said: bytes) -> None:
    server, protocol = silent_server()

    server.say(said)

    assert isinstance(protocol.lost, ServerProtocolError)
    assert server.is_closed


async def test_a_flood_of_what_nobody_asked_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol_module, "MAX_UNSOLICITED", 1000)
    server, protocol = silent_server()

    server.say(b"* 1 EXISTS\r\n" * 1001)

    assert isinstance(protocol.lost, ServerProtocolError)


async def test_a_flood_within_a_command_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "MAX_RESPONSES", 1000)
    server, protocol = silent_server()
    exchange = noop(protocol)
    await protocol.submit(exchange)

    server.say(b"* 1 EXISTS\r\n" * 1001)

    with pytest.raises(ServerProtocolError):
        await protocol.settle(exchange)


async def test_large_literals_of_one_answer_are_kept_up_to_a_limit() -> None:
    server, protocol = silent_server()
    exchange = noop(protocol)
    await protocol.submit(exchange)

    server.say(b"* 1 FETCH (BODY[] {17000000}\r\n")

    with pytest.raises(ServerProtocolError):
        await protocol.settle(exchange)


async def test_goodbye_at_any_time_is_a_lost_connection() -> None:
    server, protocol = silent_server()
    exchange = noop(protocol)
    await protocol.submit(exchange)

    server.say(b"* BYE shutting down\r\n")

    with pytest.raises(Unreachable):
        await protocol.settle(exchange)


async def content_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def append(protocol: ImapProtocol, size_bytes: int, *pieces: bytes) -> Exchange:
    return new(protocol, commands.append("INBOX", size_bytes), content=content_of(*pieces))


async def test_a_literal_waits_for_the_servers_go_ahead() -> None:
    server, protocol = silent_server()
    exchange = append(protocol, 5, b"He", b"llo")
    sending = asyncio.ensure_future(protocol.submit(exchange))
    await asyncio.sleep(0)
    assert server.sent.endswith(b"{5}\r\n")

    server.say(b"+ go\r\n")
    await sending

    assert server.sent.endswith(b"{5}\r\nHello\r\n")


async def test_a_literal_needs_no_go_ahead_where_the_server_says_so() -> None:
    server, protocol = silent_server("IMAP4rev1 LITERAL+")
    await protocol.submit(append(protocol, 5, b"Hello"))

    assert server.sent.endswith(b"{5+}\r\nHello\r\n")


async def test_a_literal_that_is_refused_is_not_sent() -> None:
    server, protocol = silent_server()
    exchange = append(protocol, 5, b"Hello")
    sending = asyncio.ensure_future(protocol.submit(exchange))
    await asyncio.sleep(0)

    server.say(f"{exchange.tag} NO [OVERQUOTA] full\r\n")
    await sending

    assert b"Hello" not in server.sent
    assert (await protocol.settle(exchange)).status == "NO"
    assert protocol.is_quiet


@pytest.mark.parametrize("pieces", [(b"Hel",), (b"Hello", b"!")])
async def test_content_of_another_length_than_said_ends_the_connection(pieces: tuple[bytes, ...]) -> None:
    server, protocol = silent_server("IMAP4rev1 LITERAL+")

    with pytest.raises(InvalidRequest):
        await protocol.submit(append(protocol, 5, *pieces))

    assert server.is_closed
    assert b"!" not in server.sent


async def test_an_upload_given_up_amid_its_literal_ends_the_connection() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"He"
        raise Unreachable("the caller is gone")

    server, protocol = silent_server("IMAP4rev1 LITERAL+")
    with pytest.raises(Unreachable):
        await protocol.submit(new(protocol, commands.append("INBOX", 5), content=broken()))

    assert server.is_closed


async def test_an_upload_waits_while_the_socket_takes_no_more() -> None:
    server, protocol = silent_server("IMAP4rev1 LITERAL+")
    protocol.pause_writing()
    sending = asyncio.ensure_future(protocol.submit(append(protocol, 2, b"a", b"b")))
    await asyncio.sleep(0)
    assert server.sent.endswith(b"{2+}\r\na")

    protocol.resume_writing()
    await sending

    assert server.sent.endswith(b"{2+}\r\nab\r\n")


async def test_a_greeting_that_is_no_imap_is_an_error() -> None:
    server = ScriptedServer()
    server.say(b"220 mail.example.com ESMTP\r\n")

    with pytest.raises(ServerProtocolError):
        await server.protocol.greeting


async def test_an_error_shows_the_answer_in_one_bounded_line() -> None:
    server, protocol = silent_server()
    exchange = new(protocol, commands.fetch(SequenceSet.of([1]), ["UID"]))
    await protocol.submit(exchange)
    server.say(f"{exchange.tag} NO [NOPERM] \x1b[2J{'x' * 1000}\r\n")

    with pytest.raises(MailServerError) as error:
        (await protocol.settle(exchange)).check()

    assert error.value.origin is not None
    assert error.value.origin.response.startswith("NO [NOPERM] [2Jxxx")
    assert len(error.value.origin.response) < 320


async def test_leaving_says_goodbye_and_closes() -> None:
    server, protocol = silent_server()

    protocol.leave()
    await protocol.wait_closed()

    assert server.told == ["LOGOUT"]
    assert server.is_closed
