"""A client that sends a message again, because its connection was cut before the reply."""

from __future__ import annotations

import asyncio

import pytest
from app.errors import Unavailable
from app.mail.types import AccountId
from app.servers.conversation import ClientLost, Work
from app.servers.smtp import unconfirmed
from app.servers.smtp.unconfirmed import FORGET_SECONDS, Fingerprint, Unconfirmed

from tests.harness import Harness
from tests.unit.servers.smtp.conftest import Visit, inbox, log_in
from tests.unit.servers.smtp.test_submission import BODY, OK, queue, submit
from tests.unit.servers.talk import Talk

MESSAGE = Fingerprint(AccountId("acc_ann"), "ann@demo.test", frozenset(["joe@there.example"]), "<1@laptop>", b"digest")


async def submit_and_lose_the_reply(talk: Talk, *recipients: str, body: bytes = BODY) -> None:
    assert await submit(talk, *recipients, body=body) == OK
    talk.conversation.close()


async def test_a_message_that_is_sent_again_after_a_lost_reply_is_taken_once(harness: Harness, visit: Visit) -> None:
    everybody = ("bob@demo.test", "joe@there.example")
    for _ in range(3):
        await submit_and_lose_the_reply(await log_in(visit), *everybody)

    assert len(await queue(harness)) == 1
    assert len(await inbox(harness, "bob")) == 1


async def test_a_connection_that_ends_while_the_reply_is_sent_leaves_the_message_unconfirmed(
    harness: Harness, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(_: object, __: bytes) -> None:
        raise ClientLost

    cut = await log_in(visit)
    await cut.say(b"MAIL FROM:<ann@demo.test>\r\nRCPT TO:<joe@there.example>\r\nDATA\r\n")
    cut.conversation.receive(BODY + b".\r\n")
    step = cut.conversation.next_step()
    assert isinstance(step, Work)
    monkeypatch.setattr(cut, "send", lambda data: lose(cut, data))
    with pytest.raises(ClientLost):
        await step.run(cut)
    cut.conversation.close()

    assert await submit(await log_in(visit), "joe@there.example") == OK

    assert len(await queue(harness)) == 1


async def test_a_client_that_goes_on_after_the_reply_may_send_the_same_again(harness: Harness, visit: Visit) -> None:
    for _ in range(2):
        talk = await log_in(visit)
        assert await submit(talk, "joe@there.example") == OK
        await talk.say(b"QUIT\r\n")

    assert len(await queue(harness)) == 2


@pytest.mark.parametrize(
    ("recipients", "body"),
    [
        (["amy@there.example"], BODY),
        (["joe@there.example", "amy@there.example"], BODY),
        (["joe@there.example"], BODY + b"More\r\n"),
        (["joe@there.example"], BODY.replace(b"<1@", b"<2@")),
    ],
)
async def test_another_message_is_taken(harness: Harness, visit: Visit, recipients: list[str], body: bytes) -> None:
    await submit_and_lose_the_reply(await log_in(visit), "joe@there.example")
    await submit_and_lose_the_reply(await log_in(visit), *recipients, body=body)

    assert len(await queue(harness)) == 2


async def test_messages_without_a_message_id_are_never_taken_for_the_same(harness: Harness, visit: Visit) -> None:
    for _ in range(2):
        await submit_and_lose_the_reply(await log_in(visit), "joe@there.example", body=b"Subject: x\r\n\r\nHi\r\n")

    assert len(await queue(harness)) == 2


async def test_what_a_session_whose_client_left_still_takes_is_waited_for() -> None:
    messages = Unconfirmed()
    outcomes: list[bool] = []

    async def take() -> None:
        async with messages.turn(MESSAGE) as is_known:
            outcomes.append(is_known)
            await asyncio.sleep(0)
            if not is_known:
                messages.add(MESSAGE)

    await asyncio.gather(take(), take(), take())

    assert outcomes == [False, True, True]


async def test_a_message_that_is_being_taken_for_too_long_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unconfirmed, "TURN_SECONDS", 0)
    messages = Unconfirmed()
    async with messages.turn(MESSAGE):
        with pytest.raises(Unavailable):
            async with messages.turn(MESSAGE):
                pass


async def test_a_message_is_forgotten_after_ten_minutes_and_the_oldest_where_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    messages = Unconfirmed(lambda: now)
    messages.add(MESSAGE)
    now = FORGET_SECONDS + 1
    async with messages.turn(MESSAGE) as is_known:
        assert not is_known

    monkeypatch.setattr(unconfirmed, "_LIMIT", 1)
    other = Fingerprint(MESSAGE.account_id, MESSAGE.sender, MESSAGE.recipients, "<2@laptop>", b"digest")
    messages.add(MESSAGE)
    messages.add(other)
    for message, expected in ((MESSAGE, False), (other, True)):
        async with messages.turn(message) as is_known:
            assert is_known is expected
