"""Mail from elsewhere: the MX and LMTP faces."""

from __future__ import annotations

from io import BufferedWriter, FileIO

import pytest
from app.mailstore.blobs import CHUNK_BYTES, BlobWriter
from app.servers.smtp import ListenerRole

from tests.harness import Harness
from tests.unit.servers.smtp.conftest import LIMIT, Visit, inbox
from tests.unit.servers.talk import Talk

ENVELOPE = b"MAIL FROM:<joe@there.example>\r\nRCPT TO:<ann@demo.test>\r\n"
BODY = b"Subject: Hi\r\nMessage-ID: <1@there.example>\r\n\r\nHello\r\n"
OK = b"250 2.0.0 Ok\r\n"


async def test_a_message_for_a_local_user_is_in_the_inbox_when_250_is_said(harness: Harness, visit: Visit) -> None:
    mx = visit(ListenerRole.MX)

    assert mx.greeting == b"220 mail.demo.test ESMTP Postgate\r\n"
    assert await mx.say(b"EHLO there.example\r\n") == (
        b"250-mail.demo.test\r\n250-PIPELINING\r\n250-SIZE %d\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
        b"250-ENHANCEDSTATUSCODES\r\n250-CHUNKING\r\n250-LIMITS RCPTMAX=100\r\n250 STARTTLS\r\n" % LIMIT
    )
    assert await mx.say(b"MAIL FROM:<joe@there.example>\r\n") == b"250 2.1.0 Ok\r\n"
    assert await mx.say(b"RCPT TO:<ann@demo.test>\r\n") == b"250 2.1.5 Ok\r\n"
    assert await mx.say(b"DATA\r\n") == b"354 End data with <CRLF>.<CRLF>\r\n"
    assert await mx.say(BODY + b"..dot\r\n.\r\n") == OK

    (content,) = await inbox(harness, "ann")
    assert content.startswith(
        b"Return-Path: <joe@there.example>\r\nReceived: from there.example ([127.0.0.1])\r\n"
        b"\tby mail.demo.test with ESMTP id in_"
    )
    assert b"\r\n\tfor <ann@demo.test>;\r\n\t" in content
    assert content.endswith(b"\r\n" + BODY + b".dot\r\n")
    assert await mx.say(b"QUIT\r\n") == b"221 2.0.0 Bye\r\n"
    assert mx.is_over


async def test_a_whole_session_may_be_pipelined_and_split_anywhere(harness: Harness, visit: Visit) -> None:
    session = b"EHLO there.example\r\n" + ENVELOPE + b"DATA\r\n" + BODY + b".\r\nRSET\r\nQUIT\r\n"

    whole = await visit(ListenerRole.MX).say(session)
    bytewise = await visit(ListenerRole.MX).say_bytewise(session)

    assert whole == bytewise
    assert whole.endswith(b"354 End data with <CRLF>.<CRLF>\r\n" + OK + OK + b"221 2.0.0 Bye\r\n")
    assert [content.endswith(BODY) for content in await inbox(harness, "ann")] == [True, True]


async def test_one_message_goes_to_each_of_its_recipients_once(harness: Harness, mx: Talk) -> None:
    await mx.say(ENVELOPE + b"RCPT TO:<bob@demo.test>\r\nRCPT TO:<ANN+shop@Demo.Test>\r\nDATA\r\n")

    assert await mx.say(BODY + b".\r\n") == OK
    (for_ann,), (for_bob,) = await inbox(harness, "ann"), await inbox(harness, "bob")
    assert for_ann == for_bob
    assert b"\tfor <" not in for_ann


async def test_lmtp_replies_for_each_recipient(harness: Harness, lmtp: Talk) -> None:
    recipients = b"RCPT TO:<bob@demo.test>\r\nRCPT TO:<nobody@demo.test>\r\nRCPT TO:<ann+x@demo.test>\r\n"
    answers = await lmtp.say(ENVELOPE + recipients + b"DATA\r\n")

    assert answers.count(b"250 2.1.5 Ok\r\n") == 3
    assert b"550 5.1.1 No such user here\r\n" in answers
    assert await lmtp.say(BODY + b".\r\n") == OK * 3
    assert len(await inbox(harness, "ann")) == len(await inbox(harness, "bob")) == 1


async def test_lmtp_refuses_a_spoiled_message_for_each_recipient(harness: Harness, lmtp: Talk) -> None:
    await lmtp.say(ENVELOPE + b"RCPT TO:<bob@demo.test>\r\nDATA\r\n")

    answer = await lmtp.say(b"a\nb\r\n.\r\n")

    assert answer.count(b"554 5.6.0 ") == 2
    assert await inbox(harness, "ann") == []


