"""Sign-in with a mailbox on another mail server, which decides whether the password is right.

An existing account is verified at its own servers. For another address, the servers are discovered and an account is
added.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from app.db import accounts as rows
from app.db import directory
from app.db.session import Database
from app.errors import LoginRefused, NotSupported
from app.mail.backend import Backends
from app.mail.offers import Auth, Protocol
from app.mail.types import AccountId, AccountKind, ServerLogin, TransportSecurity
from app.services.access.logins import Login, Logins, folded, wrong_password
from app.services.access.throttle import LoginOutcome
from app.services.accounts.accounts import AccountChanges, Accounts, NewAccount
from app.services.accounts.autoconfig import Autoconfig
from app.services.accounts.rows import Servers

ACCOUNTS_LIMIT = 3
"""The most accounts of one address whose servers are asked."""


class RemoteLogins:
    """See `Logins`, which counts the failures."""

    def __init__(
        self, database: Database, accounts: Accounts, backends: Backends, autoconfig: Autoconfig, logins: Logins
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._backends = backends
        self._autoconfig = autoconfig
        self._logins = logins
        self._adding = asyncio.Lock()

    async def verify(self, email: str, password: str, *, address: str) -> Login:
        """Sign in to the account of this address, and add it if there is none. `address`: the client's.

        Raises NotAuthenticated, RateLimited, NotSupported if no server is found that accepts a password; Unreachable
        …
        """
        async with self._logins.throttle.attempt(folded(email), address) as attempt:
            try:
                login = await self._known(email, password) or await self._added(email, password)
                attempt.outcome = LoginOutcome.RIGHT
            except LoginRefused:
                attempt.outcome = LoginOutcome.WRONG
                raise wrong_password() from None
        return login

    async def _known(self, email: str, password: str) -> Login | None:
        """Return the first account of this address that the password opens, None if it has none.

        Raises LoginRefused.
        """
        refused: LoginRefused | None = None
        for id_ in await directory.remote_at(self._database, email, ACCOUNTS_LIMIT):
            try:
                return await self._opened(AccountId(id_), password)
            except LoginRefused as error:
                refused = error
        if refused is not None:
            raise refused
        return None

    async def _opened(self, account_id: AccountId, password: str) -> Login:
        """Sign in to an account whose server accepts the password, and store it if it is new."""
        version = await self._version(account_id)
        kind, servers = await self._accounts.servers(account_id)
        login = servers.logins[kind.value]
        await self._backends.verify({kind.value: replace(login, password=password, tokens=None)})
        is_new = login.tokens is None and login.password != password
        if is_new and not await self._is_accepted({kind.value: login}):
            changed = {name: replace(login, password=password) for name, login in servers.logins.items()}
            await self._accounts.update(account_id, AccountChanges(servers=Servers.of(changed, servers.rules)))
            version += 1
        return Login(account_id, version)

    async def _is_accepted(self, logins: Mapping[str, ServerLogin]) -> bool:
        """Whether the stored password is valid too: a server may accept several, one for each program."""
        try:
            await self._backends.verify(logins)
        except LoginRefused:
            return False
        return True

    async def _version(self, account_id: AccountId) -> int:
        return await rows.credentials_version(self._database, account_id) or 0

    async def _added(self, email: str, password: str) -> Login:
        servers = await self._discovered(email, password)
        async with self._adding:
            if known := await self._known(email, password):  # added by a concurrent request
                return known
            return Login((await self._accounts.add(NewAccount(AccountKind.IMAP, email, servers=servers))).id, 0)

    async def _discovered(self, email: str, password: str) -> Servers:
        found = await self._autoconfig.find(email)
        logins = {
            protocol.value: ServerLogin(offer.host, offer.port, offer.security, offer.username or email, password)
            for protocol in (Protocol.SMTP, Protocol.IMAP)
            for offer in reversed(found.of(protocol))
            if Auth.PASSWORD in offer.auth and offer.security is not TransportSecurity.NONE
        }
        if "imap" not in logins:
            raise NotSupported("No mail server that accepts a password over TLS is known for this address")
        return Servers.of(logins)
