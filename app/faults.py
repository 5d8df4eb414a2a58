"""Fault points: named places where a test makes the process die, as a power cut would.

`POSTGATE_FAULT_POINT=name` kills the process at the first pass of that point, `name:3` at the third. Unset, a point
costs one comparison. `postgate serve` refuses to start with it.
"""

from __future__ import annotations

import os
import signal

_armed, _, _count = os.environ.get("POSTGATE_FAULT_POINT", "").partition(":")
_passes_left = int(_count or 1)


def point(name: str) -> None:
    """Die here by SIGKILL when this point is armed."""
    global _passes_left  # noqa: PLW0603 - a process dies once
    if name != _armed:
        return
    _passes_left -= 1
    if _passes_left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
