"""Every router of the API; a new one is one line here."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.routes import accounts, events, mailboxes, problems, service, session, stream, submissions, tokens

ROUTERS: tuple[APIRouter, ...] = (
    service.router,
    problems.router,
    tokens.router,
    session.router,
    accounts.router,
    mailboxes.router,
    submissions.router,
    events.router,
    stream.router,
)
