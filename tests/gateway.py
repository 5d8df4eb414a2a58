"""The HTTP API on a store in a temporary folder, called without a socket."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx2
from app.api.application import create_api
from app.api.deps import Services
from app.backends.local import LocalBackend
from app.cluster.bus import LocalBus
from app.db.session import Database
from app.errors import NotSupported
from app.mail.backend import MailBackend, Submission
from app.mail.types import AccountId, ServerLogin
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.runtime.services import services_on
from app.runtime.stores import Stores
from app.security.netguard import NetGuard
from app.security.vault import Vault
from app.services.access.callers import Scope, TokenKind
from app.services.access.tokens import TokenOrder
from app.settings import Settings
from fastapi import FastAPI

from tests.harness import Harness, open_harness
from tests.servers.tls import NO_AUTHORITIES

DOMAIN = "demo.test"
MASTER_KEY = bytes(range(32))


class _Stores(Protocol):
    """What local backends stand on."""

    @property
    def database(self) -> Database: ...

    @property
    def bus(self) -> LocalBus: ...

    @property
    def reader(self) -> MailReader: ...

    @property
    def store(self) -> MailStore: ...


class FakeBackends:
    """Local accounts as they are; `refusal` is what every login at a remote server ends with."""

    def __init__(self, stores: _Stores) -> None:
        self._stores = stores
        self.refusal: Exception | None = None
        self.verified: list[tuple[ServerLogin | None, ServerLogin | None]] = []
        self.tried: list[dict[str, ServerLogin]] = []
        """The same by protocol."""
        self.forgotten: list[AccountId] = []
        self.given: dict[AccountId, MailBackend] = {}
        """Backends of accounts that are not local."""

    async def of(self, account_id: AccountId) -> MailBackend:
        stores = self._stores
        if account_id in self.given:
            return self.given[account_id]
        return LocalBackend(account_id, stores.store, stores.reader, stores.database, stores.bus)

    async def submission_of(self, account_id: AccountId) -> Submission:
        raise NotSupported("Mail to other domains needs a smarthost")

    async def verify(self, logins: Mapping[str, ServerLogin]) -> None:
        self.verified.append((logins.get("imap"), logins.get("smtp")))
        self.tried.append(dict(logins))
        if self.refusal is not None:
            raise self.refusal

    async def forget(self, account_id: AccountId) -> None:
        self.forgotten.append(account_id)

    async def forget_changed(self) -> None:
        """No other process changes an account."""


def client_of(app: FastAPI, headers: dict[str, str]) -> httpx2.AsyncClient:
    """A client that asks for no compression, which would show in ETags."""
    headers = {"Accept-Encoding": "identity", **headers}
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://postgate.test", headers=headers)


def files_holding(folder: Path, text: bytes) -> list[Path]:
    """The files below a folder that hold a text in clear."""
    return [path for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


async def _no_names(host: str) -> list[str]:
    raise OSError(host)


def without_request_id(response: httpx2.Response) -> str:
    """The body of an answer, for a comparison: two problems that look alike differ in their `request_id` alone."""
    return re.sub(r'"request_id":"req_[^"]+",', "", response.text)


@contextmanager
def without_public_authorities() -> Iterator[None]:
    """Let TLS contexts that are made meanwhile trust nobody."""
    before = dict(os.environ)
    os.environ |= NO_AUTHORITIES
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass(frozen=True, slots=True)
class Gateway:
    """`admin` calls with a server key that may do everything."""

    harness: Harness
    services: Services
    backends: FakeBackends
    app: FastAPI
    admin: httpx2.AsyncClient
    folder: Path

    async def token(self, *account_ids: AccountId, scopes: Sequence[Scope] = (Scope.MAIL_READ,), **limits: Any) -> str:
        """The secret of a new account token."""
        order = TokenOrder(TokenKind.ACCOUNT, frozenset(scopes), account_ids=account_ids, **limits)
        return (await self.services.tokens.create(order))[1]

    def client(self, secret: str | None, **headers: str) -> httpx2.AsyncClient:
        """A client with this token; to be used without closing."""
        authorization = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return client_of(self.app, {**authorization, **headers})


@asynccontextmanager
async def open_gateway(folder: Path, database_url: str | None = None, **settings: Any) -> AsyncIterator[Gateway]:
    """A Gateway with all services on a Harness; no mail server and no worker runs."""
    async with open_harness(folder, database_url) as harness:
        backends = FakeBackends(harness)
        services = _services(harness, backends, Settings(data_dir=folder, domains=(DOMAIN,), **settings))
        app = create_api()
        app.state.services = services
        key = TokenOrder(TokenKind.SERVER, frozenset(Scope))
        _, secret = await services.tokens.create(key)
        yield Gateway(harness, services, backends, app, client_of(app, {"Authorization": f"Bearer {secret}"}), folder)
        await services.grants.close()


def _services(harness: Harness, backends: FakeBackends, settings: Settings) -> Services:
    stores = Stores(
        settings,
        harness.database,
        harness.bus,
        harness.index,
        harness.reader,
        harness.log,
        harness.store,
        Vault([MASTER_KEY]),
    )
    guard = NetGuard(tuple(settings.net_allow), resolver=_no_names)
    with without_public_authorities():
        return services_on(stores, backends, harness.logins, guard)
