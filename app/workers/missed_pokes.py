"""Finds events whose poke was lost: a poke can be lost, an event cannot."""

from __future__ import annotations

import random
from collections.abc import Sequence

from app.cluster.bus import ACCESS, ACCOUNTS, Bus, Waiter
from app.mailstore.log import EventLog
from app.workers.loop import forever

LOOK_SECONDS = 60.0
"""Longest delay of an event whose poke was lost."""
ACCOUNTS_AT_ONCE = 500


class MissedPokeCheck:
    """Compares the last event of every followed account with the last one announced on the bus.

    It serves everything that waits on the bus: streams, long polls, IMAP sessions in IDLE. Call `run`, or `round` once.
    """

    def __init__(self, log: EventLog, bus: Bus) -> None:
        self._log = log
        self._bus = bus
        self._waiter = Waiter()

    async def run(self) -> None:
        """Run a round every minute and after each `wake`, until cancelled."""
        await forever("lookout", self._wait_and_check)

    def wake(self) -> None:
        """Check now, because another process has written to the database."""
        self._bus.poke(ACCESS)
        self._waiter.poke(ACCOUNTS)

    async def _wait_and_check(self) -> None:
        await self._waiter.wait(LOOK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes
        await self.round()

    async def round(self) -> None:
        """Poke every account that has changed, and the list of accounts."""
        self._bus.poke(ACCOUNTS)
        account_ids = [topic for topic in self._bus.heard() if topic.startswith("acc_")]
        for begin in range(0, len(account_ids), ACCOUNTS_AT_ONCE):
            await self._compare(account_ids[begin : begin + ACCOUNTS_AT_ONCE])

    async def _compare(self, account_ids: Sequence[str]) -> None:
        numbers = await self._log.last_numbers(account_ids)
        for account_id in account_ids:
            if account_id not in numbers:
                self._bus.poke(account_id)  # the account is deleted: its followers find that out
            elif self._bus.last(account_id) != numbers[account_id]:
                self._bus.poke(account_id, numbers[account_id])
