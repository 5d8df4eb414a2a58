"""Keeps the process small: how the allocator and the collector are to treat a server that runs for months."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable

_FULL = 2
"""The generation of all objects."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
LARGE_BYTES = 256 * 1024
LONG_SECONDS = 0.01
"""Processor time of a full collection from which on its survivors are set aside: that of some 150,000 objects."""
UNFREEZE_SECONDS = 24 * 3600.0
"""How often what was set aside is looked at again, since cycles among it would otherwise never be freed."""


def settle() -> None:
    """To be called once all is open.

    What was imported is never looked at by the collector again, so that its pauses stay short; nor is, for a day, what
    survives a collection that was long. On glibc, large
    buffers (a piece of an attachment) are given back to the system when they are freed: by itself the allocator keeps
    ever larger ones after the first, and their room is then split by what stays.
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
    """Called by the collector: keeps full collections short while a process holds ever more (accounts, caches).

    A full collection takes 70 ns for each object that may be part of a cycle: 35 ms for 500,000. After a long one
    its survivors are set aside (`gc.freeze`), and the next one looks at what came since.
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
