"""Our own users' mail: the submission role."""

from __future__ import annotations

import base64

import orjson
import pytest
from app.cluster.bus import SUBMISSIONS, listening
from app.db import submissions
from app.mail.types import AccountId
from app.servers.smtp import ListenerRole

from tests.harness import Harness
from tests.unit.servers.smtp.conftest import Visit, inbox
from tests.unit.servers.talk import Talk

BODY = (
    b"From: ann@demo.test\r\nSubject: Hi\r\nMessage-ID: <1@laptop.example>\r\n"
    b"Date: Tue, 24 Nov 2026 06:00:00 +0000\r\n\r\nHello\r\n"
)
OK = b"250 2.0.0 Ok\r\n"


def b64(text: str) -> bytes:
    return base64.b64encode(text.encode())


async def account(harness: Harness, name: str) -> AccountId:
    account_id = await harness.deliveries.account_of(f"{name}@demo.test")
    assert account_id is not None
    return account_id


async def queue(harness: Harness, name: str = "ann") -> list[submissions.Submission]:
    return await submissions.page(harness.database, await account(harness, name), 100)


async def submit(talk: Talk, *recipients: str, body: bytes = BODY) -> bytes:
    envelope = "MAIL FROM:<ann@demo.test>\r\n" + "".join(f"RCPT TO:<{one}>\r\n" for one in recipients)
    await talk.say(envelope.encode() + b"DATA\r\n")
    return await talk.say(body + b".\r\n")


async def test_mail_to_another_user_is_delivered_at_once(harness: Harness, ann: Talk) -> None:
    assert await submit(ann, "bob@demo.test") == OK

    (content,) = await inbox(harness, "bob")
    assert content.startswith(b"Return-Path: <ann@demo.test>\r\nReceived: from laptop.example ([127.0.0.1])\r\n")
    assert b" with ESMTPA id " in content
    assert content.endswith(BODY)
    assert await queue(harness) == []


async def test_mail_to_the_world_is_queued_before_250_is_said(harness: Harness, ann: Talk) -> None:
    with listening(harness.bus, SUBMISSIONS) as waiter:
        assert await submit(ann, "joe@there.example", "amy@there.example") == OK
        assert await waiter.wait(0) == {SUBMISSIONS}

    (row,) = await queue(harness)
    assert (row.status, row.sender, row.message_id_header) == ("queued", "ann@demo.test", "<1@laptop.example>")
    assert [one[:2] for one in orjson.loads(row.recipients)] == [
        ["joe@there.example", "pending"],
        ["amy@there.example", "pending"],
    ]
    assert orjson.loads(row.options)["is_from_client"] is True
    content = await harness.store.blobs.get(row.blob or "")
    assert content.startswith(b"Received: from laptop.example")
    assert content.endswith(BODY)
    assert row.size_bytes == len(content)
    events = await harness.log.after(row_account := AccountId(row.account_id), 0, 100)
    assert [event.type for event in events if event.subject == row.id] == ["submission.queued"]
    assert await harness.contents(row_account, "Sent") == []


async def test_mail_to_the_world_is_refused_at_once_where_it_cannot_leave(harness: Harness, ann: Talk) -> None:
    harness.deliveries.has_smarthost = False
    envelope = b"MAIL FROM:<ann@demo.test>\r\nRCPT TO:<bob@demo.test>\r\nRCPT TO:<joe@there.example>\r\n"

    assert (await ann.say(envelope)).splitlines()[1:] == [
        b"250 2.1.5 Ok",
        b"550 5.4.4 Cannot send to other domains: no smarthost is configured",
    ]
    await ann.say(b"DATA\r\n")
    assert await ann.say(BODY + b".\r\n") == OK
    assert len(await inbox(harness, "bob")) == 1
    assert await queue(harness) == []


async def test_one_message_may_stay_here_and_leave(harness: Harness, ann: Talk) -> None:
    assert await submit(ann, "bob@demo.test", "joe@there.example") == OK

    (content,) = await inbox(harness, "bob")
    (row,) = await queue(harness)
    assert content == b"Return-Path: <ann@demo.test>\r\n" + await harness.store.blobs.get(row.blob or "")
    assert [one[0] for one in orjson.loads(row.recipients)] == ["joe@there.example"]


async def test_date_and_message_id_are_added_where_the_client_left_them_out(harness: Harness, ann: Talk) -> None:
    assert await submit(ann, "joe@there.example", body=b"Subject: Bare\r\n\r\nHello\r\n") == OK

    (row,) = await queue(harness)
    content = await harness.store.blobs.get(row.blob or "")
    assert f"\r\nMessage-ID: {row.message_id_header}\r\n".encode() in content
    assert row.message_id_header.endswith("@mail.demo.test>")
    assert b"\r\nDate: " in content


@pytest.mark.parametrize("line", [b"MAIL FROM:<ann@demo.test>\r\n", b"MAIL FROM:<>\r\n"])
async def test_without_login_nothing_is_taken(visit: Visit, line: bytes) -> None:
    talk = visit(ListenerRole.SUBMISSION)
    await talk.say(b"EHLO x\r\n")

    assert await talk.say(line) == b"530 5.7.0 Authentication required\r\n"


