"""Reports callbacks that block the event loop: a tool for development and soak tests, off by default.

It measures the CPU time of each callback, so that other programs on the machine do not matter. It needs asyncio's own
event loop: Python code cannot observe uvloop's callbacks.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, cast

from prometheus_client import Counter

from app.telemetry import get_logger

STACK_FRAMES = 8
COLLECTION = "garbage collection"
"""Name under which the time of Python's garbage collector is counted, instead of the callback that it interrupts."""

log = get_logger(__name__)

_HANDLE: Any = asyncio.Handle
"""The event loop's wrapper of a callback; `_run` calls it."""
_BLOCKED = Counter("postgate_loop_held_total", "Callbacks that blocked the event loop for too long", ["callback"])


class LoopWatch:
    """Measures every callback of the running event loops while it is installed."""

    def __init__(self, limit_ms: int) -> None:
        self._limit_seconds = limit_ms / 1000
        self._thread_id = threading.get_ident()
        self._began: float | None = None
        self._collecting_since = self._collected_seconds = 0.0
        self._stack: list[str] = []
        self._run: Callable[[asyncio.Handle], None] = _HANDLE._run
        self._is_over = threading.Event()

    def install(self) -> None:
        """Measure the event loop of this thread."""
        watch, run = self, self._run

        def measured(handle: asyncio.Handle) -> None:
            watch._stack = []
            watch._began = time.monotonic()
            watch._collected_seconds = 0.0
            began = time.thread_time()
            run(handle)
            used = time.thread_time() - began
            watch._began = None
            if used > watch._limit_seconds:
                watch._report(handle, used)

        _HANDLE._run = measured
        gc.callbacks.append(self._note_collection)
        threading.Thread(target=self._sample, name="loop-watch", daemon=True).start()

    def remove(self) -> None:
        _HANDLE._run = self._run
        gc.callbacks.remove(self._note_collection)
        self._is_over.set()

    def _note_collection(self, phase: str, _: dict[str, int]) -> None:
        """Measure the garbage collector, which runs inside the callback that triggers it."""
        if threading.get_ident() != self._thread_id:
            return
        if phase == "start":
            self._collecting_since = time.thread_time()
        else:
            self._collected_seconds += time.thread_time() - self._collecting_since

    def _sample(self) -> None:
        """Record the stack of a slow callback while it runs."""
        while not self._is_over.wait(self._limit_seconds / 2):
            began = self._began
            if began is None or self._stack or time.monotonic() - began < self._limit_seconds / 2:
                continue
            frame = sys._current_frames().get(self._thread_id)
            self._stack = [
                f"{at.filename}:{at.lineno} in {at.name}" for at in traceback.extract_stack(frame)[-STACK_FRAMES:]
            ]

    def _report(self, handle: asyncio.Handle, seconds: float) -> None:
        if self._collected_seconds > self._limit_seconds:
            self._count(COLLECTION, self._collected_seconds, [])
        if seconds - self._collected_seconds > self._limit_seconds:
            self._count(name_of(handle), seconds - self._collected_seconds, self._stack)

    @staticmethod
    def _count(name: str, seconds: float, stack: list[str]) -> None:
        _BLOCKED.labels(name).inc()
        log.warning("loop_blocked", callback=name, cpu_ms=round(seconds * 1000), at=stack)


def name_of(handle: asyncio.Handle) -> str:
    """The coroutine of a task, or the function that the event loop calls."""
    callback: Any = cast("Any", handle)._callback
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return str(getattr(owner.get_coro(), "__qualname__", owner.get_name()))
    return str(getattr(callback, "__qualname__", repr(callback)))
