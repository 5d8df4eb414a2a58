"""Runs a command's work on the data of an installation, even while a server is running.

The server notices within a second that another process has changed the data: see `workers.epoch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from app import telemetry
from app.cli.environment import read_settings

if TYPE_CHECKING:
    from app.api.deps import Services

T = TypeVar("T")


def on_services(work: Callable[[Services], Awaitable[T]]) -> T:
    """Run `work` on the services of the installation that the environment configures, and return its result."""
    settings = read_settings()
    telemetry.configure("debug" if settings.log_level == "debug" else "error")

    async def run() -> T:
        from app.runtime import open_runtime

        async with open_runtime(settings, is_serving=False) as runtime:
            return await work(runtime.services)

    return asyncio.run(run())
