"""How often mailboxes are asked for their numbers: by who follows the account, and not all accounts at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import cast

import pytest
from app.backends.imap.session import ClientSession
from app.backends.imap.watching import sweeping as module
from app.backends.imap.watching.pending_changes import PendingChanges
from app.backends.imap.watching.sweeping import SWEEP_SECONDS, UNFOLLOWED_SWEEP_SECONDS, Sweeping
from app.mail.backend import OriginMailbox


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def quiet_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server where nothing ever happens."""

    async def list_mailboxes(_: ClientSession) -> list[OriginMailbox]:
        return []

    monkeypatch.setattr(module, "list_mailboxes", list_mailboxes)


def begun(clock: Clock, is_followed: Callable[[], bool]) -> Sweeping:
    return Sweeping(PendingChanges((), clock), clock, is_followed)


async def times(sweeping: Sweeping, clock: Clock, count: int) -> list[float]:
    """When the next sweeps are, each made as soon as it is due."""
    found = []
    for _ in range(count):
        clock.now = max(clock.now, sweeping.next_at)
        found.append(clock.now)
        await sweeping.sweep(cast("ClientSession", None))
    return found


async def test_a_followed_account_is_swept_every_five_seconds_at_least() -> None:
    clock = Clock()

    found = await times(begun(clock, lambda: True), clock, 50)

    assert all(after - before <= SWEEP_SECONDS[1] <= 5.0 for before, after in pairwise(found))


async def test_an_account_that_nobody_follows_is_swept_more_and_more_rarely() -> None:
    clock = Clock()

    found = await times(begun(clock, lambda: False), clock, 50)

    intervals = [after - before for before, after in pairwise(found)]
    assert intervals[0] < 5.0
    assert all(UNFOLLOWED_SWEEP_SECONDS * 0.8 <= one <= UNFOLLOWED_SWEEP_SECONDS for one in intervals[20:])


async def test_an_account_that_somebody_begins_to_follow_is_swept_at_once() -> None:
    clock, followed = Clock(), [False]
    sweeping = begun(clock, lambda: followed[0])
    await times(sweeping, clock, 20)
    clock.now += 10

    assert sweeping.next_at > clock.now + 30
    followed[0] = True

    assert sweeping.next_at <= clock.now
    assert max(after - before for before, after in pairwise(await times(sweeping, clock, 20))) <= SWEEP_SECONDS[1]


async def test_accounts_that_began_together_are_not_swept_together() -> None:
    ends = set()
    for _ in range(20):
        clock = Clock()
        ends.add((await times(begun(clock, lambda: True), clock, 20))[-1])

    assert len(ends) == 20
    assert max(ends) - min(ends) > 0.5
