"""Logs: structured lines, never a secret nor the text of a message.

What must not be logged is not given to a logger in the first place; masking here is the net below.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, cast

import structlog

_SECRET_KEYS = re.compile(r"(?i)password|secret|token$|authorization|credential|ticket|cookie|api_?key")
_SECRET_VALUES = re.compile(r"pgs_[A-Za-z0-9_-]+|(?i:bearer|basic)\s+\S+|(?i:ticket=)[^&\s]+")
MASK = "***"


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; call with an event's name and facts: `log.info("account_added", account_id=…)`."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(name))


def configure(level: str) -> None:
    """Send log lines as JSON to standard error, those of libraries too, from `level` (debug … error) on."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        mask_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[_without_record, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.INFO))
    for name in ("aioimaplib", "aiosmtplib", "alembic", "asyncio", "uvicorn", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)  # below it they log what is on the wire


def mask_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what is, or looks like, a secret."""
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
