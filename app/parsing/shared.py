"""Shared computation of identical requests that run at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.parsing.jobs import unless_client_leaves

T = TypeVar("T")


@dataclass(slots=True)
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiting: int = 0


class SingleFlight(Generic[T]):
    """Runs one task per key. A task is cancelled when no caller waits for it any more."""

    def __init__(self) -> None:
        self._flights: dict[str, _Flight[T]] = {}

    async def run(self, key: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `make`, or of the running task of this key. Raises its exceptions, and ClientLeft."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.create_task(make()))
            flight.task.add_done_callback(lambda task: self._remove(key, task))
        flight.waiting += 1
        try:
            return await unless_client_leaves(asyncio.shield(flight.task))
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                self._remove(key, flight.task)
                flight.task.cancel()

    def _remove(self, key: str, task: asyncio.Task[T]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight.task is task:
            del self._flights[key]
        if task.done() and not task.cancelled():
            task.exception()  # each waiter raises it; without waiters, mark it as retrieved
