"""Reopens an account's connections after a change of its servers or passwords was committed."""

from __future__ import annotations

import asyncio
from functools import partial

from app.cause import detached
from app.cluster.bus import ACCOUNTS, Bus
from app.mail.backend import Backends
from app.mail.types import AccountId


class Reconnects:
    """The restarts that run in this process. Give `begin` to `Transaction.after_commit`, then `wait`."""

    def __init__(self, backends: Backends, bus: Bus) -> None:
        self._backends = backends
        self._bus = bus
        self._running: dict[AccountId, asyncio.Task[None]] = {}

    def begin(self, account_id: AccountId) -> None:
        """Restart an account's connections, whether or not the caller still waits."""
        task = self._running[account_id] = asyncio.create_task(self._restart(account_id), context=detached())
        task.add_done_callback(partial(self._ended, account_id))

    async def wait(self, account_id: AccountId) -> None:
        """Wait for the restart that was begun last, if it still runs."""
        if (task := self._running.get(account_id)) is not None:
            await asyncio.shield(task)

    def _ended(self, account_id: AccountId, task: asyncio.Task[None]) -> None:
        if self._running.get(account_id) is task:
            del self._running[account_id]

    async def _restart(self, account_id: AccountId) -> None:
        await self._backends.forget(account_id)
        self._bus.poke(ACCOUNTS)
