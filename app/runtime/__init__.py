"""Builds everything, in order, and closes it in reverse: the only place that picks implementations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from app.api.deps import Services
from app.cluster.bus import ACCOUNTS, DRAIN, Bus, LocalBus
from app.cluster.followers import Followers
from app.cluster.leases import Leases
from app.db.epoch import WatchedDatabase, open_epoch
from app.db.migrate import open_database
from app.db.ownership import sole_use
from app.db.session import Database
from app.ending import close_within
from app.mail.backend import Backends
from app.mail.trace import Traces
from app.mailstore.blobs import Blobs
from app.mailstore.conversations import Conversations
from app.mailstore.differences import Differences
from app.mailstore.index import Index
from app.mailstore.log import EventLog
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.mailstore.texts import TextIndex
from app.mailstore.views import MailboxViews
from app.parsing.pool import ParserPool
from app.runtime.backends import AccountBackends, tls_context
from app.runtime.discovery import autoconfig_on
from app.runtime.installation import open_vault
from app.runtime.mail_servers import MailServers
from app.security.netguard import NetGuard
from app.security.vault import Vault
from app.servers.imap.session import ImapServices
from app.servers.pop3 import Pop3Conversation, Pop3Site
from app.servers.smtp import Face, SmtpSite
from app.servers.smtp.guesses import Guesses
from app.services.access import AccessWatch
from app.services.accounts import Accounts
from app.services.authorization import Authorization
from app.services.bulk import Bulk
from app.services.changes import ChangesSince
from app.services.composing import Composer
from app.services.connecting import Connecting
from app.services.consumers import Consumers
from app.services.content import Content
from app.services.deliveries import Deliveries
from app.services.enrolment import Enrolment
from app.services.events import Events
from app.services.freshness import Freshness
from app.services.grants import Grants
from app.services.health import Health
from app.services.highlights import Highlights
from app.services.idempotency import Idempotency
from app.services.imports import Imports
from app.services.listing import Listing
from app.services.logins import Logins
from app.services.mailboxes import Mailboxes
from app.services.maildrops import Maildrops
from app.services.messages import Messages
from app.services.oauth_apps import OAuthApps
from app.services.originals import Originals
from app.services.passwords import Passwords
from app.services.polling import Polling
from app.services.quotas import Quotas
from app.services.remote_logins import RemoteLogins
from app.services.searching import Searching
from app.services.sessions import Sessions
from app.services.states import States
from app.services.submissions import Submissions
from app.services.texts import Texts
from app.services.threads import Threads
from app.services.tickets import Tickets
from app.services.tokens import Tokens
from app.services.views import Views
from app.settings import Settings
from app.telemetry import get_logger
from app.workers.delivery import Delivery
from app.workers.epoch import EpochKeeper
from app.workers.lookout import Lookout
from app.workers.loop import persist
from app.workers.recovery import Recovery
from app.workers.retention import Retention
from app.workers.supervisor import Supervisor
from app.workers.text_room import TextLimits
from app.workers.texts import TextFiller, TextReader

log = get_logger(__name__)

WORKERS_SECONDS = 4.0
"""How long the workers may take to end what they are doing."""


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
    """Where the mail servers listen, by the name of their setting."""
    bus: Bus = field(default_factory=LocalBus)
    parts: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    """What ends the mail servers and the workers."""

    async def drain(self) -> None:
        """End streams and long polls, conversations of the mail servers, and workers, all at the same time."""
        self.services.draining.set()
        self.bus.poke(DRAIN)
        await asyncio.gather(*(part() for part in self.parts))


@dataclass(slots=True)
class Stores:
    """What everything else stands on."""

    settings: Settings
    database: Database
    bus: LocalBus
    index: Index
    reader: MailReader
    log: EventLog
    store: MailStore
    vault: Vault
    epoch: str = ""
    restored_at_ms: int = 0
    keeper: EpochKeeper | None = None
    traces: Traces = field(default_factory=Traces)
    followers: Followers = field(init=False)

    def __post_init__(self) -> None:
        self.followers = Followers(self.bus)


@asynccontextmanager
async def open_runtime(
    settings: Settings, *, is_serving: bool = True, mail_connections: int = 10_000
) -> AsyncIterator[Runtime]:
    """Open the stores, start the workers and the mail servers; close them when the block ends.

    `mail_connections`: how many the mail servers may have open.

    Without `is_serving` nothing listens and nothing works unasked: for one command, beside a running server too.
    """
    async with AsyncExitStack() as stack:
        if is_serving:
            stack.enter_context(sole_use(settings))
        stores = await _open_stores(settings, stack, is_serving=is_serving)
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
            runtime.parts.append(await _start_workers(stack, stores, backends, deliveries))
            servers = _mail_servers(stores, logins, services.access, deliveries, mail_connections)
            runtime.parts.append(servers.close)
            stack.push_async_callback(runtime.drain)
            await servers.start()
            runtime.ports = servers.ports
        yield runtime


async def _open_stores(settings: Settings, stack: AsyncExitStack, *, is_serving: bool) -> Stores:
    opened = await open_database(settings, is_sole=is_serving)
    stack.push_async_callback(close_within, "database", opened.close)
    known = await open_epoch(settings, opened)
    keeper = EpochKeeper(settings, opened)
    stack.push_async_callback(close_within, "epoch", keeper.close)
    vault = await open_vault(settings, opened, known)
    database = WatchedDatabase(opened, keeper.wake)
    parsers = ParserPool()
    stack.push_async_callback(close_within, "parsers", parsers.close)
    bus = LocalBus()
    index = Index(database, bus)
    blobs = await asyncio.to_thread(Blobs, settings.data_dir / "blobs")
    if is_serving:
        blobs.forget_unfinished()
    return Stores(
        settings,
        database,
        bus,
        index,
        MailReader(database),
        EventLog(database),
        MailStore(database, index, blobs, parsers),
        vault,
        known.epoch,
        known.restored_at_ms,
        keeper,
    )


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


def services_on(stores: Stores, backends: Backends, logins: Logins, guard: NetGuard) -> Services:
    """Every service that the API calls."""
    database, index, reader = stores.database, stores.index, stores.reader
    bus, settings = stores.bus, stores.settings
    tokens = Tokens(database, bus)
    states = States(stores.vault, stores.epoch)
    draining = asyncio.Event()
    submissions = Submissions(database, index, stores.store.blobs, bus, backends, settings.domains)
    events = Events(stores.log, reader, bus, submissions, draining, stores.restored_at_ms)
    text_index = TextIndex(database)
    texts, freshness = Texts(backends, reader, text_index), Freshness(backends, index, reader, stores.followers)
    parsers = stores.store.parsers
    content = Content(backends, reader, parsers)
    messages = Messages(backends, index, reader, content)
    listing = Listing(reader, states, freshness, texts)
    bulk = Bulk(backends, index, reader, messages, texts, stores.store)
    oauth_apps = OAuthApps(database, stores.vault, guard)
    authorization = Authorization(guard, tls_context(settings))
    grants = Grants(
        database,
        stores.vault,
        oauth_apps,
        authorization,
        persist=persist,
        is_alone=settings.database_url is None,
        on_over=partial(bus.poke, ACCOUNTS),
    )
    accounts = Accounts(database, stores.store, backends, logins, stores.vault, bus, guard, settings.domains, grants)
    autoconfig = autoconfig_on(settings, guard)
    idempotency = Idempotency(database, stores.vault, is_alone=settings.database_url is None)
    redirect_urls = settings.connect_redirect_urls
    connecting = Connecting(database, stores.vault, oauth_apps, authorization, accounts, redirect_urls)
    remote = RemoteLogins(database, accounts, backends, autoconfig, logins) if settings.session_remote else None
    sessions = Sessions(database, tokens, logins, bus, settings.domains, remote)
    return Services(
        settings=settings,
        tokens=tokens,
        tickets=Tickets(database, tokens),
        sessions=sessions,
        passwords=Passwords(database, accounts, backends, logins, sessions, stores.vault, bus),
        access=AccessWatch(database, bus),
        accounts=accounts,
        oauth_apps=oauth_apps,
        grants=grants,
        connecting=connecting,
        enrolment=Enrolment(accounts, autoconfig, connecting, idempotency),
        autoconfig=autoconfig,
        quotas=Quotas(database, backends),
        traces=stores.traces,
        polling=Polling(accounts, reader, stores.log, bus),
        mailboxes=Mailboxes(index, reader, backends, stores.store),
        content=content,
        views=Views(reader, content, Highlights(text_index, parsers)),
        listing=listing,
        searching=Searching(accounts, reader, states, freshness, texts),
        messages=messages,
        bulk=bulk,
        threads=Threads(reader, Conversations(database), listing, texts, bulk),
        imports=Imports(backends, index, reader, stores.store, messages, settings.max_message_bytes, parsers),
        states=states,
        events=events,
        changes=ChangesSince(Differences(database), stores.log, events),
        consumers=Consumers(database),
        submissions=submissions,
        composer=Composer(reader, Originals(reader, backends, parsers), parsers),
        idempotency=idempotency,
        health=Health(database, stores.store.blobs, draining),
        followers=stores.followers,
        draining=draining,
    )


async def _start_workers(
    stack: AsyncExitStack, stores: Stores, backends: AccountBackends, deliveries: Deliveries
) -> Callable[[], Awaitable[None]]:
    """Start what runs unasked; what is returned stops it."""
    group = await stack.enter_async_context(asyncio.TaskGroup())
    is_alone = stores.settings.database_url is None
    delivery = Delivery(
        stores.database,
        stores.index,
        stores.reader,
        stores.store,
        backends,
        deliveries,
        stores.bus,
        hostname=stores.settings.hostname,
        is_alone=is_alone,
    )
    text_index = TextIndex(stores.database)
    texts = TextReader(stores.reader, text_index, TextLimits.of(stores.settings), stores.store.parsers)
    supervisor = Supervisor(
        stores.database,
        stores.index,
        stores.reader,
        backends,
        stores.bus,
        Leases(stores.database, is_alone=is_alone),
        texts,
    )
    filler = TextFiller(stores.index, stores.reader, text_index, backends, texts)
    retention = Retention(stores.settings, stores.database, stores.reader, stores.store.blobs)
    recovery = Recovery(stores.database, stores.bus)
    lookout = Lookout(stores.log, stores.bus)
    runs = [delivery.run(), supervisor.run(), filler.run(), retention.run(), recovery.run(), lookout.run()]
    runs.append(stores.followers.run())
    if stores.keeper is not None:
        runs.append(stores.keeper.run())
    tasks = [group.create_task(run) for run in runs]

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=WORKERS_SECONDS)

    return stop


def _mail_servers(
    stores: Stores, logins: Logins, access: AccessWatch, deliveries: Deliveries, connections: int
) -> MailServers:
    settings = stores.settings
    views, texts = MailboxViews(stores.database), TextIndex(stores.database)
    imap = ImapServices(stores.store, stores.reader, views, stores.bus, logins, texts, settings.max_message_bytes)
    guesses = Guesses()
    sites = {
        face: SmtpSite(face, settings.hostname, deliveries, logins, settings.max_message_bytes, guesses)
        for face in Face
    }
    pop3 = Pop3Site(settings.hostname, logins, Maildrops(stores.database, stores.store))
    answer_pop3 = lambda peer: Pop3Conversation(peer, pop3)  # noqa: E731
    return MailServers(settings, access, imap, sites.__getitem__, answer_pop3, connections)