@pytest.mark.parametrize(
    ("role", "line"),
    [(ListenerRole.LMTP, b"EHLO x\r\n"), (ListenerRole.LMTP, b"HELO x\r\n"), (ListenerRole.MX, b"LHLO x\r\n")],
)
async def test_each_protocol_has_its_own_hello(visit: Visit, role: ListenerRole, line: bytes) -> None:
    assert (await visit(role).say(line)).startswith(b"500 5.5.1 ")


async def test_mx_relays_nothing(harness: Harness, mx: Talk) -> None:
    answers = await mx.say(
        b"MAIL FROM:<ann@demo.test>\r\nRCPT TO:<eve@evil.test>\r\nRCPT TO:<nobody@demo.test>\r\n"
        b"RCPT TO:<ann%evil.test@demo.test>\r\nRCPT TO:<@demo.test:eve@evil.test>\r\nDATA\r\n"
    )

    assert answers.splitlines() == [
        b"250 2.1.0 Ok",
        b"550 5.7.1 Relaying denied",
        b"550 5.1.1 No such user here",
        b"550 5.1.1 No such user here",
        b"550 5.7.1 Relaying denied",
        b"554 5.5.1 No valid recipients",
    ]


async def test_mx_and_lmtp_offer_no_login(visit: Visit) -> None:
    for role in (ListenerRole.MX, ListenerRole.LMTP):
        talk = visit(role)
        assert b"AUTH" not in await talk.say(b"LHLO x\r\n" if role is ListenerRole.LMTP else b"EHLO x\r\n")
        assert await talk.say(b"AUTH PLAIN\r\n") == b"500 5.5.1 Command not recognized\r\n"


async def test_commands_out_of_order_are_refused(visit: Visit) -> None:
    talk = visit(ListenerRole.MX)

    assert await talk.say(b"MAIL FROM:<a@b.test>\r\n") == b"503 5.5.1 Bad sequence of commands\r\n"
    await talk.say(b"EHLO x\r\n")
    assert await talk.say(b"RCPT TO:<ann@demo.test>\r\n") == b"503 5.5.1 Bad sequence of commands\r\n"
    assert await talk.say(b"DATA\r\n") == b"503 5.5.1 Bad sequence of commands\r\n"
    await talk.say(b"MAIL FROM:<a@b.test>\r\n")
    assert await talk.say(b"MAIL FROM:<a@b.test>\r\n") == b"503 5.5.1 Bad sequence of commands\r\n"
    assert await talk.say(b"DATA\r\n") == b"554 5.5.1 No valid recipients\r\n"
    assert await talk.say(b"RSET\r\n" + ENVELOPE) == OK + b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"


async def test_a_message_may_come_in_chunks(harness: Harness, mx: Talk) -> None:
    """BDAT (RFC 3030): no dots are doubled, the last line may lack its end."""
    answers = await mx.say_bytewise(
        ENVELOPE + b"BDAT 12\r\nSubject: A\r\nBDAT 9\r\n\r\n..\r\n.\r\nBDAT 3 LAST\r\nendQUIT\r\n"
    )

    assert answers.endswith(b"250 2.1.5 Ok\r\n" + OK * 3 + b"221 2.0.0 Bye\r\n")
    (content,) = await inbox(harness, "ann")
    assert content.endswith(b"Subject: A\r\n\r\n..\r\n.\r\nend\r\n")


