"""Identifies the request that the running code works for. Answers, log lines and events include it.

The value applies to the request's task and to the tasks that it starts. A task that outlives its request must be
started in a detached context (`detached`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass

CLIENT_ID_CHARS = 64


@dataclass(frozen=True, slots=True)
class Cause:
    """`request_id` is unique. `client_id` is the `Client-Id` header, by which an app recognises its own changes."""

    request_id: str
    client_id: str | None = None


_CAUSE: ContextVar[Cause | None] = ContextVar("cause", default=None)


def new_request_id() -> str:
    return f"req_{secrets.token_urlsafe(15)}"


def current_cause() -> Cause | None:
    """The cause of the running code, or None outside of requests."""
    return _CAUSE.get()


def current_request_id() -> str:
    """The id of the running request, or a new id if there is none, as in an answer to malformed HTTP."""
    cause = _CAUSE.get()
    return new_request_id() if cause is None else cause.request_id


@contextmanager
def caused_by(cause: Cause | None) -> Iterator[None]:
    """Run the block as the work of this request."""
    token = _CAUSE.set(cause)
    try:
        yield
    finally:
        _CAUSE.reset(token)


def detached() -> Context:
    """A copy of the running context without the request, for a task that outlives it."""
    context = copy_context()
    context.run(_CAUSE.set, None)
    return context
