"""Fault points: named places where a test kills the process, to simulate a power cut.

`POSTGATE_FAULT_POINT=name` kills the process when it first passes that point, `name:3` the third time. If unset, a
point costs one comparison. `postgate serve` refuses to start with this variable.
"""

from __future__ import annotations

import os
import signal

_armed, _, _count = os.environ.get("POSTGATE_FAULT_POINT", "").partition(":")
_passes_left = int(_count or 1)


def point(name: str) -> None:
    """Kill the process by SIGKILL if this point is armed."""
    global _passes_left  # noqa: PLW0603 - a process dies once
    if name != _armed:
        return
    _passes_left -= 1
    if _passes_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
