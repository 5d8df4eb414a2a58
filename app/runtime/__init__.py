"""Builds all components in order and closes them in reverse. Only this package chooses implementations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from app.api.deps import Services
from app.cluster.bus import DRAIN, Bus, LocalBus
from app.db.ownership import sole_use
from app.ending import close_within
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.mailstore.texts import TextIndex
from app.mailstore.views import MailboxViews
from app.runtime.backends import AccountBackends
from app.runtime.mail_servers import EmbeddedServers
from app.runtime.services import services_on
from app.runtime.stores import Stores, open_stores
from app.runtime.workers import start_workers
from app.security.netguard import NetGuard
from app.servers.imap.session import ImapServices
from app.servers.pop3 import Pop3Conversation, Pop3Site
from app.servers.smtp import ListenerRole, SmtpSite
from app.servers.smtp.recipient_probes import RecipientProbes
from app.services.access.logins import Logins
from app.services.access.watch import AccessWatch
from app.services.accounts.maildrops import Maildrops
from app.services.sending.deliveries import Deliveries
from app.settings import Settings


@dataclass(slots=True)
class Runtime:
    """A running Postgate."""

    settings: Settings
    services: Services
    reader: MailReader
    store: MailStore
    logins: Logins
    deliveries: Deliveries
    ports: dict[str, int] = field(default_factory=dict)
    """Name of a mail server → the port that it listens on."""
    bus: Bus = field(default_factory=LocalBus)
    parts: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    """Functions that stop the mail servers and the workers."""

    async def drain(self) -> None:
        """End streams, long polls, mail server conversations and workers, all at the same time."""
        self.services.draining.set()
        self.bus.poke(DRAIN)
        await asyncio.gather(*(part() for part in self.parts))


@asynccontextmanager
async def open_runtime(
    settings: Settings, *, is_serving: bool = True, mail_connections: int = 10_000
) -> AsyncIterator[Runtime]:
    """Open the stores, start the workers and the mail servers; close them when the block ends.

    `mail_connections` is the maximum of the mail servers' connections.

    Without `is_serving` no server and no worker starts: for CLI commands, even while a server is running.
    """
    async with AsyncExitStack() as stack:
        if is_serving:
            stack.enter_context(sole_use(settings))
        stores = await open_stores(settings, stack, is_serving=is_serving)
        backends, logins, services = _open_backends(stores, stack)
        deliveries = Deliveries(
            stores.database,
            stores.index,
            stores.store,
            stores.bus,
            settings.domains,
            has_smarthost=settings.smarthost is not None,
        )
        runtime = Runtime(settings, services, stores.reader, stores.store, logins, deliveries, bus=stores.bus)
        if is_serving:
            runtime.parts.append(await start_workers(stack, stores, backends, deliveries))
            servers = _mail_servers(stores, logins, services.access, deliveries, mail_connections)
            runtime.parts.append(servers.close)
            stack.push_async_callback(runtime.drain)
            await servers.start()
            runtime.ports = servers.ports
        yield runtime


def _open_backends(stores: Stores, stack: AsyncExitStack) -> tuple[AccountBackends, Logins, Services]:
    guard = NetGuard(stores.settings.net_allow)
    backends = AccountBackends(
        stores.settings,
        stores.database,
        stores.reader,
        stores.store,
        stores.bus,
        guard,
        stores.traces,
        stores.followers,
    )
    stack.push_async_callback(close_within, "backends", backends.close)
    logins = Logins(stores.database)
    services = services_on(stores, backends, logins, guard)
    stack.push_async_callback(close_within, "grants", services.grants.close)
    stack.push_async_callback(close_within, "idempotency", services.idempotency.close)
    backends.servers_of = services.accounts.servers
    return backends, logins, services


def _mail_servers(
    stores: Stores, logins: Logins, access: AccessWatch, deliveries: Deliveries, connections: int
) -> EmbeddedServers:
    settings = stores.settings
    views, texts = MailboxViews(stores.database), TextIndex(stores.database)
    imap = ImapServices(stores.store, stores.reader, views, stores.bus, logins, texts, settings.max_message_bytes)
    guesses = RecipientProbes()
    sites = {
        role: SmtpSite(role, settings.hostname, deliveries, logins, settings.max_message_bytes, guesses)
        for role in ListenerRole
    }
    pop3 = Pop3Site(settings.hostname, logins, Maildrops(stores.database, stores.store))
    pop3_conversation = lambda peer: Pop3Conversation(peer, pop3)  # noqa: E731
    return EmbeddedServers(settings, access, imap, sites.__getitem__, pop3_conversation, connections)
