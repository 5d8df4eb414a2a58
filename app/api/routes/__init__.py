"""Every router of the API. Add a new router to `ROUTERS`."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.routes import (
    accounts,
    autoconfig,
    bulk,
    connect,
    content,
    docs,
    events,
    imports,
    keywords,
    links,
    mailboxes,
    messages,
    oauth_apps,
    pop3,
    problems,
    protocol_log,
    quotas,
    search,
    service,
    session,
    stream,
    submissions,
    threads,
    tickets,
    tokens,
)

ROUTERS: tuple[APIRouter, ...] = (
    messages.router,  # routes are matched in this order: the most frequent come first
    content.router,
    bulk.router,
    threads.router,
    submissions.router,
    mailboxes.router,
    keywords.router,
    links.router,
    service.router,
    problems.router,
    docs.router,
    tokens.router,
    session.router,
    search.router,
    accounts.router,
    oauth_apps.router,
    connect.router,
    autoconfig.router,
    quotas.router,
    protocol_log.router,
    pop3.router,
    imports.router,
    events.router,
    tickets.router,
    stream.router,
)
