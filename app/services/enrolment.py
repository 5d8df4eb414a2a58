"""What a connect session ends in: an account that is added, or one that is connected anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.errors import InvalidRequest
from app.mail.types import AccountId, AccountKind
from app.services.account_rows import Servers, servers_at
from app.services.accounts import AccountChanges, Accounts, NewAccount
from app.services.authorization import TokenAnswer
from app.services.autoconfig import Autoconfig
from app.services.connecting import Visit
from app.services.grants import Consent
from app.services.oauth_apps import OAuthApp
from app.services.oauth_providers import MailServer
from app.wire.autoconfig.offers import Auth, Protocol


class Enrolment:
    """Adds accounts for those who visit; see `Connecting`."""

    def __init__(self, accounts: Accounts, autoconfig: Autoconfig) -> None:
        self._accounts = accounts
        self._autoconfig = autoconfig

    async def by_consent(self, visit: Visit, app: OAuthApp, answer: TokenAnswer) -> AccountId:
        """With the tokens that a consent gave. InvalidRequest, AddressNotAllowed, LoginRefused, Unreachable …"""
        if answer.refresh_token is None:
            raise InvalidRequest("The authorization server gives no refresh token: the app's scopes must ask for one")
        consent = Consent(
            app.id,
            answer.refresh_token,
            answer.access_token,
            answer.expires_at_ms,
            answer.scopes or " ".join(app.scopes),
        )
        if visit.account_id is not None:
            account_id = AccountId(visit.account_id)
            _, known = await self._accounts.servers(account_id)
            servers = known if known.grant_id is not None else known.without_passwords()
            await self._accounts.update(account_id, AccountChanges(servers=servers, consent=consent))
            return account_id
        email = answer.email or visit.email
        if not email:
            raise InvalidRequest("Nobody says which address this is")
        kind = AccountKind(visit.kind)
        servers = servers_at(app.servers or await self.found(email, kind, Auth.OAUTH2), kind, email)
        return (await self._accounts.add(NewAccount(kind, email, servers=servers, consent=consent))).id

    async def by_password(
        self, visit: Visit, email: str, username: str, password: str, servers: Mapping[str, MailServer]
    ) -> AccountId:
        """With a password for all its servers. As `by_consent`."""
        if visit.account_id is not None:
            account_id = AccountId(visit.account_id)
            _, known = await self._accounts.servers(account_id)
            await self._accounts.update(account_id, AccountChanges(servers=_with_password(known, password)))
            return account_id
        kind = AccountKind(visit.kind)
        logins = servers_at(servers, kind, username or email)
        new = NewAccount(kind, email, servers=_with_password(logins, password))
        return (await self._accounts.add(new)).id

    async def found(self, email: str, kind: AccountKind, auth: Auth = Auth.PASSWORD) -> dict[str, MailServer]:
        """The servers that are published for an address and take such a login, for an account of this kind.

        InvalidRequest, RateLimited.
        """
        found = await self._autoconfig.find(email)
        servers = {}
        for protocol in (Protocol(kind.value), Protocol.SMTP):
            offers = [one for one in found.of(protocol) if auth in one.auth]
            if offers:
                servers[protocol.value] = MailServer(offers[0].host, offers[0].port, offers[0].security)
        return servers


def _with_password(servers: Servers, password: str) -> Servers:
    logins: dict[str, Any] = {
        name: replace(one, password=password, tokens=None) for name, one in servers.logins.items()
    }
    return replace(servers, **logins)
