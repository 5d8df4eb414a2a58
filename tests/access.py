"""Callers and passwords as tests need them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from app.cluster.bus import Waiter
from app.db import directory
from app.db.session import Database, Transaction
from app.mail.types import AccountId, TokenId
from app.services.access.callers import Caller, Scope, TokenKind
from app.services.access.logins import Logins
from app.services.access.watch import Guard
from app.services.accounts.accounts import end_sign_ins

ADMIN = Caller(TokenId("tok_admin"), TokenKind.SERVER, frozenset(Scope))
"""May do and sees everything."""


def caller(**limits: Any) -> Caller:
    """May do everything within these limits."""
    return replace(ADMIN, **limits)


class NoSubmissions:
    """For callers that see no submission."""

    async def is_seen(self, account_id: AccountId, submission_id: str, caller: Caller) -> bool:
        return False


@contextmanager
def unguarded(waiter: Waiter) -> Iterator[Guard]:
    """A guard that nobody ends."""
    yield Guard(ADMIN, waiter)


async def set_password(database: Database, logins: Logins, account_id: AccountId, password: str) -> None:
    """Change the password of an embedded account in the database."""
    new_hash = await logins.hash(password)

    async def work(transaction: Transaction) -> None:
        await directory.change(transaction, account_id, {"password_hash": new_hash})
        await end_sign_ins(transaction, account_id)

    await database.write(work)
