"""Logs: structured lines, never a secret nor the text of a message."""

from __future__ import annotations

from typing import cast

import structlog


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of a module; call with an event's name and facts: `log.info("account_added", account_id=…)`."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(name))
