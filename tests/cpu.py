"""Bounds on work, in CPU time: a loaded machine makes a test wait, but gives it no more to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time

_ATTEMPTS = 3
_LEAST_SECONDS = 0.005
"""What a small run counts at least: below it the clock says more about the machine than about the code."""


@contextmanager
def at_most_cpu_seconds(limit: float) -> Iterator[None]:
    """Assert that the block takes less than this CPU time, in all threads of this process."""
    began = process_time()
    yield
    assert process_time() - began < limit


def assert_linear(run: Callable[[int], object], size: int) -> None:
    """Assert that ten times the size costs less than forty times the CPU time; quadratic work costs a hundred times.

    Only slow code is slow each time: one good attempt of three is enough.
    """
    attempts = []
    for _ in range(_ATTEMPTS):
        small, large = _seconds(run, size), _seconds(run, 10 * size)
        if large < 40 * max(small, _LEAST_SECONDS):
            return
        attempts.append((small, large))
    raise AssertionError(f"CPU seconds for {size} and {10 * size}: {attempts}")


def _seconds(run: Callable[[int], object], size: int) -> float:
    began = process_time()
    run(size)
    return process_time() - began
