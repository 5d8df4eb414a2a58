"""THREAD as lines (RFC 5256 §3)."""

from __future__ import annotations

import pytest

from tests.harness import Harness
from tests.imap_harness import mail
from tests.unit.servers.imap.talk import Talk
from tests.unit.servers.imap.test_messages import with_mail


def at(hour: int) -> str:
    return f"Mon, 1 Jan 2024 {hour:02}:00:00 +0000"


MESSAGES = (
    mail("Lunch", Message_ID="<1@x>", Date=at(1)),
    mail("Re: Lunch", Message_ID="<2@x>", In_Reply_To="<1@x> <9@x>", Date=at(3)),
    mail("Re: Lunch", Message_ID="<3@x>", References="<1@x>\r\n <2@x>", Date=at(2)),
    mail("Other", Message_ID="<4@x>", References="<1@x>", Date="unreadable"),
    mail("[list] lunch (fwd)", Message_ID="<5@x>", Date=at(0)),
)
"""All of them came at 10:00 of that day."""


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("THREAD REFERENCES UTF-8 ALL", b"* THREAD (1 (5)(2 3)(4))"),
        ("THREAD ORDEREDSUBJECT UTF-8 ALL", b"* THREAD (5 (1)(3)(2))(4)"),
        ("THREAD REFERENCES UTF-8 2:4", b"* THREAD ((2 3)(4))"),
        ("THREAD REFERENCES UTF-8 FROM nobody", b"* THREAD"),
        ("THREAD ORDEREDSUBJECT US-ASCII NOT ALL", b"* THREAD"),
    ],
)
async def test_threads_are_of_what_is_found(harness: Harness, command: str, answer: bytes) -> None:
    talk = await with_mail(harness, *MESSAGES)

    assert await talk.say(command) == [answer, b"a OK THREAD completed"]


async def test_uid_thread_names_uids(harness: Harness) -> None:
    talk = await with_mail(harness, *MESSAGES)
    await talk.say("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await talk.say("EXPUNGE")

    assert (await talk.say("UID THREAD REFERENCES UTF-8 ALL"))[0] == b"* THREAD ((5)(2 3)(4))"
    assert (await talk.say("THREAD ORDEREDSUBJECT UTF-8 ALL"))[0] == b"* THREAD (4 (2)(1))(3)"
    assert (await talk.say("UID THREAD ORDEREDSUBJECT UTF-8 ALL"))[0] == b"* THREAD (5 (3)(2))(4)"


async def test_no_expunge_is_sent_while_a_thread_uses_sequence_numbers(harness: Harness) -> None:
    talk = await with_mail(harness, *MESSAGES)
    await Talk.logged_in(harness, "SELECT INBOX", "STORE 5 +FLAGS (\\Deleted)", "EXPUNGE")

    answers = await talk.say("THREAD ORDEREDSUBJECT UTF-8 ALL")

    assert answers == [b"* THREAD (1 (3)(2))(4)", b"a OK [EXPUNGEISSUED] Some messages were expunged"]
    assert b"* 5 EXPUNGE" in await talk.say("NOOP")
