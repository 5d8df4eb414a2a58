"""Builds and starts the background workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

from app.cluster.leases import Leases
from app.mailstore.texts import TextIndex
from app.runtime.backends import AccountBackends
from app.runtime.stores import Stores
from app.services.sending.deliveries import Deliveries
from app.workers.delivery import Delivery
from app.workers.missed_pokes import MissedPokeCheck
from app.workers.recovery import Recovery
from app.workers.retention import RetentionWorker
from app.workers.supervisor import Supervisor
from app.workers.text_index_quota import TextLimits
from app.workers.text_indexer import TextIndexer, TextReader

WORKERS_SECONDS = 4.0
"""How long the workers may take to stop."""


async def start_workers(
    stack: AsyncExitStack, stores: Stores, backends: AccountBackends, deliveries: Deliveries
) -> Callable[[], Awaitable[None]]:
    """Start the background workers and return a function that stops them."""
    group = await stack.enter_async_context(asyncio.TaskGroup())
    tasks = [group.create_task(run) for run in _runs(stores, backends, deliveries)]

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=WORKERS_SECONDS)

    return stop


def _runs(stores: Stores, backends: AccountBackends, deliveries: Deliveries) -> list[Coroutine[Any, Any, None]]:
    database, index, reader, bus = stores.database, stores.index, stores.reader, stores.bus
    text_index = TextIndex(database)
    texts = TextReader(reader, text_index, TextLimits.of(stores.settings), stores.store.parsers)
    leases = Leases(database, is_alone=stores.is_alone)
    missed_pokes = MissedPokeCheck(stores.log, bus)
    runs = [
        _delivery(stores, backends, deliveries).run(),
        Supervisor(database, index, reader, backends, bus, leases, texts).run(),
        TextIndexer(index, reader, text_index, backends, texts).run(),
        RetentionWorker(stores.settings, database, reader, stores.store.blobs).run(),
        Recovery(database, bus).run(),
        missed_pokes.run(),
        stores.followers.run(),
    ]
    if stores.keeper is None:
        return runs
    stores.keeper.on_others = missed_pokes.wake
    return [*runs, stores.keeper.run()]


def _delivery(stores: Stores, backends: AccountBackends, deliveries: Deliveries) -> Delivery:
    return Delivery(
        stores.database,
        stores.index,
        stores.reader,
        stores.store,
        backends,
        deliveries,
        stores.bus,
        hostname=stores.settings.hostname,
        is_alone=stores.is_alone,
    )
