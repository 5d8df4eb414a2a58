"""A pool of parsing processes that accounts share fairly. Processes that exceed a job's deadline are killed.

A cancelled job, whose client has left, is killed too, so that it does not occupy a process.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

from app.errors import RateLimited, TooComplex
from app.parsing.child import Job as Request
from app.parsing.jobs import SMALL_BYTES
from app.parsing.process import ParserProcess, ProcessFailed
from app.telemetry import get_logger

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a pool. `seconds` is the deadline of a running job. One key uses at most all processes but one."""

    processes: int = 2
    seconds: float = 20.0
    cpu_seconds: int = 10
    memory_bytes: int = 1024 * 1024 * 1024
    waiting_of_key: int = 64
    waiting_bytes_of_key: int = 256 * 1024 * 1024
    idle_seconds: float = 60.0
    """How long an idle process is kept."""


@dataclass(slots=True, eq=False)
class _Job:
    key: str
    size_bytes: int
    request: Request
    context: Context = field(default_factory=copy_context)
    """The caller's context, so that log entries about the job belong to the caller's request."""
    result: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class ParserPool:
    """See `Parsers`. Processes start when they are first needed; `close` ends them at once."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._tasks: dict[_Job, asyncio.Task[None]] = {}
        self._idle: list[ParserProcess] = []
        self._retiring: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """The number of running jobs."""
        return len(self._tasks)

    @property
    def waiting(self) -> int:
        """The number of jobs that wait for a process."""
        return sum(map(len, self._waiting.values()))

    async def run(self, key: str, size_bytes: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work`, a module-level function. Small content runs at once. Raises TooComplex, RateLimited."""
        if size_bytes <= SMALL_BYTES:
            return work(*args, **kwargs)
        job = _Job(key, size_bytes, (work, args, kwargs))
        self._enqueue(job)
        try:
            result: T = await job.result
        except asyncio.CancelledError:
            self._abandon(job)
            raise
        return result

    async def close(self) -> None:
        """Kill every process. Waiting and running jobs raise TooComplex."""
        if self._retiring is not None:
            self._retiring.cancel()
        for jobs in self._waiting.values():
            for job in jobs:
                _fail(job)
        self._waiting.clear()
        for task in self._tasks.values():
            task.cancel()
        self._retire()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await asyncio.gather(*self._ending, return_exceptions=True)

    # ---- scheduling

    def _enqueue(self, job: _Job) -> None:
        jobs = self._waiting.get(job.key, ())
        size_bytes = sum(waiting.size_bytes for waiting in jobs) + job.size_bytes
        is_too_large = bool(jobs) and size_bytes > self._limits.waiting_bytes_of_key
        if is_too_large or len(jobs) >= self._limits.waiting_of_key:
            raise RateLimited("Too many messages wait to be parsed", retry_after_seconds=self._limits.seconds)
        self._waiting.setdefault(job.key, deque()).append(job)
        self._start_jobs()

    def _start_jobs(self) -> None:
        """Start jobs while processes are free, one of each key in turn."""
        while len(self._tasks) < self._limits.processes and (job := self._next()) is not None:
            self._running[job.key] += 1
            task = self._tasks[job] = asyncio.get_running_loop().create_task(self._run(job), context=job.context)
            task.add_done_callback(partial(self._finish, job))  # runs even if the task is cancelled before it starts

    def _next(self) -> _Job | None:
        most_of_key = max(1, self._limits.processes - 1)
        key = next((key for key in self._waiting if self._running[key] < most_of_key), None)
        if key is None:
            return None
        self._waiting.move_to_end(key)
        return self._dequeued(self._waiting[key][0])

    def _dequeued(self, job: _Job) -> _Job:
        """Remove a job from its queue, and return it."""
        jobs = self._waiting[job.key]
        jobs.remove(job)
        if not jobs:
            del self._waiting[job.key]
        return job

    def _abandon(self, job: _Job) -> None:
        """Cancel a job, because its caller no longer waits for it."""
        task = self._tasks.get(job)
        if task is not None:
            task.cancel()
        elif job in self._waiting.get(job.key, ()):
            self._dequeued(job)

    # ---- running

    async def _run(self, job: _Job) -> None:
        try:
            await self._run_in_process(job)
        except (ProcessFailed, TimeoutError, OSError) as error:
            log.warning("parsing_stopped", size_bytes=job.size_bytes, reason=str(error) or "deadline")

    def _finish(self, job: _Job, _: asyncio.Task[None]) -> None:
        _fail(job)
        del self._tasks[job]
        self._running[job.key] -= 1
        self._running += Counter()  # drops keys without jobs
        if job.key in self._waiting:
            self._waiting.move_to_end(job.key)
        self._start_jobs()

    async def _run_in_process(self, job: _Job) -> None:
        process = self._idle.pop() if self._idle else None
        is_reusable = False
        try:
            async with asyncio.timeout(self._limits.seconds):
                process = process or await ParserProcess.start(self._limits.memory_bytes, self._limits.cpu_seconds)
                value = await process.call(job.request)
            is_reusable = not process.is_last
            if not job.result.done():
                job.result.set_result(value)
        except ProcessFailed as failed:
            is_reusable = failed.is_alive
            raise
        finally:
            if process is not None and is_reusable:
                self._idle.append(process)
                self._retire_later()
            elif process is not None:
                self._end(process)

    def _end(self, process: ParserProcess) -> None:
        task = asyncio.get_running_loop().create_task(process.kill())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _retire_later(self) -> None:
        if self._retiring is not None:
            self._retiring.cancel()
        self._retiring = asyncio.get_running_loop().call_later(self._limits.idle_seconds, self._retire)

    def _retire(self) -> None:
        """End idle processes."""
        while self._idle:
            self._end(self._idle.pop())


def _fail(job: _Job) -> None:
    if not job.result.done():
        job.result.set_exception(TooComplex("Parsing took too much time or memory"))
