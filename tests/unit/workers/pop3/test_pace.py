"""How often a POP3 server is asked."""

from __future__ import annotations

from typing import Any

from app.workers.pop3.account import LONGEST_SECONDS, SHORTEST_SECONDS, PollInterval
from app.workers.pop3.poll import PollOutcome


def outcome(*, has_news: bool = False, delay: int = 0) -> PollOutcome:
    arrived: Any = (object(),) if has_news else ()
    return PollOutcome(arrived, False, delay, 0)


def plain(low: float, high: float) -> float:
    return (low + high) / 2


def test_polls_come_more_seldom_while_nothing_comes_and_soon_after_something_did() -> None:
    pace = PollInterval()
    waits = []
    for _ in range(12):
        pace.after(outcome())
        waits.append(pace.seconds(plain))

    assert waits == sorted(waits)
    assert waits[0] < 60
    assert waits[-1] == LONGEST_SECONDS

    pace.after(outcome(has_news=True))
    assert pace.seconds(plain) == SHORTEST_SECONDS


def test_waits_are_spread() -> None:
    pace = PollInterval()

    assert pace.seconds(lambda low, _: low) < SHORTEST_SECONDS < pace.seconds(lambda _, high: high)


def test_a_server_that_fails_is_asked_more_seldom() -> None:
    pace = PollInterval()
    for _ in range(10):
        pace.failed()

    assert pace.seconds(plain) == LONGEST_SECONDS


def test_a_login_delay_is_never_undercut() -> None:
    pace = PollInterval()
    pace.after(outcome(has_news=True, delay=600))

    assert pace.seconds(lambda low, _: low) == 600
