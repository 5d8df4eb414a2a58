"""OAuth apps: the client registrations of this installation at authorization servers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import orjson

from app.db import oauth
from app.db.session import Database, Transaction
from app.errors import AddressNotAllowed, Conflict, InvalidRequest, NotFound
from app.mail.identifiers import new_id, now_ms
from app.mail.storable import json_bytes
from app.mail.types import AccountKind, TransportSecurity
from app.security.http import check_url
from app.security.netguard import NetGuard
from app.security.vault import Vault
from app.services.access.idempotency import Answer, Attempt
from app.services.oauth.providers import CUSTOM, PROVIDERS, Endpoints, MailServer, endpoints_of

_PLAIN = ("name", "scopes", "client_id", "client_secret", "servers", "redirect_urls")
_ENDPOINTS = ("authorization_url", "token_url", "issuer", "client_auth", "revocation_url")
_URLS = ("authorization_url", "token_url", "revocation_url")
_MANY = 200
"""The most apps that are searched for a provider, or listed to choose from."""


class OAuthAppNotFound(NotFound):
    code = "oauth_app_not_found"


@dataclass(frozen=True, slots=True)
class OAuthApp:
    """A registered client. `redirect_urls`: where a connect session may redirect a browser at its end."""

    id: str
    provider: str
    name: str
    tenant: str | None
    endpoints: Endpoints
    scopes: tuple[str, ...]
    client_id: str
    client_secret: str | None = field(repr=False)
    servers: Mapping[str, MailServer]
    redirect_urls: tuple[str, ...]
    created_at_ms: int

    def serves(self, kind: AccountKind) -> bool:
        """Whether its tokens are for accounts of this kind; an app without servers is for any."""
        return not self.servers or kind.value in self.servers

    @property
    def consent(self) -> Mapping[str, str]:
        """The parameters that an authorization request needs to get a refresh token."""
        preset = PROVIDERS.get(self.provider)
        return preset.consent if preset is not None else {}


@dataclass(frozen=True, slots=True)
class OAuthAppOrder:
    """A new app, or changes of an app: None takes the provider's preset, or keeps the value."""

    name: str | None = None
    tenant: str | None = None
    authorization_url: str | None = None
    token_url: str | None = None
    issuer: str | None = None
    client_auth: str | None = None
    revocation_url: str | None = None
    scopes: tuple[str, ...] | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    servers: Mapping[str, MailServer] | None = None
    redirect_urls: tuple[str, ...] | None = None
    cleared: frozenset[str] = frozenset()
    """Those of `tenant`, `issuer` and `revocation_url` that a change removes."""


