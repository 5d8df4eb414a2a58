"""Tunes the memory allocator and the garbage collector for a process that runs for months."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable

_FULL = 2
"""The generation of a full collection."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
LARGE_BYTES = 256 * 1024
LONG_SECONDS = 0.01
"""CPU time of a full collection after which its survivors are frozen: about 150,000 objects."""
UNFREEZE_SECONDS = 24 * 3600.0
"""How often frozen objects are collected again, as cycles among them would otherwise never be freed."""


def settle() -> None:
    """Tune memory use. Call once after startup.

    The garbage collector ignores all present objects from then on, and survivors of long collections for a day, so
    that its pauses stay short. On glibc, large buffers (a piece of an attachment) are returned to the system when
    freed: by default the allocator keeps ever larger ones, which long-lived allocations then fragment.
    """
    gc.collect()
    gc.freeze()
    gc.callbacks.append(ShortCollections())
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_ARENA_MAX, 2)
    mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, LARGE_BYTES)


class ShortCollections:
    """A garbage collector callback that keeps full collections short while the number of objects grows.

    A full collection takes 70 ns for each object that may be part of a cycle: 35 ms for 500,000. After a long one
    its survivors are frozen (`gc.freeze`), and the next one only checks newer objects.
    """

    def __init__(
        self, cpu_seconds: Callable[[], float] = time.thread_time, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cpu_seconds = cpu_seconds
        self._clock = clock
        self._began = 0.0
        self._unfrozen_at = clock()

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        if info["generation"] < _FULL:
            return
        if phase == "start":
            self._began = self._cpu_seconds()
        elif self._clock() - self._unfrozen_at >= UNFREEZE_SECONDS:
            self._unfrozen_at = self._clock()
            gc.unfreeze()
        elif self._cpu_seconds() - self._began > LONG_SECONDS:
            gc.freeze()
