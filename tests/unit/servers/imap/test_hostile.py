"""Clients that mean harm, or are broken: whatever they send, a session answers, and others do not feel it."""

from __future__ import annotations

import random
import re

import pytest

from tests.cpu import at_most_cpu_seconds
from tests.harness import Harness
from tests.imap_harness import mail
from tests.unit.servers.imap.talk import USER, Talk

SEED = 7
ROUNDS = 600

COMMANDS = [
    b"NOOP",
    b"SELECT INBOX",
    b'LIST (SUBSCRIBED) "" (INBOX "S*") RETURN (CHILDREN STATUS (MESSAGES))',
    b"STATUS INBOX (MESSAGES UIDNEXT)",
    b"FETCH 1:* (UID FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (SUBJECT)]<0.10>)",
    b"UID STORE 1 (UNCHANGEDSINCE 12) +FLAGS.SILENT (\\Seen Work)",
    b'UID SEARCH RETURN (MIN ALL) CHARSET UTF-8 OR (FROM "a") NOT SINCE 1-Jan-2024',
    b"COPY 1 Archive",
    b"APPEND INBOX (\\Seen) {5+}\r\nabcde",
    b"NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge)) (SUBTREE Work (MailboxName))",
    b"CREATE Work (USE (\\Flagged))",
    b"RENAME Work Jobs",
    b'ID ("name" "x" "version" NIL)',
    b"IDLE\r\nDONE",
    b"AUTHENTICATE PLAIN AGEAYg==",
]
PIECES = [
    b"(",
    b")",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"{3+}\r\n",
    b"*",
    b"%",
    b"\x00",
    b"\xff\xfe",
    b" ",
    b"NIL",
    b"4294967296",
]


def _broken(command: bytes, chance: random.Random) -> bytes:
    """A command with one thing wrong."""
    place = chance.randrange(len(command) + 1)
    match chance.randrange(4):
        case 0:
            return command[:place]
        case 1:
            return command[:place] + chance.choice(PIECES) + command[place:]
        case 2:
            return command[:place] + command[place + 1 :]
        case _:
            return command[:place] + bytes([chance.randrange(256)]) + command[place + 1 :]


async def _new_session(harness: Harness) -> Talk:
    return await Talk.logged_in(harness, "SELECT INBOX")


async def test_no_broken_command_breaks_a_session(harness: Harness) -> None:
    chance = random.Random(SEED)
    account_id = (await harness.logins.verify(USER, "secret", address="")).account_id
    inbox = await harness.mailbox(account_id)
    await harness.store.add(account_id, inbox.id, [(await harness.store.keep(mail("One")), frozenset(), None)])
    talk = await _new_session(harness)
    for _ in range(ROUNDS):
        command = _broken(chance.choice(COMMANDS), chance)
        answer = await talk.feed(b"a " + command + b"\r\n")
        answer += await talk.feed(b"\r\nDONE\r\n\r\n")  # ends what a broken command may have begun
        assert answer.endswith(b"\r\n"), command
        if talk.ended or not (await talk.feed(b"z NOOP\r\n")).endswith(b"z OK NOOP completed\r\n"):
            talk = await _new_session(harness)


@pytest.mark.parametrize(
    "command",
    [
        b"FETCH " + b"1," * 30_000 + b"1 UID",
        b"UID FETCH 1:4294967295,1:4294967295 UID",
        b"SEARCH " + b"NOT " * 15_000 + b"ALL",
        b"SEARCH " + b"(" * 60_000,
        b"SEARCH " + b"OR ALL " * 9_000 + b"ALL",
        b"FETCH 1 (" + b"BODY.PEEK[1] " * 5_000 + b"UID)",
        b"FETCH 1 BODY[" + b"1." * 30_000 + b"1]",
        b'LIST "" ' + b"*a" * 30_000,
        b'LIST "" "' + b"\\\\" * 30_000 + b'"',
        b"STORE 1 FLAGS (" + b"x " * 30_000 + b"x)",
        b"ID (" + b'"a" "b" ' * 8_000 + b")",
        b"NOTIFY SET " + b"(PERSONAL (MessageNew)) " * 2_000,
        b"A" * 60_000,
        b"LOGIN " + b'"' * 60_000,
        b"SELECT &" + b"A" * 60_000 + b"-",
    ],
    ids=lambda command: command[:12].decode(),
)
async def test_a_long_command_is_answered_soon(harness: Harness, command: bytes) -> None:
    """Linear in time: at most a few milliseconds for the 60 KB that a line may have (CVE-2025-61600)."""
    talk = await _new_session(harness)

    with at_most_cpu_seconds(1):
        answer = await talk.feed(b"a " + command + b"\r\n")

    assert re.search(rb"(^|\r\n)a (OK|NO|BAD) [^\r\n]*\r\n\Z", answer), answer[-200:]


async def test_many_literals_are_read_in_linear_time(harness: Harness) -> None:
    talk = await _new_session(harness)
    command = b"a SEARCH" + b" SUBJECT {1+}\r\nx" * 5_000

    with at_most_cpu_seconds(2):
        answer = await talk.feed(command + b"\r\n")

    assert answer.startswith(b"a BAD")


async def test_a_request_under_way_has_less_time_than_a_quiet_session(harness: Harness) -> None:
    talk = await _new_session(harness)
    quiet = talk.conversation.timeout_seconds

    await talk.feed(b"a FETCH 1")

    assert talk.conversation.timeout_seconds < quiet


async def test_names_and_texts_that_look_like_protocol_stay_names_and_texts(harness: Harness) -> None:
    """What is a literal's mark or a line end elsewhere is an ordinary character in a name."""
    talk = await _new_session(harness)

    for name in (b"a{5}", b"a{5+}", b"it's", b'quo\\"te', b"back\\\\slash", b"(paren", b"per%cent", b"x NOOP"):
        assert (await talk.say(b'CREATE "%b"' % name))[-1].startswith(b"a OK"), name
        listed = await talk.feed(b'a LIST "" "%b"\r\n' % name)
        assert b'"%b"\r\n' % name in listed
        assert (await talk.say(b'STATUS "%b" (MESSAGES)' % name))[-1].startswith(b"a OK")
    assert (await talk.say(b'SEARCH SUBJECT "x{5}"')) == [b"* SEARCH", b"a OK SEARCH completed"]
