"""Loops that survive any failure. Only this module catches every exception."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn, TypeVar

from app.errors import GatewayError, Unavailable
from app.telemetry import get_logger

log = get_logger(__name__)

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.5
UNAVAILABLE_PAUSE_SECONDS = 3.0
"""Longest pause while the database or the disk fails: work resumes within seconds of its recovery."""
FAULT_PAUSE_SECONDS = 30.0
"""Longest pause after an unexpected exception."""


async def forever(name: str, step: Callable[[], Awaitable[object]], **facts: str) -> NoReturn:
    """Call `step` repeatedly until cancelled; it does its own waiting. `name` and `facts` are logged."""
    while True:
        await persist(name, step, **facts)


async def persist(name: str, step: Callable[[], Awaitable[T]], **facts: str) -> T:
    """Call `step` until it succeeds, and return its result.

    After an exception it pauses and tries again. The pause doubles from FIRST_PAUSE_SECONDS on, with a jitter of ±50 %.
    """
    seconds = FIRST_PAUSE_SECONDS
    while True:
        try:
            return await step()
        except Unavailable as error:
            log.warning("work_waits", work=name, error=error.code, **facts)
            longest = UNAVAILABLE_PAUSE_SECONDS
        except Exception:
            log.exception("work_failed", work=name, **facts)
            longest = FAULT_PAUSE_SECONDS
        await asyncio.sleep(min(seconds, longest) * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        seconds = min(2 * seconds, FAULT_PAUSE_SECONDS)


async def attempt(name: str, step: Callable[[], Awaitable[object]], **facts: str) -> None:
    """Call `step` once; log a failure instead of raising it."""
    try:
        await step()
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("attempt_failed", work=name, error=type(error).__name__, **facts)


async def until_one_ends(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends or fails, then cancel the others. Raises unexpected errors before GatewayError.

    Not a TaskGroup: if its tasks fail while being cancelled, it raises the failures and drops the cancellation.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    errors = [item for item in ended if isinstance(item, Exception)]
    if errors:
        raise next((error for error in errors if not isinstance(error, GatewayError)), errors[0])
