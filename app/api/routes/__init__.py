"""Every router of the API; a new one is one line here."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.routes import problems

ROUTERS: tuple[APIRouter, ...] = (problems.router,)
