"""One computation for all who ask for the same, and the end of it when they have left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest
from app.errors import ClientLeft, InvalidRequest
from app.parsing.jobs import client_leaves, unless_client_leaves
from app.parsing.shared import SingleFlight


class Work:
    """A computation that ends when it is released; counts how often it began and was cancelled."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.release = asyncio.Event()

    async def __call__(self) -> str:
        self.begun += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "done"


@contextmanager
def client(leaves: Callable[[], Awaitable[None]]) -> Iterator[None]:
    token = client_leaves.set(leaves)
    try:
        yield
    finally:
        client_leaves.reset(token)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_same_is_computed_once_for_all_who_ask_for_it() -> None:
    flights, work = SingleFlight[str](), Work()
    asking = [asyncio.create_task(flights.run("key", work)) for _ in range(5)]
    await settled()
    work.release.set()

    assert await asyncio.gather(*asking) == ["done"] * 5
    assert work.begun == 1


async def test_what_is_asked_for_later_is_computed_again() -> None:
    flights, work = SingleFlight[str](), Work()
    work.release.set()

    assert [await flights.run("key", work), await flights.run("key", work)] == ["done", "done"]
    assert work.begun == 2


async def test_one_who_leaves_takes_the_result_from_no_other() -> None:
    flights, work = SingleFlight[str](), Work()
    leaving, staying = (asyncio.create_task(flights.run("key", work)) for _ in range(2))
    await settled()
    leaving.cancel()
    await settled()
    work.release.set()

    assert await staying == "done"
    assert work.cancelled == 0


async def test_the_computation_ends_when_all_have_left() -> None:
    flights, work = SingleFlight[str](), Work()
    asking = [asyncio.create_task(flights.run("key", work)) for _ in range(3)]
    await settled()
    for one in asking:
        one.cancel()
    await settled()

    assert work.cancelled == 1


async def test_an_error_reaches_all_who_wait() -> None:
    async def refuse() -> str:
        await asyncio.sleep(0)
        raise InvalidRequest("no")

    flights = SingleFlight[str]()
    found = await asyncio.gather(*(flights.run("key", refuse) for _ in range(3)), return_exceptions=True)

    assert [type(one) for one in found] == [InvalidRequest] * 3


async def test_work_for_a_client_that_has_left_is_cancelled() -> None:
    work, gone = Work(), asyncio.Event()

    async def leaves() -> None:
        await gone.wait()

    with client(leaves):
        asking = asyncio.create_task(unless_client_leaves(work()))
    await settled()
    assert not asking.done()
    gone.set()

    with pytest.raises(ClientLeft):
        await asking
    assert work.cancelled == 1


async def test_work_for_a_client_that_stays_is_finished() -> None:
    work = Work()
    work.release.set()

    async def stays() -> None:
        await asyncio.Event().wait()

    with client(stays):
        assert await unless_client_leaves(work()) == "done"
