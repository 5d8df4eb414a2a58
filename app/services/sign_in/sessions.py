"""Sign-in with the password of a mailbox: an access token, and a refresh token that rotates.

A refresh token works once. If a used one is presented again, someone has a copy: the whole session ends (RFC 9700
§4.14.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from app.cluster.bus import ACCESS, Bus
from app.db import accounts
from app.db import tokens as rows
from app.db.session import Database, Transaction
from app.db.tokens import StoredToken
from app.errors import NotAuthenticated, NotFound, NotSupported
from app.mail.identifiers import new_id, now_ms
from app.mail.types import AccountId
from app.security.secrets import SECRET_LIMIT_CHARS, hash_secret
from app.services.access.callers import ACCOUNT_SCOPES, Caller, TokenKind
from app.services.access.idempotency import Answer, Attempt
from app.services.access.logins import Login, Logins, wrong_password
from app.services.access.tokens import DEFAULT_SECONDS, TokenOrder, Tokens, caller_of
from app.services.sign_in.remote_logins import RemoteLogins

REFRESH_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A pair of tokens; each is shown once."""

    account_id: AccountId
    access_token: str
    refresh_token: str
    expires_in_seconds: int

    def __repr__(self) -> str:
        return f"SignedIn({self.account_id!r})"


class _Refused(Enum):
    """Why there is no next pair. USED: the session has ended, because someone has a copy of its refresh token."""

    UNKNOWN = "unknown"
    USED = "used"


class Sessions:
    """Sign-in sessions."""

    def __init__(
        self,
        database: Database,
        tokens: Tokens,
        logins: Logins,
        bus: Bus,
        domains: tuple[str, ...],
        remote: RemoteLogins | None = None,
    ) -> None:
        """`remote` verifies mailboxes of other mail servers; None if the installation does not allow that."""
        self._database = database
        self._tokens = tokens
        self._logins = logins
        self._bus = bus
        self._domains = frozenset(domain.lower() for domain in domains)
        self._remote = remote

    async def verify(self, email: str, password: str, address: str) -> Login:
        """Check a password. `address`: the client's.

        Raises NotAuthenticated, RateLimited; NotSupported for an external mailbox if that is not allowed. For an
        external mailbox also Unreachable, AddressNotAllowed …
        """
        if email.rpartition("@")[2].lower() in self._domains:
            return await self._logins.verify(email, password, address=address)
        if self._remote is None:
            raise NotSupported("This installation does not allow sign-in with a mailbox on another mail server")
        return await self._remote.verify(email, password, address=address)

    async def open(
        self, login: Login, attempt: Attempt | None = None, answer: Callable[[SignedIn], Answer] | None = None
    ) -> SignedIn:
        """Sign in. `answer` is stored with `attempt`. Raises NotAuthenticated if the password was changed meanwhile."""

        async def work(transaction: Transaction) -> SignedIn:
            if await accounts.held_credentials_version(transaction, login.account_id) != login.credentials_version:
                raise wrong_password()
            pair = await self.make_pair(transaction, login.account_id, new_id("ses"))
            if attempt is not None and answer is not None:
                await attempt.record(transaction, answer(pair))
            return pair

        return await self._database.write(work)

    async def refresh(
        self, refresh_token: str, attempt: Attempt | None = None, answer: Callable[[SignedIn], Answer] | None = None
    ) -> SignedIn:
        """Return the next pair; `answer` is stored with `attempt`.

        Raises NotAuthenticated for an unknown, used or ended token.
        """
        secret_hash = hash_secret(refresh_token[:SECRET_LIMIT_CHARS])

        async def work(transaction: Transaction) -> SignedIn | _Refused:
            caller = _refreshing(await rows.find_by_hash(transaction, secret_hash))
            if caller is None:
                return _Refused.UNKNOWN
            family, account_id = _family_of(caller)
            if await accounts.held_credentials_version(transaction, account_id) is None:
                return _Refused.UNKNOWN
            if not await rows.mark_used(transaction, caller.token_id):
                await rows.remove_family(transaction, family)
                transaction.after_commit(partial(self._bus.poke, ACCESS))
                return _Refused.USED
            pair = await self.make_pair(transaction, account_id, family)
            if attempt is not None and answer is not None:
                await attempt.record(transaction, answer(pair))
            return pair

        outcome = await self._database.write(work)
        if isinstance(outcome, _Refused):
            raise NotAuthenticated("The refresh token is not valid")
        return outcome

    async def sign_out(self, caller: Caller) -> None:
        """End a session by one of its own tokens, with all tokens that it created.

        Raises NotFound for any other token.
        """
        if (family := caller.family) is None or not caller.is_sign_in:
            raise NotFound("The token does not belong to a session")

        async def work(transaction: Transaction) -> None:
            await rows.remove_family(transaction, family)
            transaction.after_commit(partial(self._bus.poke, ACCESS))

        await self._database.write(work)

    async def make_pair(self, transaction: Transaction, account_id: AccountId, family: str) -> SignedIn:
        """Create the next tokens of a session, within a transaction."""

        def order(kind: TokenKind, seconds: int) -> TokenOrder:
            return TokenOrder(
                kind, ACCOUNT_SCOPES, account_ids=(account_id,), expires_in_seconds=seconds, family=family
            )

        _, access = await self._tokens.create_in(transaction, order(TokenKind.ACCOUNT, DEFAULT_SECONDS))
        _, refresh = await self._tokens.create_in(transaction, order(TokenKind.REFRESH, REFRESH_SECONDS))
        return SignedIn(account_id, access, refresh, DEFAULT_SECONDS)


def _refreshing(stored: StoredToken | None) -> Caller | None:
    caller = None if stored is None else caller_of(stored)
    if caller is None or caller.kind is not TokenKind.REFRESH or (caller.expires_at_ms or 0) <= now_ms():
        return None
    return caller


def _family_of(caller: Caller) -> tuple[str, AccountId]:
    assert caller.family is not None
    assert caller.account_ids is not None
    return caller.family, AccountId(next(iter(caller.account_ids)))
