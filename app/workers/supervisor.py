"""Holds leases on external accounts and runs one sync task for each; a task that fails is restarted by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

from app.backends.pop3.backend import Pop3Backend
from app.cluster.bus import ACCOUNTS, Bus, Waiter, listening
from app.cluster.claims import RENEW_SECONDS
from app.cluster.leases import Leases
from app.db import syncing
from app.db.session import Database, Transaction
from app.errors import GatewayError
from app.mail.backend import Backends, MailBackend
from app.mail.types import AccountId
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.telemetry import get_logger
from app.workers.limiters import Limiters
from app.workers.loop import attempt, forever, persist
from app.workers.pop3.account import Pop3Sync
from app.workers.sync.account import SyncedAccount
from app.workers.text_indexer import TextReader

log = get_logger(__name__)

ALONE_SECONDS = 20.0
"""Interval between reads of the list of accounts, in a single process. Several also look for free leases."""
TAKEN_AT_ONCE = 100
"""Leases that one query takes, so that workers that start together share the accounts."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A sync task and its inputs; when an input changes, the task is restarted."""

    task: asyncio.Task[None]
    epoch: int
    fingerprint: int
    backend: MailBackend


class Supervisor:
    """Starts and stops the sync tasks of all external accounts. Call `run`."""

    def __init__(
        self,
        database: Database,
        index: Index,
        reader: MailReader,
        backends: Backends,
        bus: Bus,
        leases: Leases,
        texts: TextReader | None = None,
    ) -> None:
        self._database = database
        self._index = index
        self._reader = reader
        self._backends = backends
        self._bus = bus
        self._leases = leases
        self._texts = texts
        self._limiters = Limiters()
        self._running: dict[AccountId, _Running] = {}

    async def run(self) -> None:
        """Follow the list of accounts until cancelled; then release the leases."""
        with listening(self._bus, ACCOUNTS) as waiter:
            try:
                async with asyncio.TaskGroup() as group:
                    if not self._leases.is_alone:
                        group.create_task(forever("leases", self._keep_leases))
                    await forever("supervisor", partial(self._adjust_and_wait, group, waiter))
            finally:
                await attempt("release_leases", partial(self._leases.release, list(self._running)))

    async def _adjust_and_wait(self, group: asyncio.TaskGroup, waiter: Waiter) -> None:
        await self._adjust(group)
        await waiter.wait(ALONE_SECONDS if self._leases.is_alone else RENEW_SECONDS)

    async def _keep_leases(self) -> None:
        """Renew the leases; stop all tasks once that has failed for a whole lease, as others may take them."""
        await self._leases.keep(partial(self._bus.poke, ACCOUNTS))
        log.warning("leases_lost", accounts=len(self._running))
        await self._stop(list(self._running))

    async def _adjust(self, group: asyncio.TaskGroup) -> None:
        """Stop tasks that should not run, and start those that should."""
        await self._backends.forget_changed()
        wanted = {AccountId(account.id): hash(account) for account in await syncing.followed(self._database)}
        leased = await self._leases.renew() if self._leases.is_alone else self._leases.held
        await self._stop(
            [id_ for id_, task in list(self._running.items()) if not await self._is_current(id_, task, wanted, leased)]
        )
        if unwanted := [id_ for id_ in leased if id_ not in wanted]:
            await self._leases.release(unwanted)
        idle = [id_ for id_ in wanted if id_ not in self._running]
        epochs = {id_: leased[id_] for id_ in idle if id_ in leased}
        while taken := await self._take([id_ for id_ in idle if id_ not in epochs]):
            epochs |= taken
        for id_, epoch in epochs.items():
            await self._start(group, id_, epoch, wanted[id_])

    async def _is_current(
        self, id_: AccountId, running: _Running, wanted: Mapping[AccountId, int], leased: Mapping[AccountId, int]
    ) -> bool:
        if running.task.done() or wanted.get(id_) != running.fingerprint or leased.get(id_) != running.epoch:
            return False
        try:
            return await self._backends.of(id_) is running.backend
        except GatewayError:
            return False

    async def _stop(self, ids: Collection[AccountId]) -> None:
        tasks = [self._running.pop(id_).task for id_ in ids if id_ in self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, ids: list[AccountId]) -> dict[AccountId, int]:
        """Take leases, and mark the accounts as unwatched: the state that a previous worker wrote no longer holds."""
        taken = await self._leases.take(ids, TAKEN_AT_ONCE)

        async def work(transaction: Transaction) -> None:
            await syncing.mark_unwatched(transaction, list(taken))

        if taken:
            await self._database.write(work, is_durable=False)
        return taken

    async def _start(self, group: asyncio.TaskGroup, id_: AccountId, epoch: int, fingerprint: int) -> None:
        try:
            backend = await self._backends.of(id_)
        except GatewayError as error:
            log.warning("account_not_started", account_id=id_, error=error.code)
            return
        task = group.create_task(self._follow(id_, backend, epoch))
        self._running[id_] = _Running(task, epoch, fingerprint, backend)

    async def _follow(self, id_: AccountId, backend: MailBackend, epoch: int) -> None:
        """Sync one account. No failure, not even an unexpected exception, ends the task of another account."""

        async def sync() -> None:
            if isinstance(backend, Pop3Backend):
                await Pop3Sync(id_, self._index, self._reader, backend, epoch).run()
            else:
                await SyncedAccount(
                    id_, self._index, self._reader, backend, epoch, self._limiters, texts=self._texts
                ).run()

        await persist("sync", sync, account_id=id_)
