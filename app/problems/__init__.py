"""The table of problems: each error with its HTTP status, IMAP and SMTP replies, and help page.

To add an error, add a row and a class with the same `code` in `errors.py` or in the module of the service that raises
it. Everything else is generated from the row: the HTTP response, the IMAP and SMTP replies, `GET /v1/problems/{code}`
and docs/errors.md.
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
