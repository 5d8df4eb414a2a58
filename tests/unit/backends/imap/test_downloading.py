from __future__ import annotations

import pytest
from app.backends.imap.downloading import check_part, stream
from app.errors import MessageNotFound, PartNotFound, ServerRefused, Unreachable
from app.wire.imap.commands import BodySection

from tests.unit.backends.imap.scripted import scripted_session

TEXT = '("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "7BIT" 4 1)'


async def test_a_message_that_a_selected_mailbox_hides_is_looked_for_anew() -> None:
    session, server = scripted_session()
    await session.select("INBOX")
    fetches = iter(["$ OK done\r\n", "* 1 FETCH (UID 1 BODY[] {2}\r\nhi)\r\n$ OK done\r\n"])
    server.script["UID FETCH"] = lambda _: next(fetches)

    assert [chunk async for chunk in stream(session, "INBOX", 1, BodySection())] == [b"hi"]
    assert server.told.count('SELECT "INBOX"') == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("$ OK done\r\n", MessageNotFound),
        ("* 2 FETCH (UID 2 FLAGS ())\r\n$ OK done\r\n", MessageNotFound),
        ("* 1 FETCH (UID 1 BODY[9] NIL)\r\n$ OK done\r\n", PartNotFound),
        ("$ NO no\r\n", ServerRefused),
        ("* BYE\r\n", Unreachable),
    ],
)
async def test_a_stream_that_cannot_be_says_why(answer: str, error: type[Exception]) -> None:
    session, _ = scripted_session({"UID FETCH": answer})

    with pytest.raises(error):
        [chunk async for chunk in stream(session, "INBOX", 1, BodySection("9"))]


async def test_short_and_long_sections_are_streamed_alike() -> None:
    for content in (b"", b"short", b"x" * 200_000):
        literal = b"* 1 FETCH (UID 1 BODY[] {%d}\r\n%b)\r\n$ OK done\r\n" % (len(content), content)
        session, _ = scripted_session({"UID FETCH": literal})

        assert b"".join([chunk async for chunk in stream(session, "INBOX", 1, BodySection())]) == content


async def test_a_stream_given_up_midway_ends_the_connection() -> None:
    session, server = scripted_session({"UID FETCH": b"* 1 FETCH (UID 1 BODY[] {200000}\r\n" + b"x" * 100_000})
    chunks = stream(session, "INBOX", 1, BodySection())

    await anext(chunks)
    await chunks.aclose()

    assert server.is_closed


async def test_an_empty_part_is_told_from_one_that_is_not_there() -> None:
    session, _ = scripted_session({"UID FETCH": f"* 1 FETCH (UID 1 BODYSTRUCTURE {TEXT})\r\n$ OK done\r\n"})

    await check_part(session, "INBOX", 1, "1")
    with pytest.raises(PartNotFound):
        await check_part(session, "INBOX", 1, "2")
