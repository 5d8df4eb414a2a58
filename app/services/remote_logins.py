"""Signing in with a mailbox of another mail server: that server says whether the password is right.

An account that is here already is asked at its own servers; for an address without one they are found, and the
account is added.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from app.db import directory
from app.db.session import Database
from app.errors import LoginRefused, NotSupported
from app.mail.backend import Backends
from app.mail.types import AccountId, AccountKind, ServerLogin, TransportSecurity
from app.services.account_rows import Servers
from app.services.accounts import AccountChanges, Accounts, NewAccount
from app.services.autoconfig import Autoconfig
from app.services.logins import Logins
from app.wire.autoconfig.offers import Auth, Protocol

ACCOUNTS_LIMIT = 3
"""Accounts of one address whose servers are asked."""


class RemoteLogins:
    """See `Logins`, with which failures are counted."""

    def __init__(
        self, database: Database, accounts: Accounts, backends: Backends, autoconfig: Autoconfig, logins: Logins
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._backends = backends
        self._autoconfig = autoconfig
        self._logins = logins
        self._adding = asyncio.Lock()

    async def verify(self, email: str, password: str, *, address: str) -> AccountId:
        """The account of this address and password, added where there is none. `address`: the client's.

        NotAuthenticated, RateLimited, NotSupported where no server is found that takes a password; Unreachable …
        """
        self._logins.check_address(address)
        try:
            return await self._known(email, password) or await self._added(email, password)
        except LoginRefused:
            await self._logins.refuse(email, address)

    async def _known(self, email: str, password: str) -> AccountId | None:
        """The first account of this address that the password opens, None where it has none. Raises LoginRefused."""
        refused: LoginRefused | None = None
        for id_ in await directory.remote_at(self._database, email, ACCOUNTS_LIMIT):
            try:
                return await self._opened(AccountId(id_), password)
            except LoginRefused as error:
                refused = error
        if refused is not None:
            raise refused
        return None

    async def _opened(self, account_id: AccountId, password: str) -> AccountId:
        """The account, whose server takes the password: it is kept where it is a new one."""
        kind, servers = await self._accounts.servers(account_id)
        login = servers.logins[kind.value]
        await self._backends.verify({kind.value: replace(login, password=password, tokens=None)})
        if login.tokens is None and login.password != password:
            changed = {name: replace(one, password=password) for name, one in servers.logins.items()}
            await self._accounts.update(account_id, AccountChanges(servers=Servers.of(changed, servers.rules)))
        return account_id

    async def _added(self, email: str, password: str) -> AccountId:
        servers = await self._found(email, password)
        async with self._adding:
            if known := await self._known(email, password):  # added by a request beside this one
                return known
            return (await self._accounts.add(NewAccount(AccountKind.IMAP, email, servers=servers))).id

    async def _found(self, email: str, password: str) -> Servers:
        found = await self._autoconfig.find(email)
        logins = {
            protocol.value: ServerLogin(one.host, one.port, one.security, one.username or email, password)
            for protocol in (Protocol.SMTP, Protocol.IMAP)
            for one in reversed(found.of(protocol))
            if Auth.PASSWORD in one.auth and one.security is not TransportSecurity.NONE
        }
        if "imap" not in logins:
            raise NotSupported("No mail server is known for this address that takes a password over TLS")
        return Servers.of(logins)
