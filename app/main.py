"""The ASGI application: FastAPI around a Runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app.api.application import create_api
from app.runtime.starting import open_when_reachable
from app.settings import Settings


def create_app(settings: Settings | None = None) -> FastAPI:
    """Postgate as one ASGI application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_when_reachable(settings or Settings()) as runtime:
            app.state.services = runtime.services
            yield

    return create_api(lifespan)
