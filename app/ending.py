"""The end of the process: asked for by a signal, done in order, and over in time whatever hangs."""

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
"""After SIGTERM the process ends within this time, in order or not."""
THREADS_SECONDS = 0.5
"""How long threads may still run once everything is closed: what they do, nobody waits for."""
CLOSE_SECONDS = 1.5
"""How long one part of the process may take to close."""

log = get_logger(__name__)


class Ending:
    """Waits for SIGTERM or SIGINT. A thread of its own ends the process when the event loop does not."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._closed = threading.Event()
        self._begin: Callable[[], object] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_asked(self) -> bool:
        return self._asked.is_set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take the signals from here on. The handlers stay: a second signal changes nothing."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)
        threading.Thread(target=self._watch, name="ending", daemon=True).start()
        yield

    def closed(self) -> None:
        """Everything is closed: threads that still run are not waited for."""
        self._closed.set()

    def begin_with(self, begin: Callable[[], object]) -> None:
        """What to call in the event loop's thread once the end is asked for. For the running loop."""
        self._loop = asyncio.get_running_loop()
        self._begin = begin
        if self.is_asked:
            begin()

    def _ask(self, *_: object) -> None:
        if self.is_asked:
            return
        self._asked.set()
        if self._loop is not None and self._begin is not None:
            self._loop.call_soon_threadsafe(self._begin)

    def _watch(self) -> None:
        self._asked.wait()
        if not self._closed.wait(LIMIT_SECONDS):
            log.error("end_forced", tasks=self._tasks(), threads=_threads())
            _exit(1)
        time.sleep(THREADS_SECONDS)
        log.warning("threads_abandoned", threads=_threads())
        _exit(0)

    def _tasks(self) -> list[str]:
        """What each task of the event loop waits for."""
        if self._loop is None:
            return []
        try:
            return sorted(_place_of(task) for task in asyncio.all_tasks(self._loop))
        except RuntimeError:  # the loop goes on, and changes the set
            return []


def _place_of(task: asyncio.Task[object]) -> str:
    frames = task.get_stack(limit=1)
    place = f" at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    return f"{getattr(task.get_coro(), '__qualname__', task.get_name())}{place}"


def _threads() -> list[str]:
    """The innermost frame of each thread but this one."""
    frames = sys._current_frames()
    found = []
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is not None and thread is not threading.current_thread():
            at = traceback.extract_stack(frame, limit=1)[0]
            found.append(f"{thread.name} at {at.filename}:{at.lineno} in {at.name}")
    return found


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def close_within(name: str, close: Callable[[], Awaitable[object]], seconds: float = CLOSE_SECONDS) -> None:
    """Close one part of the process; one that takes too long is left as it is, with a log line that names it."""
    try:
        async with asyncio.timeout(seconds):
            await close()
    except TimeoutError:
        log.warning("close_timed_out", part=name, seconds=seconds)
