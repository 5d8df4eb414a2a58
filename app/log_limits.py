"""Limits log lines that clients can repeat: each is logged once, then counted, with a summary every minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

SUMMARY_SECONDS = 60.0
KEYS_LIMIT = 1_000
"""Number of different lines that are counted at a time."""


_Key = tuple[str, int, str, str]


@dataclass(slots=True)
class _Repeated:
    """The last record of a line, the time it was logged, and how often it was suppressed since."""

    record: logging.LogRecord
    logged_at: float
    count: int = 0


class RepetitionFilter(logging.Filter):
    """Suppresses a line that was logged within the last minute. `flush` passes a summary of suppressed lines to `emit`.

    Lines are equal if logger, level, message (without its arguments) and the position of an exception are.
    """

    def __init__(
        self, emit: Callable[[logging.LogRecord], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._emit = emit
        self._clock = clock
        self._lock = threading.Lock()
        self._repeated: dict[_Key, _Repeated] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record, _Summary):
            return True
        key = _key_of(record)
        with self._lock:
            if key not in self._repeated and len(self._repeated) >= KEYS_LIMIT:
                key = ("", 0, "", "")  # all further lines together
            known = self._repeated.get(key)
            if known is None:
                self._repeated[key] = _Repeated(record, self._clock())
                return True
            known.record, known.count = record, known.count + 1
            return False

    def flush(self) -> None:
        """Log summaries of lines suppressed for a minute, and drop lines that were not repeated."""
        now = self._clock()
        with self._lock:
            due = [(key, line) for key, line in self._repeated.items() if now - line.logged_at >= SUMMARY_SECONDS]
            for key, line in due:
                if line.count:
                    self._repeated[key] = _Repeated(line.record, now)
                else:
                    del self._repeated[key]
        for _, line in due:
            if line.count:
                self._emit(_Summary(line.record, line.count))


class _Summary(logging.LogRecord):
    """A record with the number of equal ones, without an exception."""

    def __init__(self, last: logging.LogRecord, count: int) -> None:
        text = f"{last.getMessage()} (repeated {count} times)"
        super().__init__(last.name, last.levelno, last.pathname, last.lineno, text, None, None)


def _key_of(record: logging.LogRecord) -> _Key:
    error, position = (record.exc_info or (None, None, None))[1:]
    while position is not None and position.tb_next is not None:
        position = position.tb_next
    location = "" if position is None else f"{position.tb_frame.f_code.co_filename}:{position.tb_lineno}"
    return record.name, record.levelno, str(record.msg)[:200], f"{type(error).__name__} {location}"


def flush_regularly(repetitions: RepetitionFilter) -> None:
    """Log summaries from a thread while the process runs."""

    def work() -> None:
        while True:
            time.sleep(SUMMARY_SECONDS / 6)
            repetitions.flush()

    threading.Thread(target=work, name="log-summaries", daemon=True).start()
