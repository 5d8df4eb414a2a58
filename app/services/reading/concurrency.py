"""Bounded concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from app.errors import GatewayError

T = TypeVar("T")


async def together(work: Iterable[Coroutine[Any, Any, T]], at_a_time: int) -> list[T]:
    """Return the results in order. The first GatewayError cancels the rest and is raised alone."""
    gate = asyncio.Semaphore(at_a_time)

    async def run(coroutine: Coroutine[Any, Any, T]) -> T:
        async with gate:
            return await coroutine

    coroutines = list(work)
    if len(coroutines) == 1:
        return [await coroutines[0]]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(run(coroutine)) for coroutine in coroutines]
    except* GatewayError as failed:
        error = _first(failed)
    else:
        return [task.result() for task in tasks]
    finally:
        for coroutine in coroutines:
            coroutine.close()
    raise error


def _first(group: BaseExceptionGroup[GatewayError]) -> GatewayError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, GatewayError)
    return error
