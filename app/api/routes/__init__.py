"""Every router of the API; a new one is one line here."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.routes import (
    accounts,
    bulk,
    content,
    events,
    imports,
    mailboxes,
    messages,
    problems,
    service,
    session,
    stream,
    submissions,
    tokens,
)

ROUTERS: tuple[APIRouter, ...] = (
    service.router,
    problems.router,
    tokens.router,
    session.router,
    accounts.router,
    mailboxes.router,
    bulk.router,
    imports.router,
    messages.router,
    content.router,
    submissions.router,
    events.router,
    stream.router,
)
