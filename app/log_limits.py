"""Log lines that clients can cause as often as they like: logged once, then counted, with a summary each minute."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

SUMMARY_SECONDS = 60.0
KEYS_LIMIT = 1_000
"""Different lines that are counted at one time."""


_Key = tuple[str, int, str, str]


@dataclass(slots=True)
class _Repeated:
    """The last record of a line, when the line was logged, and how often it was left out since."""

    record: logging.LogRecord
    logged_at: float
    count: int = 0


class RepetitionFilter(logging.Filter):
    """Leaves out a line that was logged within the last minute. `flush` gives `emit` a summary of what was left out.

    Lines are the same where logger, level, message (without its arguments) and the place of an exception are.
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
                key = ("", 0, "", "")  # all that there is no room for
            known = self._repeated.get(key)
            if known is None:
                self._repeated[key] = _Repeated(record, self._clock())
                return True
            known.record, known.count = record, known.count + 1
            return False

    def flush(self) -> None:
        """Log what was left out for a minute, and forget the lines that did not come again."""
        now = self._clock()
        with self._lock:
            due = [(key, one) for key, one in self._repeated.items() if now - one.logged_at >= SUMMARY_SECONDS]
            for key, one in due:
                if one.count:
                    self._repeated[key] = _Repeated(one.record, now)
                else:
                    del self._repeated[key]
        for _, one in due:
            if one.count:
                self._emit(_Summary(one.record, one.count))


class _Summary(logging.LogRecord):
    """A record with the number of those like it, without their exceptions."""

    def __init__(self, last: logging.LogRecord, count: int) -> None:
        text = f"{last.getMessage()} (repeated {count} times)"
        super().__init__(last.name, last.levelno, last.pathname, last.lineno, text, None, None)


def _key_of(record: logging.LogRecord) -> _Key:
    error, place = (record.exc_info or (None, None, None))[1:]
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
    return record.name, record.levelno, str(record.msg)[:200], f"{type(error).__name__} {where}"


def flush_regularly(repetitions: RepetitionFilter) -> None:
    """Write summaries from a thread, for as long as the process runs."""

    def work() -> None:
        while True:
            time.sleep(SUMMARY_SECONDS / 6)
            repetitions.flush()

    threading.Thread(target=work, name="log-summaries", daemon=True).start()
