"""The ASGI application: FastAPI around a Runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.api.application import create_api
from app.runtime import Runtime, open_runtime
from app.settings import Settings

WhenOpen = Callable[[Runtime], Awaitable[None]]


def create_app(settings: Settings | None = None, when_open: WhenOpen | None = None) -> FastAPI:
    """The whole of Postgate as one application. `when_open` is awaited before the first request is taken."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_runtime(settings or Settings()) as runtime:
            app.state.services = runtime.services
            if when_open is not None:
                await when_open(runtime)
            yield

    return create_api(lifespan)