async def test_a_chunk_that_is_refused_is_never_read_as_commands(harness: Harness, mx: Talk) -> None:
    hidden = b"MAIL FROM:<a@b.test>\r\n"

    assert await mx.say(b"BDAT %d LAST\r\n" % len(hidden) + hidden) == b"503 5.5.1 Bad sequence of commands\r\n"
    await mx.say(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<nobody@demo.test>\r\n")
    assert await mx.say(b"BDAT %d LAST\r\n" % len(hidden) + hidden) == b"554 5.5.1 No valid recipients\r\n"
    assert await mx.say(b"NOOP\r\n") == OK


@pytest.mark.parametrize(
    "line", [b"BDAT\r\n", b"BDAT x\r\n", b"BDAT -1\r\n", b"BDAT 99999999999999\r\n", b"BDAT 999999999\r\n"]
)
async def test_a_chunk_of_no_known_size_ends_the_session(mx: Talk, line: bytes) -> None:
    await mx.say(ENVELOPE)

    assert (await mx.say(line))[:4] in (b"501 ", b"552 ")
    assert mx.is_over


async def test_a_message_that_is_too_large_is_refused_by_its_announcement_or_its_size(
    harness: Harness, mx: Talk
) -> None:
    assert (await mx.say(b"MAIL FROM:<a@b.test> SIZE=%d\r\n" % (LIMIT + 1))).startswith(b"552 5.3.4 ")
    await mx.say(ENVELOPE + b"DATA\r\n")
    assert await mx.say(*[b"x" * 998 + b"\r\n"] * (LIMIT // 1000 + 1)) == b""
    assert (await mx.say(b".\r\n")).startswith(b"552 5.3.4 ")
    await mx.say(ENVELOPE)
    chunk = b"BDAT 300000\r\n" + b"y" * 299_998 + b"\r\n"
    assert await mx.say(chunk) == OK
    assert (await mx.say(chunk)).startswith(b"552 5.3.4 ")
    assert await mx.say(ENVELOPE + b"DATA\r\n" + BODY + b".\r\n") == (
        b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CRLF>.<CRLF>\r\n" + OK
    )

    assert len(await inbox(harness, "ann")) == 1
    assert not list((harness.store.blobs._root / "incoming").iterdir())


async def test_a_message_in_circles_is_refused(harness: Harness, mx: Talk) -> None:
    await mx.say(ENVELOPE + b"DATA\r\n")

    assert (await mx.say(b"Received: by a\r\n" * 60 + BODY + b".\r\n")).startswith(b"554 5.4.6 ")
    assert await inbox(harness, "ann") == []


async def test_a_header_without_end_is_bounded(harness: Harness, mx: Talk) -> None:
    await mx.say(ENVELOPE + b"DATA\r\n")

    assert await mx.say(*[b"X-Long: " + b"x" * 900 + b"\r\n"] * 350, b".\r\n") == OK
    (content,) = await inbox(harness, "ann")
    assert content.count(b"X-Long: ") == 350


@pytest.mark.parametrize("body_bytes", [100, 300_000])
async def test_a_full_disk_defers_the_message(
    harness: Harness, mx: Talk, monkeypatch: pytest.MonkeyPatch, body_bytes: int
) -> None:
    """Whether it is noticed while the message comes in, or when it is put on disk at its end."""
    make = harness.store.blobs.writer

    def writer() -> BlobWriter:
        made = make()
        made._file = BufferedWriter(FileIO("/dev/full", "w"), CHUNK_BYTES)
        return made

    monkeypatch.setattr(harness.store.blobs, "writer", writer)
    await mx.say(ENVELOPE + b"DATA\r\n")

    assert await mx.say(BODY, *[b"x" * 98 + b"\r\n"] * (body_bytes // 100), b".\r\n") == (
        b"452 4.3.1 Insufficient storage\r\n"
    )
    assert not list((harness.store.blobs._root / "incoming").iterdir())


async def test_an_account_that_went_meanwhile_is_no_user(harness: Harness, mx: Talk) -> None:
    await mx.say(ENVELOPE + b"DATA\r\n")
    account_id = await harness.deliveries.account_of("ann@demo.test")
    assert account_id is not None
    await harness.remove_account(account_id)

    assert await mx.say(BODY + b".\r\n") == b"550 5.1.1 No such user here\r\n"


async def test_letters_beyond_ascii_need_smtputf8(harness: Harness, mx: Talk) -> None:
    await harness.add_account("jürgen@demo.test")

    assert (await mx.say("MAIL FROM:<ö@there.example>\r\n".encode())).startswith(b"553 5.6.7 ")
    await mx.say("MAIL FROM:<ö@there.example> SMTPUTF8 BODY=8BITMIME\r\n".encode())
    assert await mx.say("RCPT TO:<JÜRGEN@demo.test>\r\nDATA\r\n".encode()) == (
        b"250 2.1.5 Ok\r\n354 End data with <CRLF>.<CRLF>\r\n"
    )
    assert await mx.say(BODY + b".\r\n") == OK
    (content,) = await inbox(harness, "jürgen")
    assert content.startswith("Return-Path: <ö@there.example>\r\n".encode())
    assert b" with UTF8SMTP id " in content


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"EHLO\r\n", b"501"),
        (b"EHLO a b\r\n", b"501"),
        (b"MAIL FROM:joe\r\n", b"501"),
        (b"MAIL FROM:<a@b.test> FOO=1\r\n", b"555"),
        (b"MAIL FROM:<a@b.test> SIZE=x\r\n", b"501"),
        (b"MAIL FROM:<a@b.test> BODY=BINARYMIME\r\n", b"501"),
        (b"STARTTLS now\r\n", b"501"),
        (b"EXPN list\r\n", b"500"),
        (b"VRFY ann\r\n", b"252"),
        (b"HELP\r\n", b"214"),
        (b"FOO\r\n", b"500"),
        (b"\r\n", b"500"),
        (b"NOOP\n", b"500"),
        (b"NOOP \x00\r\n", b"500"),
    ],
)
async def test_every_command_has_its_answer(mx: Talk, line: bytes, code: bytes) -> None:
    assert (await mx.say(line)).startswith(code)


async def test_delivery_status_parameters_are_let_pass(mx: Talk) -> None:
    answers = await mx.say(
        b"MAIL FROM:<a@b.test> RET=HDRS ENVID=QQ314159 AUTH=<>\r\n"
        b"RCPT TO:<ann@demo.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;ann@demo.test\r\n"
    )

    assert answers == b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n"
