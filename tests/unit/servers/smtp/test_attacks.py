"""The security checks that concern SMTP as a server, by name."""

from __future__ import annotations

import pytest
from app.servers.conversation import Farewell
from app.servers.smtp import ListenerRole
from app.servers.smtp.conversation import ERRORS_LIMIT, IDLE_COMMANDS_LIMIT

from tests.cpu import at_most_cpu_seconds
from tests.harness import Harness
from tests.unit.servers.smtp.conftest import Visit, inbox
from tests.unit.servers.talk import Talk

ENVELOPE = b"MAIL FROM:<joe@there.example>\r\nRCPT TO:<ann@demo.test>\r\nDATA\r\n"
HIDDEN = b"MAIL FROM:<eve@evil.test>\r\nRCPT TO:<bob@demo.test>\r\nDATA\r\nSubject: hidden\r\n\r\nhidden\r\n.\r\n"


@pytest.mark.parametrize("role", [ListenerRole.SUBMISSION, ListenerRole.MX, ListenerRole.LMTP])
async def test_a_command_after_starttls_in_the_same_packet_is_never_answered(visit: Visit, role: ListenerRole) -> None:
    talk = visit(role)
    hello = b"LHLO x\r\n" if role is ListenerRole.LMTP else b"EHLO x\r\n"
    assert b"STARTTLS" in await talk.say(hello)

    assert await talk.say(b"STARTTLS\r\nNOOP\r\nEHLO evil\r\n") == b"220 2.0.0 Go ahead\r\n"
    assert await talk.say(b"") == b""
    assert (await talk.say(b"MAIL FROM:<a@b.test>\r\n")).startswith(b"503 ")
    assert b"STARTTLS" not in await talk.say(hello)
    assert (await talk.say(b"STARTTLS\r\n")).startswith(b"503 ")


async def test_a_login_before_starttls_is_forgotten(ann: Talk) -> None:
    await ann.say(b"STARTTLS\r\n")
    await ann.say(b"EHLO x\r\n")

    assert await ann.say(b"MAIL FROM:<ann@demo.test>\r\n") == b"530 5.7.0 Authentication required\r\n"


