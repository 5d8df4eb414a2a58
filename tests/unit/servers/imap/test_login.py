"""Getting in, and staying out."""

from __future__ import annotations

from base64 import b64encode

import pytest
from app.servers.imap.commands.login import FAILED_LOGINS_LIMIT
from app.servers.imap.conversation import ERRORS_LIMIT, GUEST_COMMANDS, GUEST_SECONDS, IDLE_SECONDS

from tests.harness import Harness
from tests.unit.servers.imap.talk import PASSWORD, USER, Talk, peer

PLAIN = b64encode(f"\0{USER}\0{PASSWORD}".encode())


async def test_the_greeting_tells_what_is_offered(harness: Harness) -> None:
    greeting = bytes(Talk.start(harness).sent)

    assert greeting.startswith(b"* OK [CAPABILITY IMAP4rev1 ")
    for word in (b"IDLE", b"CONDSTORE", b"NOTIFY", b"SPECIAL-USE", b"LITERAL+", b"STARTTLS", b"AUTH=PLAIN"):
        assert word in greeting


async def test_off_loopback_no_password_is_taken_before_tls(harness: Harness) -> None:
    talk = Talk.start(harness, peer(is_loopback=False))

    assert b"LOGINDISABLED" in talk.sent
    assert b"AUTH=" not in talk.sent
    assert (await talk.say(f"LOGIN {USER} {PASSWORD}"))[0].startswith(b"a NO [PRIVACYREQUIRED]")
    assert (await talk.say(b"AUTHENTICATE PLAIN " + PLAIN))[0].startswith(b"a NO [PRIVACYREQUIRED]")


async def test_a_wrong_password_and_an_unknown_user_are_answered_alike(harness: Harness) -> None:
    talk = Talk.start(harness)

    wrong = await talk.say(f"LOGIN {USER} nonsense")
    unknown = await talk.say("LOGIN nobody@example.test nonsense")

    assert wrong == unknown
    assert wrong[0].startswith(b"a NO [AUTHENTICATIONFAILED]")


async def test_after_some_failed_logins_a_client_must_connect_again(harness: Harness) -> None:
    talk = Talk.start(harness)
    for _ in range(FAILED_LOGINS_LIMIT):
        await talk.say(f"LOGIN {USER} nonsense")

    assert (await talk.say(f"LOGIN {USER} {PASSWORD}"))[0].startswith(b"a NO [AUTHENTICATIONFAILED] Too many")


@pytest.mark.parametrize("split", [b"AUTHENTICATE PLAIN " + PLAIN, b"AUTHENTICATE PLAIN\r\n" + PLAIN])
async def test_plain_works_with_and_without_an_initial_response(harness: Harness, split: bytes) -> None:
    answers = await Talk.start(harness).say(split)

    assert answers[-1].startswith(b"a OK [CAPABILITY")


async def test_login_by_sasl_asks_for_name_and_password(harness: Harness) -> None:
    talk = Talk.start(harness)

    assert await talk.say("AUTHENTICATE LOGIN") == [b"+ VXNlcm5hbWU6"]
    assert await talk.feed(b64encode(USER.encode()) + b"\r\n") == b"+ UGFzc3dvcmQ6\r\n"
    assert (await talk.feed(b64encode(PASSWORD.encode()) + b"\r\n")).startswith(b"a OK")


async def test_invalid_base64_ends_that_attempt_alone(harness: Harness) -> None:
    """CVE-2025-59028: it must not end the process, nor hang the session."""
    talk = Talk.start(harness)

    assert await talk.say("AUTHENTICATE PLAIN") == [b"+ "]
    assert (await talk.feed(b"!!!not base64\r\n")).startswith(b"a BAD")
    assert (await talk.say(b"AUTHENTICATE PLAIN " + PLAIN))[-1].startswith(b"a OK")


async def test_an_asterisk_cancels_a_login(harness: Harness) -> None:
    talk = Talk.start(harness)
    await talk.say("AUTHENTICATE PLAIN")

    assert (await talk.feed(b"*\r\n")).startswith(b"a BAD")
    assert (await talk.say("NOOP"))[0].startswith(b"a OK")


async def test_an_overlong_initial_response_is_refused(harness: Harness) -> None:
    talk = Talk.start(harness)

    assert (await talk.say(b"AUTHENTICATE PLAIN " + b"A" * 50_000))[0].startswith(b"a NO [TOOBIG]")
    assert (await talk.say(b"AUTHENTICATE PLAIN " + PLAIN))[-1].startswith(b"a OK")


async def test_nobody_logs_in_twice(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)

    assert (await talk.say(b"AUTHENTICATE PLAIN " + PLAIN))[0].startswith(b"a BAD")
    assert (await talk.say(f"LOGIN {USER} {PASSWORD}"))[0].startswith(b"a BAD")


async def test_no_one_acts_for_another_user(harness: Harness) -> None:
    await harness.add_account("eve@example.test", "eves")
    response = b64encode(f"{USER}\0eve@example.test\0eves".encode())

    answers = await Talk.start(harness).say(b"AUTHENTICATE PLAIN " + response)

    assert not answers[-1].startswith(b"a OK")


