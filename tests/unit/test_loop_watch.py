"""The watch over the event loop: what it counts, and what it calls it."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator

import pytest
from app.loop_watch import COLLECTION, LoopWatch
from prometheus_client import REGISTRY

LIMIT_MS = 20


@pytest.fixture(autouse=True)
def watch() -> Iterator[None]:
    watch = LoopWatch(LIMIT_MS)
    watch.install()
    yield
    watch.remove()


def held(name: str) -> float:
    return REGISTRY.get_sample_value("postgate_loop_held_total", {"callback": name}) or 0.0


def use_cpu(milliseconds: int) -> None:
    until = time.thread_time() + milliseconds / 1000
    while time.thread_time() < until:
        pass


def greedy_callback() -> None:
    use_cpu(3 * LIMIT_MS)


async def greedy_task() -> None:
    await asyncio.sleep(0)
    use_cpu(3 * LIMIT_MS)


async def modest_task() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


async def test_a_task_and_a_callback_that_hold_the_event_loop_are_counted_by_name() -> None:
    before = held("greedy_task"), held("greedy_callback")
    asyncio.get_running_loop().call_soon(greedy_callback)
    await asyncio.create_task(greedy_task())

    assert (held("greedy_task"), held("greedy_callback")) == (before[0] + 1, before[1] + 1)


async def test_a_task_that_yields_is_not_counted() -> None:
    await asyncio.create_task(modest_task())

    assert held("modest_task") == 0


async def test_the_log_names_the_place(capsys: pytest.CaptureFixture[str]) -> None:
    await asyncio.create_task(greedy_task())

    text = "".join(capsys.readouterr())
    assert "loop_blocked" in text
    assert "use_cpu" in text


def full_collection() -> None:
    until = time.thread_time() + 3 * LIMIT_MS / 1000
    while time.thread_time() < until:
        gc.collect()


async def test_the_garbage_collector_is_counted_as_itself() -> None:
    before = held(COLLECTION), held("full_collection")
    asyncio.get_running_loop().call_soon(full_collection)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert (held(COLLECTION), held("full_collection")) == (before[0] + 1, before[1])
