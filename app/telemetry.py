"""Structured logging, without secrets and message text.

Callers do not pass secrets to a logger; masking here is a second line of defence.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from app.cause import current_cause
from app.log_limits import RepetitionFilter, flush_regularly

_SECRET_KEYS = re.compile(r"(?i)password|secret|token$|authorization|credential|ticket|cookie|api_?key")
_SECRET_VALUES = re.compile(r"pgs_[A-Za-z0-9_-]+|(?i:bearer|basic)\s+\S+|(?i:ticket=)[^&\s]+")
_QUOTED = re.compile(r"""b?(['"]).*\1""")
MASK = "***"
MESSAGE_LIMIT_CHARS = 300
_CHAIN_LIMIT = 10


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; call with an event's name and facts: `log.info("account_added", account_id=…)`."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(name))


def describe_exception(error: BaseException) -> str:
    """The tracebacks and messages of an exception and its causes, without the values of variables.

    Quoted text in a message may be a secret or mail (`KeyError`, `int`), as may further lines (details of a database).
    Therefore only its first line is returned, without quoted text.
    """
    return "".join(_lines_of(error, _CHAIN_LIMIT))


def _lines_of(error: BaseException, limit: int) -> Iterator[str]:
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and limit > 0:
        yield from _lines_of(cause, limit - 1)
        yield "followed by\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__name__}: {_message_of(error)}\n"
    if isinstance(error, BaseExceptionGroup) and limit > 0:
        for exception in error.exceptions:
            yield from _lines_of(exception, limit - 1)


def _message_of(error: BaseException) -> str:
    first_line = next(iter(str(error).splitlines()), "")[:MESSAGE_LIMIT_CHARS]
    return first_line if isinstance(error, OSError) else _QUOTED.sub(MASK, first_line)


_EXCEPTIONS = structlog.processors.ExceptionRenderer(lambda exc_info: describe_exception(exc_info[1]))


class _Stderr:
    """Standard error for log lines. A line that cannot be written, for example to a full disk, is dropped."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure(level: str) -> None:
    """Write log lines as JSON to standard error, including those of libraries, from `level` (debug … error) on.

    Repeated lines of libraries, such as uvicorn's for malformed requests, are logged once and then counted.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _EXCEPTIONS,
        mask_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Stderr())),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[_without_record, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    repetitions = RepetitionFilter(handler.handle)
    handler.addFilter(repetitions)
    flush_regularly(repetitions)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.INFO))
    for name in ("aioimaplib", "aiosmtplib", "alembic", "asyncio", "uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)  # lower levels log protocol data


def add_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the id of the current request."""
    cause = current_cause()
    if cause is not None:
        event.setdefault("request_id", cause.request_id)
    return event


def mask_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask values that are, or look like, secrets."""
    for key, value in event.items():
        if _SECRET_KEYS.search(key):
            event[key] = MASK
        elif isinstance(value, str):
            event[key] = _SECRET_VALUES.sub(MASK, value)
    return event


def _without_record(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event


# Before `configure`, and in tests: structlog's own default prints the local variables of each frame.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        _EXCEPTIONS,
        mask_secrets,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)
