from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from app.services.oauth import backoff as pauses_module
from app.services.oauth.backoff import TRIAL_SECONDS, Backoff


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def growing() -> Iterator[float]:
    yield from map(float, count(1))


def test_what_failed_is_left_alone_for_longer_and_longer() -> None:
    clock = Clock()
    pauses = Backoff(growing, clock)
    lengths = []
    for _ in range(3):
        pauses.begin("a")
        pauses.failed("a")
        start = clock.now
        while pauses.is_paused("a"):
            clock.now += 0.5
        lengths.append(clock.now - start)

    assert lengths == [1.0, 2.0, 3.0]
    assert not pauses.is_paused("b")


def test_many_that_fail_at_once_count_once() -> None:
    clock = Clock()
    pauses = Backoff(growing, clock)
    for _ in range(50):
        pauses.failed("a")
    clock.now += 1.0

    assert not pauses.is_paused("a")


def test_after_a_pause_one_tries_and_the_others_wait_for_it() -> None:
    clock = Clock()
    pauses = Backoff(growing, clock)
    pauses.failed("a")
    clock.now += 1.0

    pauses.begin("a")
    assert pauses.is_paused("a")
    pauses.succeeded("a")
    assert not pauses.is_paused("a")


def test_one_who_tries_and_says_nothing_is_waited_for_no_longer_than_its_deadline() -> None:
    clock = Clock()
    pauses = Backoff(growing, clock)
    pauses.failed("a")
    clock.now += 1.0
    pauses.begin("a")
    clock.now += TRIAL_SECONDS

    assert not pauses.is_paused("a")


def test_no_more_pauses_are_remembered_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses_module, "LIMIT", 10)
    clock = Clock()
    pauses = Backoff(growing, clock)
    for number in range(1000):
        pauses.failed(str(number))
        clock.now += 2.0

    assert len(pauses) <= 10
