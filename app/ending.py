"""Ends the process after a signal, in order and within a time limit even if a part hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from app.telemetry import get_logger

LIMIT_SECONDS = 9.0
"""The process ends at the latest this long after SIGTERM."""
THREADS_SECONDS = 0.5
"""How long threads may still run after everything is closed. Nothing waits for their results."""
CLOSE_SECONDS = 1.5
"""How long one part of the process may take to close."""

log = get_logger(__name__)


class Ending:
    """Handles SIGTERM and SIGINT. A separate thread ends the process if the event loop does not."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._closed = threading.Event()
        self._begin: Callable[[], object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_requested(self) -> bool:
        return self._requested.is_set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Install the signal handlers, permanently: a second signal has no effect."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request)
        threading.Thread(target=self._watch, name="ending", daemon=True).start()
        yield

    def closed(self) -> None:
        """Report that everything is closed. Running threads are abandoned."""
        self._closed.set()

    def begin_with(self, begin: Callable[[], object]) -> None:
        """Set the function to call in the running event loop's thread when a signal arrives."""
        self._loop = asyncio.get_running_loop()
        self._begin = begin
        if self.is_requested:
            begin()

    def _request(self, *_: object) -> None:
        if self.is_requested:
            return
        self._requested.set()
        if self._loop is not None and self._begin is not None:
            self._loop.call_soon_threadsafe(self._begin)

    def _watch(self) -> None:
        self._requested.wait()
        if not self._closed.wait(LIMIT_SECONDS):
            log.error("end_forced", tasks=self._tasks(), threads=_threads())
            _exit(1)
        time.sleep(THREADS_SECONDS)
        log.warning("threads_abandoned", threads=_threads())
        _exit(0)

    def _tasks(self) -> list[str]:
        """The position at which each task of the event loop waits."""
        if self._loop is None:
            return []
        try:
            return sorted(_position_of(task) for task in asyncio.all_tasks(self._loop))
        except RuntimeError:  # the loop is running and changes the set
            return []


def _position_of(task: asyncio.Task[object]) -> str:
    frames = task.get_stack(limit=1)
    position = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    return f"{getattr(task.get_coro(), '__qualname__', task.get_name())}{position}"


def _threads() -> list[str]:
    """The innermost frame of each other thread."""
    frames = sys._current_frames()
    positions = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is not None and thread is not threading.current_thread():
            at = traceback.extract_stack(frame, limit=1)[0]
            positions.append(f"{thread.name} at {at.filename}:{at.lineno} in {at.name}")
    return positions


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def close_within(name: str, close: Callable[[], Awaitable[object]], seconds: float = CLOSE_SECONDS) -> None:
    """Close one part of the process. After `seconds` the part is abandoned and logged."""
    try:
        async with asyncio.timeout(seconds):
            await close()
    except TimeoutError:
        log.warning("close_timed_out", part=name, seconds=seconds)