@pytest.mark.parametrize("sender", ["bob@demo.test", "ann@evil.test", "ann@sub.demo.test", "+x@demo.test"])
async def test_a_sender_that_is_not_the_users_is_refused(ann: Talk, sender: str) -> None:
    assert (await ann.say(f"MAIL FROM:<{sender}>\r\n".encode())).startswith(b"553 5.7.1 ")
    assert (await ann.say(b"RCPT TO:<bob@demo.test>\r\n")).startswith(b"503 ")


@pytest.mark.parametrize("sender", ["ANN@demo.test", "ann+list@demo.test", ""])
async def test_the_users_address_may_be_spelled_otherwise_extended_or_left_empty(ann: Talk, sender: str) -> None:
    assert await ann.say(f"MAIL FROM:<{sender}>\r\n".encode()) == b"250 2.1.0 Ok\r\n"


async def test_a_local_name_that_nobody_has_is_refused_even_from_users(ann: Talk) -> None:
    answers = await ann.say(b"MAIL FROM:<ann@demo.test>\r\nRCPT TO:<nobody@demo.test>\r\n")

    assert answers.endswith(b"550 5.1.1 No such user here\r\n")


# ---- AUTH


async def test_login_asks_for_name_and_password(visit: Visit) -> None:
    talk = visit(ListenerRole.SUBMISSION)

    assert b"250 AUTH PLAIN LOGIN\r\n" in await talk.say(b"EHLO x\r\n")
    assert await talk.say(b"AUTH LOGIN\r\n") == b"334 VXNlcm5hbWU6\r\n"
    assert await talk.say(b64("ann@demo.test") + b"\r\n") == b"334 UGFzc3dvcmQ6\r\n"
    assert await talk.say(b64("secret") + b"\r\n") == b"235 2.7.0 Welcome\r\n"


async def test_plain_may_send_its_response_later(visit: Visit) -> None:
    talk = visit(ListenerRole.SUBMISSION)
    await talk.say(b"EHLO x\r\n")

    assert await talk.say(b"AUTH PLAIN\r\n") == b"334 \r\n"
    assert await talk.say(b64("\0ann@demo.test\0secret") + b"\r\n") == b"235 2.7.0 Welcome\r\n"


async def test_a_wrong_password_is_refused_and_the_third_ends_the_session(visit: Visit) -> None:
    talk = visit(ListenerRole.SUBMISSION)
    await talk.say(b"EHLO x\r\n")
    attempt = b"AUTH PLAIN " + b64("\0ann@demo.test\0wrong") + b"\r\n"

    assert (await talk.say(attempt)).startswith(b"535 5.7.8 ")
    assert (await talk.say(attempt)).startswith(b"535 5.7.8 ")
    assert b"421 4.7.0 " in await talk.say(attempt)
    assert talk.is_over


@pytest.mark.parametrize("response", [b"*\r\n", b"!!!\r\n", b"\r\n", b"YQ==\r\n"])
async def test_invalid_base64_and_cancelling_end_that_attempt_alone(visit: Visit, response: bytes) -> None:
    talk = visit(ListenerRole.SUBMISSION)
    await talk.say(b"EHLO x\r\nAUTH PLAIN\r\n")

    assert (await talk.say(response)).startswith(b"501 5.5.2 ")
    assert await talk.say(b"AUTH PLAIN " + b64("\0ann@demo.test\0secret") + b"\r\n") == b"235 2.7.0 Welcome\r\n"


async def test_an_over_long_initial_response_is_refused(visit: Visit) -> None:
    talk = visit(ListenerRole.SUBMISSION)
    await talk.say(b"EHLO x\r\n")

    assert (await talk.say(b"AUTH PLAIN " + b"A" * 9_000 + b"\r\n")).startswith(b"501 5.5.2 ")
    assert (await talk.say(b"AUTH PLAIN " + b"A" * 13_000 + b"\r\n")).startswith(b"500 5.5.2 ")
    assert talk.is_over


async def test_a_second_login_is_refused(ann: Talk) -> None:
    assert (await ann.say(b"AUTH PLAIN\r\n")).startswith(b"503 5.5.1 ")


async def test_a_password_is_not_taken_in_the_clear_off_loopback(visit: Visit) -> None:
    talk = visit(ListenerRole.SUBMISSION, "192.0.2.1")

    assert b"AUTH" not in await talk.say(b"EHLO x\r\n")
    assert (await talk.say(b"AUTH PLAIN\r\n")).startswith(b"538 5.7.11 ")
    assert await talk.say(b"STARTTLS\r\n") == b"220 2.0.0 Go ahead\r\n"
    assert b"AUTH PLAIN LOGIN" in await talk.say(b"EHLO x\r\n")
    assert await talk.say(b"AUTH PLAIN " + b64("\0ann@demo.test\0secret") + b"\r\n") == b"235 2.7.0 Welcome\r\n"


async def test_other_mechanisms_are_not_offered(visit: Visit) -> None:
    talk = visit(ListenerRole.SUBMISSION)
    await talk.say(b"EHLO x\r\n")

    assert (await talk.say(b"AUTH CRAM-MD5\r\n")).startswith(b"504 5.5.4 ")
