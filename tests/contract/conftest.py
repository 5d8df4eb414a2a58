from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from app.backends.imap.backend import ImapBackend
from app.backends.imap.origin import Hosts, Origin
from app.backends.imap.session import ClientSession
from app.backends.imap.watching import inbox, sweeping
from app.backends.local import LocalBackend
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.contract.mail_account import ACCOUNT, LocalMailAccount, MailAccount, Mirror
from tests.contract.stores import Stores, open_stores
from tests.harness import open_harness
from tests.imap_harness import PASSWORD, USER, open_imap_harness
from tests.pop3_harness import dovecot_maildrop, open_polled
from tests.servers import gmail, providers
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.dovecot import Dovecot
from tests.servers.tls import TlsFiles

GUARD = NetGuard.of(["127.0.0.0/8"])
CLEARTEXT = ssl.create_default_context()
"""For servers that are spoken to without TLS. It takes 20 ms to make."""
LIKE_EXCHANGE = frozenset({"IMAP4REV1", "IDLE", "MOVE", "UIDPLUS", "LITERAL+", "NAMESPACE", "CHILDREN", "UNSELECT"})
BARE = frozenset({"IMAP4REV1"})


@dataclass(frozen=True, slots=True)
class PoorerOrigin(Origin):
    """A server of which only these capabilities are believed, as if it had no more."""

    offered: frozenset[str] = BARE

    async def open(self, *, is_compressed: bool = True) -> ClientSession:
        session = await Origin.open(self, is_compressed=is_compressed)
        session.protocol.offered &= self.offered
        session.enabled = frozenset()
        return session


PROVIDERS = {one.name: one for one in (providers.MICROSOFT_365, providers.ICLOUD, providers.YAHOO)}
LOCAL, OWN_IMAP = "local", "own-imap"
KINDS = {
    LOCAL: None,
    OWN_IMAP: None,
    "dovecot-mdbox": None,
    "dovecot-maildir": None,
    "dovecot-like-exchange": LIKE_EXCHANGE,
    "dovecot-bare": BARE,
    "gmail": None,
    "pop3": None,
    **dict.fromkeys(PROVIDERS),
    "cyrus": None,
    "courier": None,
}


@pytest.fixture(autouse=True)
def quick_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let those that are watched by asking be asked often, so that no test waits for it."""
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", (0.2, 0.2))
    monkeypatch.setattr(inbox, "POLL_SECONDS", 0.2)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Each database that a promise is kept on: a file in the folder of the test (None), or one of PostgreSQL."""
    return request.getfixturevalue("postgres_url") if request.param == "postgresql" else None


@pytest.fixture
async def stores(database_url: str | None, tmp_path: Path) -> AsyncIterator[Stores]:
    """Stores on each database."""
    async with open_stores(tmp_path, database_url) as opened:
        yield opened


@pytest.fixture(params=KINDS)
async def account(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MailAccount]:
    """An empty account behind each kind of backend."""
    if request.param == LOCAL:
        opened = _local(tmp_path)
    elif request.param == OWN_IMAP:
        opened = _own_imap(tmp_path)
    elif request.param == "pop3":
        opened = _pop3(request, tmp_path)
    elif request.param == "gmail":
        opened = _gmail()
    elif request.param in PROVIDERS:
        opened = _provided(request)
    elif request.param in ("cyrus", "courier"):
        opened = _unpacked(request)
    else:
        opened = _dovecot(request)
    async with opened as one:
        yield one


@asynccontextmanager
async def _local(folder: Path) -> AsyncIterator[MailAccount]:
    async with open_harness(folder) as harness:
        account_id = await harness.add_account("me@mail.test")
        backend = LocalBackend(account_id, harness.store, harness.reader, harness.database, harness.bus)
        yield LocalMailAccount(backend, Mirror(), harness, account_id)


@asynccontextmanager
async def _pop3(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[MailAccount]:
    maildrop = dovecot_maildrop(request.getfixturevalue("dovecot"))
    async with open_polled(folder, maildrop.login) as polled:
        yield LocalMailAccount(polled.backend, Mirror(), polled.harness, polled.account_id)


@asynccontextmanager
async def _own_imap(folder: Path) -> AsyncIterator[MailAccount]:
    async with open_imap_harness(folder) as served:
        login = ServerLogin("127.0.0.1", served.port, TransportSecurity.NONE, USER, PASSWORD)
        async with _mirrored(Origin(login, GUARD, CLEARTEXT, Hosts())) as account:
            yield account


@asynccontextmanager
async def _gmail() -> AsyncIterator[MailAccount]:
    async with gmail.running_gmail() as served:
        served.store.make("Archive")
        login = ServerLogin("127.0.0.1", served.port, TransportSecurity.NONE, gmail.USER, gmail.PASSWORD)
        async with _mirrored(Origin(login, GUARD, CLEARTEXT, Hosts())) as account:
            account.roles = gmail.ROLES
            yield account


@asynccontextmanager
async def _dovecot(request: pytest.FixtureRequest) -> AsyncIterator[MailAccount]:
    dovecot: Dovecot = request.getfixturevalue("dovecot")
    tls: TlsFiles = request.getfixturevalue("tls")
    user = dovecot.add_user(format="maildir" if request.param == "dovecot-maildir" else "mdbox")
    login = ServerLogin("127.0.0.1", dovecot.imap_port, TransportSecurity.STARTTLS, user.name, user.password)
    context, offered = tls.client_context(), KINDS[request.param]
    origin = Origin(login, GUARD, context, Hosts())
    if offered is not None:
        origin = PoorerOrigin(login, GUARD, context, Hosts(), offered=offered)
    async with _mirrored(origin) as account:
        yield account


@asynccontextmanager
async def _provided(request: pytest.FixtureRequest) -> AsyncIterator[MailAccount]:
    dovecot: Dovecot = request.getfixturevalue("dovecot")
    user = dovecot.add_user()
    async with providers.running(PROVIDERS[request.param], dovecot.imap_port) as server:
        login = ServerLogin("127.0.0.1", server.port, TransportSecurity.NONE, user.name, user.password)
        async with _mirrored(Origin(login, GUARD, CLEARTEXT, Hosts())) as account:
            yield account


@asynccontextmanager
async def _unpacked(request: pytest.FixtureRequest) -> AsyncIterator[MailAccount]:
    server: Cyrus | Courier = request.getfixturevalue(request.param)
    tls: TlsFiles = request.getfixturevalue("tls")
    user = server.add_user()
    login = ServerLogin("127.0.0.1", server.imap_port, TransportSecurity.STARTTLS, user.name, user.password)
    async with _mirrored(Origin(login, GUARD, tls.client_context(), Hosts())) as account:
        if isinstance(server, Cyrus):
            account.refused_in_names = frozenset('%"{}')
        yield account


@asynccontextmanager
async def _mirrored(origin: Origin) -> AsyncIterator[MailAccount]:
    mirror = Mirror()
    backend = ImapBackend(ACCOUNT, origin, mirror)
    try:
        yield MailAccount(backend, mirror)
    finally:
        await backend.close()
