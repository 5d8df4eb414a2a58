"""Work that never ends, whatever happens in it. Only here is every exception caught."""

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
"""The longest pause while the database or the disk fails: work goes on within seconds of its return."""
FAULT_PAUSE_SECONDS = 30.0
"""The longest pause after a fault of ours."""


async def forever(name: str, step: Callable[[], Awaitable[object]], **facts: str) -> NoReturn:
    """Call `step` again and again until cancelled; it does its own waiting. `name` and `facts` are for the log."""
    while True:
        await persist(name, step, **facts)


async def persist(name: str, step: Callable[[], Awaitable[T]], **facts: str) -> T:
    """Call `step` until it returns, and return what it returns.

    After an exception it is called again, after a pause that doubles from FIRST_PAUSE_SECONDS on and is spread by half.
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
    """Call `step` once; a failure is logged and is nobody else's."""
    try:
        await step()
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("attempt_failed", work=name, error=type(error).__name__, **facts)


async def until_one_ends(*parts: Coroutine[Any, Any, None]) -> None:
    """Run all until the first fails, then end the others; raises a fault of ours before what an origin did.

    No TaskGroup: where its tasks fail while they are cancelled, it tells the failures and forgets the cancellation.
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