@pytest.mark.parametrize(
    "form",
    [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n.\r\r\n", b"\n\n.\r\n", b"\r\n\0.\r\n"],
)
async def test_smuggling_a_second_message_fails_in_every_form(harness: Harness, mx: Talk, form: bytes) -> None:
    await mx.say(ENVELOPE)

    answer = await mx.say(b"Subject: visible\r\n\r\nvisible" + form + HIDDEN)

    assert answer.count(b"\r\n") == 1  # one message, one answer
    assert await inbox(harness, "bob") == []
    if b"\0" not in form:
        assert answer.startswith(b"554 5.6.0 ")
        assert await inbox(harness, "ann") == []
    assert await mx.say(b"NOOP\r\n") == b"250 2.0.0 Ok\r\n"


async def test_smuggling_by_chunks_fails_too(harness: Harness, mx: Talk) -> None:
    await mx.say(ENVELOPE[:-6])

    answers = await mx.say(b"BDAT 7\r\nvisible" + b"BDAT 3\r\n\n.\r" + b"BDAT 1 LAST\r\n\n")

    assert answers.splitlines()[-1].startswith(b"554 5.6.0 ")
    assert await inbox(harness, "ann") == []


@pytest.mark.parametrize(
    "line",
    [
        b"RCPT TO:<ann@demo.test\rRSET>\r\n",
        b"RCPT TO:<ann@demo.test\0>\r\n",
        b"RCPT TO:<ann@demo.test> ORCPT=rfc822;a\x01b\r\n",
        b"MAIL FROM:<a@b.test> ENVID=a\x07\r\n",
        b"EHLO a\x0bb\r\n",
    ],
)
async def test_no_control_character_gets_into_a_command(mx: Talk, line: bytes) -> None:
    await mx.say(b"MAIL FROM:<a@b.test>\r\n")

    assert (await mx.say(line)).startswith((b"500 5.5.2 ", b"501 5.1.3 "))


async def test_what_a_client_calls_itself_adds_no_header(harness: Harness, mx: Talk) -> None:
    assert (await mx.say(b"EHLO evil)\\r\\nX-Spam: no\r\n")).startswith(b"501 ")


async def test_a_long_token_in_every_state_is_cut_off_in_bounded_time(visit: Visit) -> None:
    for prefix in (
        b"",
        b"EHLO ",
        b"EHLO x\r\nAUTH PLAIN ",
        b"EHLO x\r\nAUTH LOGIN\r\n",
        b"EHLO x\r\nMAIL FROM:<",
        b"NOOP (",
    ):
        talk = visit(ListenerRole.SUBMISSION)
        with at_most_cpu_seconds(1):
            await talk.say(prefix)
            answer = await talk.say(*[b"(" * 1000] * 50)
        assert b"500 5.5.2 The line is too long\r\n" in answer
        assert talk.is_over


async def test_a_flood_of_errors_ends_the_session(mx: Talk) -> None:
    answer = await mx.say(b"FOO\r\n" * 100)

    assert answer.count(b"500 5.5.1 ") == ERRORS_LIMIT
    assert answer.endswith(b"421 4.7.0 Too many errors or commands\r\n")
    assert mx.is_over


async def test_a_flood_of_junk_commands_ends_the_session(mx: Talk) -> None:
    answer = await mx.say(b"NOOP\r\n" * 1000)

    assert answer.count(b"250 2.0.0 Ok\r\n") < IDLE_COMMANDS_LIMIT
    assert mx.is_over


async def test_a_harvest_of_user_names_ends_the_session(mx: Talk) -> None:
    await mx.say(b"MAIL FROM:<a@b.test>\r\n")

    await mx.say(*[f"RCPT TO:<user{number}@demo.test>\r\n".encode() for number in range(50)])

    assert mx.is_over


async def test_recipients_are_counted(harness: Harness, ann: Talk) -> None:
    recipients = b"".join(b"RCPT TO:<user%d@there.example>\r\n" % number for number in range(101))

    answer = await ann.say(b"MAIL FROM:<ann@demo.test>\r\n" + recipients)

    assert answer.count(b"250 2.1.5 Ok\r\n") == 100
    assert answer.endswith(b"452 4.5.3 Too many recipients\r\n")


async def test_a_stranger_has_less_time_than_one_who_spoke(visit: Visit) -> None:
    talk = visit(ListenerRole.MX)

    assert talk.conversation.timeout_seconds <= 60
    await talk.say(b"EHLO x\r\n")
    assert talk.conversation.timeout_seconds == 300


async def test_brute_force_is_slowed_over_connections_while_the_owner_gets_in(harness: Harness, visit: Visit) -> None:
    right = b"EHLO x\r\nAUTH PLAIN AGFubkBkZW1vLnRlc3QAc2VjcmV0\r\n"
    home = "127.0.0.9"
    assert (await visit(ListenerRole.SUBMISSION, home).say(right)).endswith(b"235 2.7.0 Welcome\r\n")
    for _ in range(12):
        talk = visit(ListenerRole.SUBMISSION)
        answers = await talk.say(b"EHLO x\r\n" + b"AUTH PLAIN AGFubkBkZW1vLnRlc3QAd3Jvbmc=\r\n" * 2)
        await talk.say(b"QUIT\r\n")
    assert b"454 4.7.0 " in answers
    assert max(harness.waits) == 2.0

    waited = len(harness.waits)
    assert b"454 4.7.0 " in await visit(ListenerRole.SUBMISSION).say(
        right
    )  # a right guess among refused ones looks like them
    assert (await visit(ListenerRole.SUBMISSION, home).say(right)).endswith(b"235 2.7.0 Welcome\r\n")
    assert len(harness.waits) == waited


async def test_what_was_begun_is_forgotten_when_the_line_is_cut(harness: Harness, mx: Talk) -> None:
    await mx.say(ENVELOPE + b"Subject: half a message\r\n\r\nand")

    mx.conversation.close()

    assert not list((harness.store.blobs._root / "incoming").iterdir())
    assert await inbox(harness, "ann") == []


@pytest.mark.parametrize("reason", list(Farewell))
async def test_every_farewell_is_a_transient_reply(mx: Talk, reason: Farewell) -> None:
    assert mx.conversation.farewell(reason).startswith(b"421 4.")
