"""Every router of the API; a new one is one line here."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.routes import (
    accounts,
    bulk,
    content,
    docs,
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
    messages.router,  # first: a route is sought in this order, and lists are asked for most
    service.router,
    problems.router,
    docs.router,
    tokens.router,
    session.router,
    accounts.router,
    mailboxes.router,
    bulk.router,
    imports.router,
    content.router,
    submissions.router,
    events.router,
    stream.router,
)
