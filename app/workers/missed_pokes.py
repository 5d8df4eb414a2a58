"""Finds events that nobody was woken for: a poke can be lost, an event cannot."""

from __future__ import annotations

import random
from collections.abc import Sequence

from app.cluster.bus import ACCESS, ACCOUNTS, Bus, Waiter
from app.mailstore.log import EventLog
from app.workers.loop import forever

LOOK_SECONDS = 60.0
"""How long a lost poke can delay an event."""
ACCOUNTS_AT_ONCE = 500


class MissedPokeCheck:
    """Compares the last event of every followed account with the last one announced on the bus.

    It serves all who wait on the bus: streams, long polls, sessions in IDLE. `run` it, or one `round`.
    """

    def __init__(self, log: EventLog, bus: Bus) -> None:
        self._log = log
        self._bus = bus
        self._waiter = Waiter()

    async def run(self) -> None:
        """A round a minute and after each `wake`, until cancelled."""
        await forever("lookout", self._rest_and_look)

    def wake(self) -> None:
        """Look now: another process has written to the database."""
        self._bus.poke(ACCESS)
        self._waiter.poke(ACCOUNTS)

    async def _rest_and_look(self) -> None:
        await self._waiter.wait(LOOK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes
        await self.round()

    async def round(self) -> None:
        """Poke what has changed, and the list of accounts."""
        self._bus.poke(ACCOUNTS)
        account_ids = [topic for topic in self._bus.heard() if topic.startswith("acc_")]
        for begin in range(0, len(account_ids), ACCOUNTS_AT_ONCE):
            await self._compare(account_ids[begin : begin + ACCOUNTS_AT_ONCE])

    async def _compare(self, account_ids: Sequence[str]) -> None:
        numbers = await self._log.last_numbers(account_ids)
        for account_id in account_ids:
            if account_id not in numbers:
                self._bus.poke(account_id)  # it is gone: who follows it finds that out
            elif self._bus.last(account_id) != numbers[account_id]:
                self._bus.poke(account_id, numbers[account_id])