class OAuthApps:
    """All apps of this installation."""

    def __init__(self, database: Database, vault: Vault, guard: NetGuard) -> None:
        self._database = database
        self._vault = vault
        self._guard = guard

    async def get(self, id_: str) -> OAuthApp:
        """Raises OAuthAppNotFound, MasterKeyError."""
        stored = await oauth.app(self._database, id_)
        if stored is None:
            raise OAuthAppNotFound
        return self.opened(stored)

    async def page(self, limit: int, above_id: str = "") -> tuple[list[OAuthApp], str | None]:
        """Return apps, oldest first, and the id to continue above; None at the end."""
        stored = await oauth.apps(self._database, above_id, limit)
        return [self.opened(app) for app in stored], (stored[-1].id if len(stored) == limit else None)

    async def all(self) -> list[OAuthApp]:
        """Return the apps that a user can choose from."""
        return (await self.page(_MANY))[0]

    async def chosen(self, id_: str | None, provider: str | None, pointer: str = "") -> OAuthApp:
        """Return the app with this id, or the first of a provider. Raises InvalidRequest with a pointer."""
        if id_ is not None:
            try:
                return await self.get(id_)
            except OAuthAppNotFound:
                raise InvalidRequest.at(f"{pointer}/oauth_app_id", "Unknown OAuth app") from None
        app = next((item for item in await self.all() if item.provider == provider), None)
        if app is None:
            raise InvalidRequest.at(f"{pointer}/provider", "No OAuth app of this provider exists")
        return app

    async def add(
        self,
        provider: str,
        order: OAuthAppOrder,
        *,
        attempt: Attempt | None = None,
        answer: Callable[[OAuthApp], Answer] | None = None,
    ) -> OAuthApp:
        """Register an app. `answer` is stored with `attempt`.

        Raises InvalidRequest, AddressNotAllowed with a pointer.
        """
        endpoints = await self._endpoints(provider, order)
        preset = PROVIDERS.get(provider)
        app = OAuthApp(
            id=new_id("app"),
            provider=provider,
            name=order.name or (preset.title if preset else ""),
            tenant=order.tenant,
            endpoints=endpoints,
            scopes=order.scopes or (preset.scopes if preset else ()),
            client_id=_needed(order.client_id, "/client_id"),
            client_secret=order.client_secret,
            servers=order.servers or (preset.servers if preset else {}),
            redirect_urls=order.redirect_urls or (),
            created_at_ms=now_ms(),
        )
        values = {"id": app.id, "provider": provider, "created_at_ms": app.created_at_ms, **self._values(app)}

        async def work(transaction: Transaction) -> OAuthApp:
            await oauth.add_app(transaction, values)
            if attempt is not None and answer is not None:
                await attempt.record(transaction, answer(app))
            return app

        return await self._database.write(work)

    async def change(self, id_: str, order: OAuthAppOrder) -> OAuthApp:
        """Change an app. Raises as `add`; Conflict if accounts' tokens would be sent to another URL."""
        known = await self.get(id_)
        merged = replace(order, tenant=None if "tenant" in order.cleared else order.tenant or known.tenant)
        if known.provider == CUSTOM:
            named = {name: getattr(order, name) or getattr(known.endpoints, name) for name in _ENDPOINTS}
            overrides = named | dict.fromkeys(order.cleared & named.keys())
            merged = replace(merged, **overrides)
        endpoints = await self._endpoints(known.provider, merged)
        changes = {name: value for name in _PLAIN if (value := getattr(order, name)) is not None}
        app = replace(known, endpoints=endpoints, tenant=merged.tenant, **changes)
        is_elsewhere = known.provider == CUSTOM and _leads_elsewhere(endpoints, known.endpoints)
        if is_elsewhere and known.client_secret is not None and order.client_secret is None:
            raise InvalidRequest.at("/client_secret", "Required when the token or revocation URL changes")

        async def work(transaction: Transaction) -> None:
            if is_elsewhere and await oauth.is_app_in_use(transaction, id_):
                raise Conflict("Accounts use this app, and their tokens belong to its current token URL")
            await oauth.change_app(transaction, id_, self._values(app))

        await self._database.write(work)
        return app

    async def remove(self, id_: str) -> None:
        """Raises OAuthAppNotFound; Conflict while an account's tokens come from the app."""

        async def work(transaction: Transaction) -> None:
            if await oauth.is_app_in_use(transaction, id_):
                raise Conflict("Accounts use this app: connect them through another app or remove them first")
            if not await oauth.remove_app(transaction, id_):
                raise OAuthAppNotFound

        await self._database.write(work)

    async def seal_anew(self) -> int:
        """Encrypt the client secrets with the newest master key. Return how many used an older one."""
        count = 0
        for stored in await oauth.apps(self._database, "", _MANY):
            if stored.secret is None or self._vault.is_current(stored.secret):
                continue
            sealed = self._vault.seal(self._vault.open(stored.secret, stored.id), stored.id)
            await self._database.write(partial(oauth.change_app, id_=stored.id, changes={"secret": sealed}))
            count += 1
        return count

    async def _endpoints(self, provider: str, order: OAuthAppOrder) -> Endpoints:
        """Return the endpoints of a preset or an order. Raises InvalidRequest, AddressNotAllowed with a pointer."""
        if provider != CUSTOM:
            misplaced = [name for name in (*_URLS, "issuer") if getattr(order, name)]
            if misplaced:
                raise InvalidRequest.at(f"/{misplaced[0]}", "Only a custom app takes this field")
            return endpoints_of(PROVIDERS[provider], order.tenant)
        if order.tenant is not None:
            raise InvalidRequest.at("/tenant", "A custom app does not take this field")
        authorization_url = _needed(order.authorization_url, "/authorization_url")
        token_url = _needed(order.token_url, "/token_url")
        for name in _URLS:
            if url := getattr(order, name):
                await self._check(url, f"/{name}")
        return Endpoints(authorization_url, token_url, order.issuer, order.client_auth or "basic", order.revocation_url)

    async def _check(self, url: str, pointer: str) -> None:
        try:
            await check_url(url, self._guard)
        except AddressNotAllowed as error:
            raise AddressNotAllowed.at(pointer, error.detail) from None
        except InvalidRequest as error:
            raise InvalidRequest.at(pointer, error.detail) from None

    def _values(self, app: OAuthApp) -> dict[str, Any]:
        secret = app.client_secret
        return {
            "name": app.name,
            "endpoints": json_bytes({**asdict(app.endpoints), "tenant": app.tenant}).decode(),
            "scopes": " ".join(app.scopes),
            "client_id": app.client_id,
            "secret": None if secret is None else self._vault.seal(secret.encode(), app.id),
            "servers": json_bytes({name: asdict(server) for name, server in app.servers.items()}).decode(),
            "redirect_urls": json_bytes(app.redirect_urls).decode(),
        }

    def opened(self, stored: oauth.StoredApp) -> OAuthApp:
        """Return an app with its client secret. Raises MasterKeyError."""
        facts = orjson.loads(stored.endpoints)
        tenant = facts.pop("tenant")
        is_custom = stored.provider == CUSTOM
        return OAuthApp(
            id=stored.id,
            provider=stored.provider,
            name=stored.name,
            tenant=tenant,
            endpoints=Endpoints(**facts) if is_custom else endpoints_of(PROVIDERS[stored.provider], tenant),
            scopes=tuple(stored.scopes.split()),
            client_id=stored.client_id,
            client_secret=None if stored.secret is None else self._vault.open(stored.secret, stored.id).decode(),
            servers={
                protocol: MailServer(server["host"], server["port"], TransportSecurity(server["security"]))
                for protocol, server in orjson.loads(stored.servers).items()
            },
            redirect_urls=tuple(orjson.loads(stored.redirect_urls)),
            created_at_ms=stored.created_at_ms,
        )


def _leads_elsewhere(now: Endpoints, before: Endpoints) -> bool:
    """Whether tokens would be sent to a URL that did not get them before."""
    is_revoked_elsewhere = (
        now.revocation_url not in (None, before.revocation_url)
        and urlsplit(now.revocation_url or "").netloc != urlsplit(before.token_url).netloc
    )
    return now.token_url != before.token_url or is_revoked_elsewhere


def _needed(text: str | None, pointer: str) -> str:
    if not text:
        raise InvalidRequest.at(pointer, "Required")
    return text
