"""A start that cannot open what it stands on, for now or for good."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from app.errors import DatabaseUnavailable, StorageFull
from app.runtime import starting
from app.settings import Settings


def failing(monkeypatch: pytest.MonkeyPatch, *errors: BaseException) -> Iterator[BaseException]:
    """Opening raises these, one at a time, before it succeeds. What is left to raise."""
    left = iter(errors)

    @asynccontextmanager
    async def open_runtime(*_: object, **__: object) -> AsyncIterator[Any]:
        if (error := next(left, None)) is not None:
            raise error
        yield "runtime"

    monkeypatch.setattr(starting, "open_runtime", open_runtime)
    monkeypatch.setattr(starting, "FIRST_PAUSE_SECONDS", 0.001)
    return left


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


async def test_a_start_waits_while_the_database_or_a_disk_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    full = [os_error(errno.ENOSPC), os_error(errno.EDQUOT), StorageFull()]
    left = failing(monkeypatch, DatabaseUnavailable(), *full, DatabaseUnavailable())
    waits: list[str] = []

    @asynccontextmanager
    async def waiting() -> AsyncIterator[None]:
        waits.append("begun")
        yield
        waits.append("ended")

    async with starting.open_when_reachable(Settings(), waiting=waiting) as runtime:
        assert runtime == "runtime"  # type: ignore[comparison-overlap]  # what opens here

    assert next(left, None) is None
    assert waits == ["begun", "ended"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EADDRINUSE, errno.ENOENT])
async def test_a_start_does_not_wait_for_what_no_time_mends(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    failing(monkeypatch, os_error(number))

    with pytest.raises(OSError, match=os.strerror(number)):
        async with starting.open_when_reachable(Settings()):
            pass
