"""Keeps the process small: how the allocator and the collector are to treat a server that runs for months."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
LARGE_BYTES = 256 * 1024


def settle() -> None:
    """To be called once all is open.

    What was imported is never looked at by the collector again, so that its pauses stay short. On glibc, large
    buffers (a piece of an attachment) are given back to the system when they are freed: by itself the allocator keeps
    ever larger ones after the first, and their room is then split by what stays.
    """
    gc.collect()
    gc.freeze()
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_ARENA_MAX, 2)
    mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, LARGE_BYTES)
