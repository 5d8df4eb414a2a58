"""Guessing recipients is held up, and known ones get their mail meanwhile."""

from __future__ import annotations

import pytest
from app.servers.smtp.conversation import UNKNOWN_LIMIT
from app.servers.smtp.recipient_probes import (
    FORGET_SECONDS,
    FREE,
    PAUSE_LIMIT_SECONDS,
    WAIT_LIMIT_SECONDS,
    RecipientProbes,
)

from tests.unit.servers.talk import Talk

ADDRESS = "192.0.2.1"


class Time:
    """A clock that moves only when somebody sleeps, or as a test says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.is_still = False

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self.is_still:
            self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def guesses(time: Time) -> RecipientProbes:
    return RecipientProbes(lambda: time.now, time.sleep)


async def test_the_first_mistakes_cost_nothing(guesses: RecipientProbes, time: Time) -> None:
    for _ in range(FREE):
        assert await guesses.wait(ADDRESS)
        guesses.add(ADDRESS)

    assert time.slept == []


async def test_each_further_guess_waits_longer_up_to_a_limit(guesses: RecipientProbes, time: Time) -> None:
    for _ in range(60):
        assert await guesses.wait(ADDRESS)
        guesses.add(ADDRESS)

    assert time.slept == sorted(time.slept)
    assert len(time.slept) == 60 - FREE
    assert time.slept[-1] == PAUSE_LIMIT_SECONDS


async def test_many_connections_of_one_address_wait_for_each_other(guesses: RecipientProbes, time: Time) -> None:
    for _ in range(100):
        guesses.add(ADDRESS)
    time.is_still = True

    let_in = [await guesses.wait(ADDRESS) for _ in range(100)]

    assert sum(let_in) == WAIT_LIMIT_SECONDS / PAUSE_LIMIT_SECONDS
    assert time.slept == sorted(time.slept)


async def test_another_address_does_not_wait_and_mistakes_are_forgotten(guesses: RecipientProbes, time: Time) -> None:
    for _ in range(FREE + 1):
        guesses.add(ADDRESS)

    assert await guesses.wait("192.0.2.2")
    time.now += 2 * FORGET_SECONDS
    assert await guesses.wait(ADDRESS)
    assert time.slept == []


async def test_a_session_that_guesses_is_cut(mx: Talk) -> None:
    await mx.say(b"MAIL FROM:<x@there.example>\r\n")

    answer = await mx.say(b"".join(b"RCPT TO:<guess%d@demo.test>\r\n" % number for number in range(100)))

    assert answer.count(b"550 5.1.1 ") == UNKNOWN_LIMIT
    assert answer.endswith(b"421 4.7.0 Too many unknown recipients\r\n")
    assert mx.is_over


async def test_a_mail_server_in_front_may_ask_for_many(lmtp: Talk) -> None:
    await lmtp.say(b"MAIL FROM:<x@there.example>\r\n")

    answer = await lmtp.say(b"".join(b"RCPT TO:<guess%d@demo.test>\r\n" % number for number in range(15)))

    assert answer.count(b"550 5.1.1 ") == 15
