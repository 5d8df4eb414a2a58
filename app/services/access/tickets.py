"""Stream tickets: replace a token in a URL, once and for 30 seconds, for clients that cannot set headers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from app.db import tokens as rows
from app.db.session import Database, Transaction
from app.errors import NotAuthenticated
from app.mail.identifiers import now_ms
from app.security.secrets import hash_secret, is_secret, new_secret
from app.services.access.callers import Caller
from app.services.access.idempotency import Answer, Attempt
from app.services.access.tokens import Tokens

TICKET_SECONDS = 30


class Tickets:
    """Issues and redeems tickets."""

    def __init__(self, database: Database, tokens: Tokens) -> None:
        self._database = database
        self._tokens = tokens

    async def issue(
        self, caller: Caller, *, attempt: Attempt | None = None, answer: Callable[[str], Answer] | None = None
    ) -> str:
        """Issue a ticket with the rights of this caller. `answer` is stored with `attempt`."""
        ticket = new_secret()

        async def work(transaction: Transaction) -> None:
            expires_at_ms = now_ms() + TICKET_SECONDS * 1000
            await rows.add_ticket(transaction, hash_secret(ticket), caller.token_id, expires_at_ms)
            if attempt is not None and answer is not None:
                await attempt.record(transaction, answer(ticket))

        await self._database.write(work)
        return ticket

    async def redeem(self, ticket: str, address: str | None) -> Caller:
        """Redeem a ticket, which works once.

        Raises NotAuthenticated if it is unknown, used or expired, or its token is.
        """
        if not is_secret(ticket):
            raise NotAuthenticated("The ticket is not valid")
        secret_hash = hash_secret(ticket)
        stored = await self._database.write(partial(rows.take_ticket, secret_hash=secret_hash))
        if stored is None or stored.expires_at_ms <= now_ms():
            raise NotAuthenticated("The ticket is not valid")
        caller = await self._tokens.caller(stored.token_id)
        if not caller.may_come_from(address):
            raise NotAuthenticated
        return caller
