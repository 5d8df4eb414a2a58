"""Delays before background work is retried."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

RECONNECT_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


def reconnect_delays(jitter: Callable[[float, float], float] = random.uniform) -> Iterator[float]:
    """Yield the seconds to wait before each background reconnect: 0, 1, 2, 4 … 30, with a jitter of a fifth."""
    for seconds in RECONNECT_SECONDS:
        yield seconds * jitter(0.8, 1.2)
    while True:
        yield RECONNECT_SECONDS[-1] * jitter(0.8, 1.2)


def spread(seconds: float, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Add up to half of the delay, so that clients refused at the same time do not retry at the same time."""
    return seconds * jitter(1.0, 1.5)


def drifting(seconds: float, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Subtract up to a fifth, so that periodic tasks with the same interval drift apart."""
    return seconds * jitter(0.8, 1.0)
