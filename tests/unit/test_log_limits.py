"""What clients can make a library log as often as they like fills no disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from app.log_limits import KEYS_LIMIT, SUMMARY_SECONDS, RepetitionFilter


class Log:
    """A logger with the filter, and its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self.handler = logging.Handler()
        self.handler.emit = lambda record: self.lines.append(record.getMessage())  # type: ignore[method-assign]
        self.repetitions = RepetitionFilter(self.handler.handle, lambda: self.now)
        self.handler.addFilter(self.repetitions)
        self.logger = logging.getLogger("test.log_limits")

    def after_a_minute(self) -> list[str]:
        """The lines that are logged when a minute has passed."""
        self.lines.clear()
        self.now += SUMMARY_SECONDS
        self.repetitions.flush()
        return list(self.lines)


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    log.logger.addHandler(log.handler)
    log.logger.propagate = False
    yield log
    log.logger.removeHandler(log.handler)
    log.logger.propagate = True


def test_a_line_that_repeats_is_logged_once_and_then_counted_once_a_minute(log: Log) -> None:
    for number in range(1_000):
        log.logger.warning("Invalid HTTP request received from %d.", number)

    assert log.lines == ["Invalid HTTP request received from 0."]
    assert log.after_a_minute() == ["Invalid HTTP request received from 999. (repeated 999 times)"]
    assert log.after_a_minute() == []


def test_a_line_that_comes_again_after_a_quiet_minute_is_logged(log: Log) -> None:
    log.logger.warning("a")
    log.after_a_minute()
    log.lines.clear()
    log.logger.warning("a")

    assert log.lines == ["a"]


def test_other_lines_and_levels_are_not_left_out(log: Log) -> None:
    log.logger.warning("a")
    log.logger.warning("b")
    log.logger.error("a")

    assert log.lines == ["a", "b", "a"]


def fail(kind: type[Exception]) -> None:
    raise kind


def test_the_first_exception_of_each_kind_at_each_place_is_logged(log: Log) -> None:
    for kind in [ValueError, TypeError] * 3:
        try:
            fail(kind)
        except (ValueError, TypeError):
            log.logger.exception("failed")
    try:
        raise ValueError
    except ValueError:
        log.logger.exception("failed")

    assert log.lines == ["failed"] * 3
    assert log.after_a_minute() == ["failed (repeated 2 times)"] * 2


def test_any_number_of_different_lines_is_bounded(log: Log) -> None:
    for number in range(10 * KEYS_LIMIT):
        log.logger.warning(str(number))

    assert len(log.lines) == KEYS_LIMIT + 1
    assert log.after_a_minute() == [f"{10 * KEYS_LIMIT - 1} (repeated {9 * KEYS_LIMIT - 1} times)"]
