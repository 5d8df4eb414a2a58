"""Counts of an account: how often they are read, and what each follower is sent of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from app.cluster.bus import LocalBus, Waiter
from app.errors import Unavailable
from app.mail.types import AccountId, MailboxId
from app.services.access.callers import Scope
from app.services.following.counts import MERGE_SECONDS, Counted, Counts, CountsNews, counts_topic, seen_by

from tests.access import caller

ACCOUNT = AccountId("acc_1")
INBOX, SENT = MailboxId("mbx_inbox"), MailboxId("mbx_sent")


class Numbers:
    """Counts that a test sets. `failures`: how many reads fail from now on."""

    def __init__(self) -> None:
        self.values: dict[MailboxId, Counted] = {INBOX: (1, 2), SENT: (0, 5)}
        self.reads = 0
        self.failures = 0

    async def counts(self, account_id: AccountId) -> Mapping[MailboxId, Counted]:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise Unavailable
        return dict(self.values)


class Clock:
    """Pauses that end when the test says so."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self._over = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._over = asyncio.Event()
        await self._over.wait()

    async def end_pause(self) -> None:
        self._over.set()
        await turns()


class Board:
    """Counts on numbers that a test sets, of one account."""

    def __init__(self) -> None:
        self.numbers, self.clock, self.bus = Numbers(), Clock(), LocalBus()
        self.counts = Counts(self.numbers, self.bus, self.clock.sleep)

    async def change(self, **values: Counted) -> None:
        self.numbers.values |= {MailboxId(f"mbx_{name}"): counted for name, counted in values.items()}
        self.bus.poke(ACCOUNT, 1)
        await turns()


@pytest.fixture
async def board() -> Board:
    return Board()


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def shown(news: CountsNews | None) -> dict[str, Any]:
    return {} if news is None else dict(news.counts())


async def test_a_change_is_read_once_for_any_number_of_followers(board: Board) -> None:
    waiters = [Waiter() for _ in range(200)]
    watches = [board.counts.watch(ACCOUNT, waiter) for waiter in waiters]
    await turns()

    assert board.numbers.reads == 1
    assert all(counts_topic(ACCOUNT) in waiter.topics for waiter in waiters)
    assert {tuple(shown(watch.news(None)).items()) for watch in watches} == {((INBOX, (1, 2)), (SENT, (0, 5)))}


async def test_changes_within_a_second_are_read_and_sent_together(board: Board) -> None:
    watch = board.counts.watch(ACCOUNT, Waiter())
    await turns()
    watch.news(None)
    for unread in range(50):
        await board.change(inbox=(unread, 60))

    assert (board.numbers.reads, board.clock.pauses) == (1, [MERGE_SECONDS])
    assert watch.news(None) is None
    await board.clock.end_pause()
    assert board.numbers.reads == 2
    assert shown(watch.news(None)) == {INBOX: (49, 60)}


async def test_nothing_is_read_while_nothing_changes(board: Board) -> None:
    board.counts.watch(ACCOUNT, Waiter())
    for _ in range(3):
        await turns()
        await board.clock.end_pause()

    assert board.numbers.reads == 1


async def test_a_change_that_leaves_the_counts_as_they_are_wakes_nobody(board: Board) -> None:
    waiter = Waiter()
    watch = board.counts.watch(ACCOUNT, waiter)
    await turns()
    await board.clock.end_pause()
    watch.news(None)
    await waiter.wait(0)
    await board.change()

    assert board.numbers.reads == 2
    assert waiter.topics == set()


async def test_a_follower_that_missed_counts_is_sent_all_of_them(board: Board) -> None:
    watch = board.counts.watch(ACCOUNT, Waiter())
    await turns()
    watch.news(None)
    await board.clock.end_pause()
    await board.change(inbox=(2, 3))
    await board.clock.end_pause()
    await board.change(inbox=(3, 4))

    assert shown(watch.news(None)) == {INBOX: (3, 4), SENT: (0, 5)}


async def test_all_counts_come_again_after_a_renewal_and_when_the_sight_changes(board: Board) -> None:
    waiter = Waiter()
    watch = board.counts.watch(ACCOUNT, waiter)
    await turns()
    watch.news(None)

    assert shown(watch.news(frozenset({SENT}))) == {SENT: (0, 5)}
    assert shown(watch.news(None)) == {INBOX: (1, 2), SENT: (0, 5)}
    await waiter.wait(0)
    watch.renew()
    assert counts_topic(ACCOUNT) in waiter.topics
    assert shown(watch.news(None)) == {INBOX: (1, 2), SENT: (0, 5)}


async def test_a_mailbox_out_of_sight_is_in_no_counts(board: Board) -> None:
    watch = board.counts.watch(ACCOUNT, Waiter())
    await turns()

    assert shown(watch.news(frozenset({INBOX}))) == {INBOX: (1, 2)}
    await board.clock.end_pause()
    await board.change(sent=(0, 6))
    assert watch.news(frozenset({INBOX})) is None


async def test_a_database_that_does_not_answer_is_asked_again_after_a_pause(board: Board) -> None:
    board.numbers.failures = 2
    watch = board.counts.watch(ACCOUNT, Waiter())
    for _ in range(2):
        await turns()
        assert watch.news(None) is None
        await board.clock.end_pause()

    assert board.numbers.reads == 3
    assert shown(watch.news(None)) == {INBOX: (1, 2), SENT: (0, 5)}
    assert len(set(board.clock.pauses[:2])) == 2  # spread at random


async def test_an_account_that_nobody_watches_is_not_read(board: Board) -> None:
    first, second = (board.counts.watch(ACCOUNT, Waiter()) for _ in range(2))
    await turns()
    first.close()
    second.close()
    await board.clock.end_pause()
    await board.change(inbox=(7, 7))

    assert board.numbers.reads == 1
    assert board.bus.heard() == {}
    assert board.counts.news.heard() == {}


@pytest.mark.parametrize(
    ("limits", "wanted", "seen"),
    [
        ({}, None, None),
        ({}, frozenset({SENT}), frozenset({SENT})),
        ({"mailbox_ids": frozenset({INBOX})}, None, frozenset({INBOX})),
        ({"mailbox_ids": frozenset({INBOX})}, frozenset({INBOX, SENT}), frozenset({INBOX})),
        ({"scopes": frozenset({Scope.PUSH})}, None, frozenset()),
    ],
)
def test_counts_are_of_the_mailboxes_that_are_wanted_and_may_be_read(
    limits: dict[str, Any], wanted: frozenset[str] | None, seen: frozenset[str] | None
) -> None:
    assert seen_by(caller(**limits), wanted) == seen