async def test_commands_sent_with_starttls_are_never_answered(harness: Harness) -> None:
    """The command injection of 2021: neither before the handshake nor under TLS."""
    talk = Talk.start(harness)

    before = await talk.feed(b"a STARTTLS\r\nb NOOP\r\n")
    under_tls = await talk.feed(b"c NOOP\r\n")

    assert before == b"a OK Begin TLS now\r\n"
    assert talk.tls_started
    assert under_tls == b"c OK NOOP completed\r\n"


async def test_starttls_is_refused_twice_without_a_certificate_and_after_login(harness: Harness) -> None:
    for talk in (
        Talk.start(harness, peer(is_encrypted=True)),
        Talk.start(harness, peer(can_start_tls=False)),
        await Talk.logged_in(harness),
    ):
        assert (await talk.say("STARTTLS"))[0].startswith(b"a BAD")


@pytest.mark.parametrize(
    "command", ["SELECT INBOX", 'LIST "" *', "STATUS INBOX (MESSAGES)", "ENABLE CONDSTORE", "IDLE"]
)
async def test_a_guest_gets_nothing_of_anyone(harness: Harness, command: str) -> None:
    assert (await Talk.start(harness).say(command))[0].startswith(b"a BAD This command is only possible after login")


async def test_a_guest_may_not_talk_for_ever(harness: Harness) -> None:
    talk = Talk.start(harness)
    for _ in range(GUEST_COMMANDS):
        await talk.say("NOOP")

    assert (await talk.say("NOOP"))[-1].startswith(b"* BYE")
    assert talk.ended


async def test_too_many_malformed_commands_end_the_conversation(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)
    for _ in range(ERRORS_LIMIT):
        assert (await talk.say("NOOP (((("))[0].startswith(b"a BAD")

    assert (await talk.say("NOOP (((("))[-1].startswith(b"* BYE")
    assert talk.ended


async def test_a_guest_has_a_minute_and_a_user_half_an_hour(harness: Harness) -> None:
    talk = Talk.start(harness)
    assert talk.conversation.timeout_seconds == GUEST_SECONDS

    await talk.say(f"LOGIN {USER} {PASSWORD}")

    assert talk.conversation.timeout_seconds == IDLE_SECONDS == 1800.0


async def test_a_line_without_end_is_not_held(harness: Harness) -> None:
    """CVE-2026-27857: `NOOP ((((` for ever, on a thousand connections."""
    talk = Talk.start(harness)

    answer = await talk.feed(b"a NOOP " + b"(" * 100_000)

    assert answer.startswith(b"a NO [TOOBIG]")
    for _ in range(20):
        assert await talk.feed(b"(" * 100_000) == b""


async def test_a_guest_can_announce_no_large_literal(harness: Harness) -> None:
    talk = Talk.start(harness)

    assert (await talk.say("LOGIN {1000000}"))[0].startswith(b"a NO [TOOBIG]")
    assert (await talk.say("APPEND INBOX {1000000}"))[0].startswith(b"a NO [TOOBIG]")


async def test_a_guest_may_tell_all_of_the_longest_id(harness: Harness) -> None:
    """RFC 2971 §3.3: up to thirty fields, of 30 and 1024 bytes."""
    talk = Talk.start(harness)
    fields = " ".join(f'"{"f" * 28}{number:02}" "{"v" * 1024}"' for number in range(30))

    assert (await talk.say(f"ID ({fields})"))[-1].startswith(b"a OK")


async def test_logout_says_goodbye_and_answers_nothing_after(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)

    assert await talk.feed(b"a LOGOUT\r\nb NOOP\r\n") == b"* BYE Goodbye\r\na OK Logged out\r\n"
    assert talk.ended


async def test_pipelined_commands_are_answered_in_order(harness: Harness) -> None:
    talk = Talk.start(harness)

    answers = await talk.feed(f"1 LOGIN {USER} {PASSWORD}\r\n2 SELECT INBOX\r\n3 UID FETCH 1:* FLAGS\r\n".encode())

    tagged = [line[:4] for line in answers.split(b"\r\n") if line[:1] in b"123" and line]
    assert tagged == [b"1 OK", b"2 OK", b"3 OK"]


async def test_a_conversation_does_not_depend_on_where_packets_end(harness: Harness) -> None:
    stream = f"1 LOGIN {USER} {{{len(PASSWORD)}+}}\r\n{PASSWORD}\r\n2 SELECT INBOX\r\n3 LOGOUT\r\n".encode()
    whole, bytewise = Talk.start(harness), Talk.start(harness)

    await whole.feed(stream)
    for place in range(len(stream)):
        await bytewise.feed(stream[place : place + 1])

    assert bytewise.sent == whole.sent
    assert whole.ended


async def test_a_password_is_in_no_representation(harness: Harness) -> None:
    talk = Talk.start(harness)
    await talk.say(f"LOGIN {USER} {PASSWORD}")

    assert PASSWORD.encode() not in talk.sent
