"""Password changes by the owner of an account, and the sessions that they end."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from app.cluster.bus import ACCESS, Bus
from app.db import accounts as rows
from app.db import directory, tokens
from app.db.session import Database, Transaction
from app.errors import Conflict, InvalidRequest, NotPermitted
from app.mail.backend import Backends
from app.mail.types import AccountId, AccountKind
from app.security.vault import Vault
from app.services.access.callers import Caller
from app.services.access.idempotency import Answer, Attempt
from app.services.access.logins import Login, Logins, folded, wrong_password
from app.services.access.throttle import LoginOutcome
from app.services.accounts.accounts import Accounts, end_sign_ins
from app.services.accounts.rows import Servers, sealed_servers
from app.services.sign_in.sessions import Sessions, SignedIn


class NoPassword(Conflict):
    code = "account_has_no_password"


@dataclass(frozen=True, slots=True)
class PasswordChange:
    """`revokes_tokens`: also end the tokens that server keys created for the account."""

    old: str = field(repr=False)
    new: str = field(repr=False)
    revokes_tokens: bool = False


@dataclass(frozen=True, slots=True)
class _Proven:
    """A change whose old password was right: the login, and the columns with the new password."""

    login: Login
    columns: dict[str, object] = field(repr=False)
    is_remote: bool


class Passwords:
    """Changes passwords. `change` is the only way to do so without the scope admin."""

    def __init__(
        self,
        database: Database,
        accounts: Accounts,
        backends: Backends,
        logins: Logins,
        sessions: Sessions,
        vault: Vault,
        bus: Bus,
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._backends = backends
        self._logins = logins
        self._sessions = sessions
        self._vault = vault
        self._bus = bus

    async def change(
        self,
        account_id: AccountId,
        caller: Caller,
        change: PasswordChange,
        address: str,
        *,
        attempt: Attempt | None = None,
        answer: Callable[[SignedIn], Answer] | None = None,
    ) -> SignedIn:
        """Set a new password if the old one is right. Return the caller's next pair of tokens.

        All sign-in sessions of the account end, with the tokens that they created, and all mail sessions. `address`
        is the client's; `answer` is stored with `attempt`. For an external account, the old password is compared with
        the stored one, and the new one is tried at the server. Raises NotPermitted for a token not created by a
        sign-in, RateLimited, NotAuthenticated for a wrong old password, InvalidRequest, NoPassword, Conflict if it
        was changed meanwhile, MailServerError.
        """
        family = caller.family
        if family is None or not caller.is_sign_in:
            raise NotPermitted("Only a sign-in with the account's password can change it")
        proven = await self._proven(account_id, change, address)

        async def work(transaction: Transaction) -> SignedIn:
            await self._write(transaction, proven, is_revoking=change.revokes_tokens)
            pair = await self._sessions.make_pair(transaction, account_id, family)
            if attempt is not None and answer is not None:
                await attempt.record(transaction, answer(pair))
            return pair

        pair = await self._database.write(work)
        await self._accounts.restarts.wait(account_id)
        return pair

    async def _proven(self, account_id: AccountId, change: PasswordChange, address: str) -> _Proven:
        """Check that the old password is right, and that the new one is valid; see `change`."""
        account = await self._accounts.get(account_id)
        if account.kind is AccountKind.EMBEDDED:
            login = await self._logins.verify(account.email, change.old, address=address)
            return _Proven(login, {"password_hash": await self._hash(change.new, address)}, is_remote=False)
        login, servers = await self._verified(account_id, account.email, change.old, address)
        return _Proven(login, await self._new_servers(account_id, servers, change), is_remote=True)

    async def _write(self, transaction: Transaction, proven: _Proven, *, is_revoking: bool) -> None:
        """Set the new password and end the old one's sessions. Raises Conflict if it was changed meanwhile."""
        account_id = proven.login.account_id
        if await rows.held_credentials_version(transaction, account_id) != proven.login.credentials_version:
            raise Conflict("The password was changed by another request")
        await directory.change(transaction, account_id, proven.columns)
        await end_sign_ins(transaction, account_id)
        transaction.after_commit(partial(self._bus.poke, ACCESS))
        if proven.is_remote:
            transaction.after_commit(partial(self._accounts.restarts.begin, account_id))
        if is_revoking:
            await tokens.remove_of_account(transaction, account_id)

    async def _hash(self, new: str, address: str) -> str:
        try:
            return await self._logins.hash(new, address=address)
        except InvalidRequest as error:
            raise InvalidRequest.at("/new_password", error.detail) from None

    async def _verified(self, account_id: AccountId, email: str, old: str, address: str) -> tuple[Login, Servers]:
        """Compare a password with the stored one."""
        version = await rows.credentials_version(self._database, account_id) or 0
        kind, servers = await self._accounts.servers(account_id)
        stored = servers.logins[kind.value].password
        if not stored:
            raise NoPassword("The account signs in with OAuth, not with a password")
        async with self._logins.throttle.attempt(folded(email), address) as attempt:
            is_right = hmac.compare_digest(stored.encode(), old.encode("utf-8", "surrogatepass"))
            attempt.outcome = LoginOutcome.RIGHT if is_right else LoginOutcome.WRONG
        if not is_right:
            raise wrong_password()
        return Login(account_id, version), servers

    async def _new_servers(self, account_id: AccountId, servers: Servers, change: PasswordChange) -> dict[str, object]:
        """Return the columns with the new password, which the servers accept. Raises LoginRefused, Unreachable …"""
        changed = {
            name: replace(login, password=change.new) if login.password == change.old else login
            for name, login in servers.logins.items()
        }
        await self._backends.verify(changed)
        return {**sealed_servers(Servers.of(changed, servers.rules), account_id, self._vault), "status": "ready"}
