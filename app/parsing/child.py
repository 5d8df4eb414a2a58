"""The program of a parsing process: it reads jobs from its socket, runs one at a time, and writes the results.

It has no secrets and no socket except the one to its parent, and ends with its parent. Its memory is limited for its
lifetime, its CPU time per job.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

LENGTH = struct.Struct("!Q")
_PR_SET_PDEATHSIG = 1
_NICENESS = 5
_RECYCLED_FROM_KIB = 384 * 1024
"""Peak memory from which a process ends after its job, because it may not return the memory to the system."""

_PRELOADED = ("app.mime.sanitise", "app.mime.searchable")
"""Modules that most jobs need and that are slow to import."""

Job = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def main() -> None:
    """`python -m postgate.parsing.child DESCRIPTOR MEMORY_BYTES CPU_SECONDS`."""
    descriptor, memory_bytes, cpu_seconds = map(int, sys.argv[1:4])
    parent = socket.socket(fileno=descriptor)
    _confine(memory_bytes)
    for name in _PRELOADED:
        import_module(name)

    stream = parent.makefile("rwb")
    while head := stream.read(LENGTH.size):
        request = stream.read(LENGTH.unpack(head)[0])
        (count,) = LENGTH.unpack(stream.read(LENGTH.size))
        contents = [stream.read(LENGTH.unpack(stream.read(LENGTH.size))[0]) for _ in range(count)]
        job: Job = pickle.loads(request, buffers=contents)  # noqa: S301 - the parent process is trusted
        result = _result_of(job, cpu_seconds)
        is_last = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > _RECYCLED_FROM_KIB
        stream.write(LENGTH.pack(len(result) + 1) + bytes([is_last]))
        stream.write(result)
        stream.flush()
        if is_last:
            return


def _confine(memory_bytes: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent ends this process, after it has finished its requests
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _result_of(job: Job, cpu_seconds: int) -> bytes:
    """Run a job. Return (True, value) or (False, name of the exception), pickled."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + cpu_seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    work, args, kwargs = job
    try:
        return pickle.dumps((True, work(*args, **kwargs)), protocol=5)
    except (Exception, RecursionError, MemoryError) as error:  # noqa: BLE001 - the parent raises it
        return pickle.dumps((False, type(error).__name__), protocol=5)


if __name__ == "__main__":
    main()
