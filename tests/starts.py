"""Starts of Postgate in processes of their own, which a server that has loaded everything forks in no time."""

from __future__ import annotations

import asyncio
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from app.runtime import open_runtime
from app.runtime.starting import open_when_reachable
from app.settings import Settings

from tests.servers.forked import CONTEXT


def settings_of(url: str, data: Path) -> Settings:
    """An installation on PostgreSQL that listens on free ports."""
    return Settings(
        database_url=url, data_dir=data, imap_port=0, pop3_port=0, submission_port=0, smtp_port=0, lmtp_port=0
    )


def command(url: str, data: Path) -> ForkServerProcess:
    """Open everything and close it, as a command does."""
    return CONTEXT.Process(target=_run_command, args=(url, data))


def server(url: str, data: Path) -> ForkServerProcess:
    """Open everything, waiting for the database where it fails, and close it, as a server does."""
    return CONTEXT.Process(target=_run_server, args=(url, data))


def _run_command(url: str, data: Path) -> None:
    async def run() -> None:
        async with open_runtime(settings_of(url, data), is_serving=False):
            pass

    asyncio.run(run())


def _run_server(url: str, data: Path) -> None:
    async def run() -> None:
        async with open_when_reachable(settings_of(url, data)):
            pass

    asyncio.run(run())
