"""The table of problems: what can go wrong, with its status, its replies and its help page.

A new error is a row here and a class in `errors.py` (or beside the service that raises it) with the same `code`.
Everything else is made from the row: the HTTP answer, the IMAP and SMTP replies, `GET /v1/problems/{code}` and
docs/errors.md.
"""

from __future__ import annotations

from app.problems import access, mail_servers, operation, requests, resources
from app.problems.row import Problem

__all__ = ["PROBLEMS", "SECTIONS", "Problem"]

SECTIONS: dict[str, tuple[Problem, ...]] = {
    "Requests": requests.ROWS,
    "Access": access.ROWS,
    "Resources": resources.ROWS,
    "Mail servers": mail_servers.ROWS,
    "The service": operation.ROWS,
}
PROBLEMS: dict[str, Problem] = {row.code: row for rows in SECTIONS.values() for row in rows}
"""Every kind of problem by its code."""
