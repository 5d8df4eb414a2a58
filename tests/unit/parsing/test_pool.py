"""Whose turn it is, what is refused, and what becomes of a process, without processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from app.cause import Cause, caused_by, current_request_id
from app.errors import RateLimited, TooComplex
from app.parsing import pool as pools
from app.parsing.child import Job
from app.parsing.jobs import SMALL_BYTES
from app.parsing.pool import Limits, ParserPool
from app.parsing.process import ProcessFailed

LARGE = SMALL_BYTES + 1


class FakeProcess:
    """Runs a job in this process, when `turn` is set; `started` and `killed` count."""

    started = 0
    killed = 0
    running: list[str]
    turn: asyncio.Event

    def __init__(self) -> None:
        self.is_last = False

    @classmethod
    async def start(cls, _memory_bytes: int, _cpu_seconds: int) -> FakeProcess:
        cls.started += 1
        return cls()

    async def call(self, job: Job) -> Any:
        work, args, kwargs = job
        self.running.append(str(args[0]))
        await self.turn.wait()
        return work(*args, **kwargs)

    async def kill(self) -> None:
        type(self).killed += 1


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> type[FakeProcess]:
    class Fresh(FakeProcess):
        running: list[str] = []  # noqa: RUF012 - of this class alone
        turn = asyncio.Event()

    monkeypatch.setattr(pools, "ParserProcess", Fresh)
    return Fresh


@asynccontextmanager
async def opened(**limits: Any) -> AsyncIterator[ParserPool]:
    pool = ParserPool(Limits(**limits))
    try:
        yield pool
    finally:
        await pool.close()


def shout(text: str) -> str:
    return text.upper()


def fail(_text: str) -> str:
    raise ProcessFailed("process ended")


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def asked(pool: ParserPool, *words: str, key: str = "a", work: Callable[[str], str] = shout) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(pool.run(key, LARGE, work, word)) for word in words]


async def test_small_content_is_parsed_without_a_process(process: type[FakeProcess]) -> None:
    async with opened() as pool:
        assert await pool.run("a", SMALL_BYTES, shout, "x") == "X"

    assert process.started == 0


async def test_a_process_is_used_again(process: type[FakeProcess]) -> None:
    process.turn.set()
    async with opened() as pool:
        assert [await pool.run("a", LARGE, shout, word) for word in ("x", "y", "z")] == ["X", "Y", "Z"]

    assert (process.started, process.killed) == (1, 1)


async def test_one_account_never_holds_every_process(process: type[FakeProcess]) -> None:
    async with opened(processes=2) as pool:
        heavy = asked(pool, "a1", "a2", "a3", key="a")
        await settled()
        other = asked(pool, "b1", key="b")
        await settled()

        assert process.running == ["a1", "b1"]
        process.turn.set()
        assert await asyncio.gather(*heavy, *other) == ["A1", "A2", "A3", "B1"]


async def test_accounts_take_turns(process: type[FakeProcess]) -> None:
    process.turn.set()
    async with opened(processes=1) as pool:
        tasks = asked(pool, "a1", "a2", "a3", key="a") + asked(pool, "b1", "b2", key="b") + asked(pool, "c1", key="c")
        await asyncio.gather(*tasks)

    assert process.running == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_an_account_with_too_many_jobs_is_refused_and_others_are_not(process: type[FakeProcess]) -> None:
    async with opened(processes=1, waiting_of_key=2) as pool:
        taken = asked(pool, "running", "waiting", "waiting too")
        await settled()
        with pytest.raises(RateLimited):
            await pool.run("a", LARGE, shout, "too many")
        other = asked(pool, "other", key="b")
        await settled()
        process.turn.set()

        assert await asyncio.gather(*taken, *other) == ["RUNNING", "WAITING", "WAITING TOO", "OTHER"]


async def test_an_account_with_too_many_bytes_is_refused(process: type[FakeProcess]) -> None:
    async with opened(processes=1, waiting_bytes_of_key=2 * LARGE) as pool:
        taken = asked(pool, "running", "waiting", "waiting too")
        await settled()
        with pytest.raises(RateLimited):
            await pool.run("a", LARGE, shout, "too many")
        process.turn.set()
        await asyncio.gather(*taken)


async def test_a_cancelled_job_frees_its_process(process: type[FakeProcess]) -> None:
    async with opened(processes=1) as pool:
        (running, waiting) = asked(pool, "running", "waiting")
        await settled()
        running.cancel()
        await settled()

        assert process.killed == 1
        assert process.running == ["running", "waiting"]
        process.turn.set()
        assert await waiting == "WAITING"


async def test_a_job_that_is_cancelled_before_it_begins_frees_its_place(process: type[FakeProcess]) -> None:
    process.turn.set()
    async with opened(processes=1) as pool:
        (cancelled,) = asked(pool, "never run")
        await asyncio.sleep(0)
        cancelled.cancel()
        await settled()

        assert await pool.run("a", LARGE, shout, "x") == "X"


async def test_a_cancelled_job_that_waits_is_never_run(process: type[FakeProcess]) -> None:
    async with opened(processes=1) as pool:
        running, waiting = asked(pool, "running", "waiting")
        await settled()
        waiting.cancel()
        process.turn.set()

        assert await running == "RUNNING"
    assert process.running == ["running"]


async def test_a_process_that_ends_is_replaced(process: type[FakeProcess]) -> None:
    process.turn.set()
    async with opened(processes=1) as pool:
        with pytest.raises(TooComplex):
            await pool.run("a", LARGE, fail, "x")

        assert await pool.run("a", LARGE, shout, "y") == "Y"
    assert process.started == 2


async def test_a_job_past_its_deadline_is_killed(process: type[FakeProcess]) -> None:
    async with opened(processes=1, seconds=0.0) as pool:
        with pytest.raises(TooComplex):
            await pool.run("a", LARGE, shout, "x")
        await settled()

        assert process.started == process.killed


async def test_closing_ends_what_runs_and_what_waits(process: type[FakeProcess]) -> None:
    async with opened(processes=1) as pool:
        tasks = asked(pool, "running", "waiting")
        await settled()

    assert all(isinstance(one, TooComplex) for one in await asyncio.gather(*tasks, return_exceptions=True))
    assert process.killed == process.started == 1


async def test_a_job_that_waited_belongs_to_the_request_of_its_caller(process: type[FakeProcess]) -> None:
    def cause(_text: str) -> str:
        return current_request_id()

    async with opened(processes=1) as pool:
        tasks = []
        for request_id in ("req_1", "req_2"):
            with caused_by(Cause(request_id)):
                tasks += asked(pool, "a", work=cause)
        await settled()
        process.turn.set()

        assert await asyncio.gather(*tasks) == ["req_1", "req_2"]
