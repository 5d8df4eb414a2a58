"""OBJECTID (RFC 8474) and PREVIEW (RFC 8970)."""

from __future__ import annotations

import re

from tests.harness import Harness
from tests.imap_harness import mail
from tests.unit.servers.imap.talk import Talk
from tests.unit.servers.imap.test_messages import with_mail


async def ids(talk: Talk, item: str) -> list[bytes]:
    """The value of an item that FETCH returns for each message, without its parentheses."""
    pattern = re.compile(rb"\* \d+ FETCH \(%b \(([\w-]{1,255})\)\)" % item.encode())
    found = [pattern.fullmatch(line) for line in await talk.say(f"FETCH 1:* {item}")]
    return [match[1] for match in found if match]


async def test_a_message_and_its_copies_have_one_email_id(harness: Harness) -> None:
    talk = await with_mail(harness, mail("a"), mail("b"))
    first, second = await ids(talk, "EMAILID")
    assert first != second

    await talk.say("COPY 1 Archive")
    await talk.say("MOVE 2 Archive")
    await talk.say("SELECT Archive")

    assert await ids(talk, "EMAILID") == [first, second]
    assert (await talk.say(f"SEARCH EMAILID {second.decode()}"))[0] == b"* SEARCH 2"
    assert (await talk.say("SEARCH EMAILID none"))[0] == b"* SEARCH"


async def test_a_message_and_its_answers_have_one_thread_id(harness: Harness) -> None:
    talk = await with_mail(
        harness, mail("a"), mail("b"), mail("Re: a", Message_ID="<c@x>", In_Reply_To="<a@example.test>")
    )

    first, second, answer = await ids(talk, "THREADID")

    assert (answer, first != second) == (first, True)
    assert (await talk.say(f"SEARCH THREADID {first.decode()}"))[0] == b"* SEARCH 1 3"


async def test_a_mailbox_keeps_its_id_when_it_is_renamed(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)
    created = re.search(rb"\[(MAILBOXID \(\w+\))\]", (await talk.say("CREATE Box"))[0])
    assert created is not None

    await talk.say("RENAME Box Other")

    assert (await talk.say("STATUS Other (MAILBOXID)"))[0] == b'* STATUS "Other" (%b)' % created[1]
    assert any(b"[%b]" % created[1] in line for line in await talk.say("SELECT Other"))


async def test_a_preview_is_the_first_of_the_text_whether_or_not_it_may_be_late(harness: Harness) -> None:
    talk = await with_mail(harness, mail("a", 'Hello, "world".\r\n\r\nMore.\r\n'), mail("b", ""))
    expected = [b'* 1 FETCH (PREVIEW "Hello, \\"world\\". More.")', b'* 2 FETCH (PREVIEW "")', b"a OK FETCH completed"]

    assert await talk.say("FETCH 1:* PREVIEW") == expected
    assert await talk.say("FETCH 1:* (PREVIEW (LAZY))") == expected
    assert (await talk.say("FETCH 1 (PREVIEW (LAZY LAZY))"))[0].startswith(b"a BAD")
