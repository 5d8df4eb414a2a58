"""The result of a connect session: a new account, or a reconnected one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from app.errors import Conflict, IdempotencyMismatch, IdempotencyRunning, InvalidRequest
from app.mail.offers import Auth, Protocol
from app.mail.types import AccountId, AccountKind
from app.services.access.idempotency import Answer, Attempt, Idempotency, hash_payload
from app.services.accounts.accounts import Account, AccountChanges, Accounts, NewAccount
from app.services.accounts.autoconfig import Autoconfig
from app.services.accounts.rows import Servers, servers_at
from app.services.oauth.apps import OAuthApp
from app.services.oauth.authorization import TokenAnswer
from app.services.oauth.grants import Consent
from app.services.oauth.providers import MailServer
from app.services.sign_in.connecting import Connecting, ConnectSessionNotFound, OpenConnectSession


class AccountSetup:
    """Adds accounts for connect sessions; see `Connecting`."""

    def __init__(
        self, accounts: Accounts, autoconfig: Autoconfig, connecting: Connecting, idempotency: Idempotency
    ) -> None:
        self._accounts = accounts
        self._autoconfig = autoconfig
        self._connecting = connecting
        self._idempotency = idempotency

    async def once(
        self, visit: OpenConnectSession, form: Mapping[str, str], enrol: Callable[[Attempt], Awaitable[str]]
    ) -> str:
        """Return where the browser goes at the end: the result of `enrol`, or its earlier result for the same form.

        `enrol` runs to its end even if the caller is cancelled. If it raises, the session has no outcome yet. Raises
        Conflict while it runs; ConnectSessionNotFound if another form has ended the session.
        """
        payload = hash_payload(*(text.encode() for field in sorted(form.items()) for text in field))

        async def work(attempt: Attempt) -> Answer:
            return _leading_to(await enrol(attempt))

        try:
            begun = await self._idempotency.begin(f"connect {visit.id}", "outcome", payload, is_secret=True)
        except IdempotencyMismatch:
            raise ConnectSessionNotFound from None
        except IdempotencyRunning:
            raise Conflict("This login is already being checked: try again in a few seconds") from None
        answer = await self._idempotency.complete(begun, work) if isinstance(begun, Attempt) else begun
        await self._connecting.end(visit)
        return answer.headers["Location"]

    async def by_consent(
        self, visit: OpenConnectSession, app: OAuthApp, answer: TokenAnswer, attempt: Attempt
    ) -> AccountId:
        """Use the tokens of a consent. Raises InvalidRequest, AddressNotAllowed, LoginRefused, Unreachable …"""
        if answer.refresh_token is None:
            raise InvalidRequest(
                "The authorization server returned no refresh token: the scopes of the app must request one"
            )
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
            raise InvalidRequest("The e-mail address of the account could not be determined")
        kind = AccountKind(visit.kind)
        servers = servers_at(app.servers or await self.found(email, kind, Auth.OAUTH2), kind, email)
        return await self._added(visit, NewAccount(kind, email, servers=servers, consent=consent), attempt)

    async def by_password(
        self,
        visit: OpenConnectSession,
        email: str,
        username: str,
        password: str,
        servers: Mapping[str, MailServer],
        attempt: Attempt,
    ) -> AccountId:
        """Use one password for all servers. Raises as `by_consent`."""
        if visit.account_id is not None:
            account_id = AccountId(visit.account_id)
            _, known = await self._accounts.servers(account_id)
            await self._accounts.update(account_id, AccountChanges(servers=_with_password(known, password)))
            return account_id
        kind = AccountKind(visit.kind)
        logins = servers_at(servers, kind, username or email)
        return await self._added(visit, NewAccount(kind, email, servers=_with_password(logins, password)), attempt)

    async def _added(self, visit: OpenConnectSession, new: NewAccount, attempt: Attempt) -> AccountId:
        """Add an account, and store in the same transaction where the browser goes."""

        def answer(account: Account) -> Answer:
            return _leading_to(visit.ending(account_id=account.id))

        return (await self._accounts.add(new, attempt=attempt, answer=answer)).id

    async def found(self, email: str, kind: AccountKind, auth: Auth = Auth.PASSWORD) -> dict[str, MailServer]:
        """Return the published servers of an address that accept such a login, for an account of this kind.

        Raises InvalidRequest, RateLimited.
        """
        found = await self._autoconfig.find(email)
        servers = {}
        for protocol in (Protocol(kind.value), Protocol.SMTP):
            offers = [offer for offer in found.of(protocol) if auth in offer.auth]
            if offers:
                servers[protocol.value] = MailServer(offers[0].host, offers[0].port, offers[0].security)
        return servers


def _leading_to(url: str) -> Answer:
    return Answer(303, b"", {"Location": url})


def _with_password(servers: Servers, password: str) -> Servers:
    logins: dict[str, Any] = {
        name: replace(login, password=password, tokens=None) for name, login in servers.logins.items()
    }
    return replace(servers, **logins)
