"""Builds the services of the API."""

from __future__ import annotations

import asyncio
from functools import partial

from app.api.deps import AccountServices, MailServices, Services
from app.cluster.bus import ACCOUNTS
from app.mail.backend import Backends
from app.mailstore.conversations import Conversations
from app.mailstore.differences import Differences
from app.mailstore.texts import TextIndex
from app.runtime.backends import tls_context
from app.runtime.discovery import autoconfig_on
from app.runtime.stores import Stores
from app.security.netguard import NetGuard
from app.services.access.idempotency import Idempotency
from app.services.access.links import Links
from app.services.access.logins import Logins
from app.services.access.tickets import Tickets
from app.services.access.tokens import Tokens
from app.services.access.watch import AccessWatch
from app.services.accounts.accounts import Accounts
from app.services.accounts.initial_listing import InitialListing
from app.services.accounts.polling import Polling
from app.services.accounts.quotas import Quotas
from app.services.changing.bulk import Bulk
from app.services.changing.imports import Imports
from app.services.changing.keywords import Keywords
from app.services.changing.mailboxes import Mailboxes
from app.services.changing.messages import Messages
from app.services.changing.threads import Threads
from app.services.following.changes import ChangesSince
from app.services.following.consumers import Consumers
from app.services.following.counts import Counts
from app.services.following.events import Events
from app.services.following.states import States
from app.services.health import Health
from app.services.oauth.apps import OAuthApps
from app.services.oauth.authorization import Authorization
from app.services.oauth.grants import Grants
from app.services.reading.content import Content
from app.services.reading.freshness import Freshness
from app.services.reading.highlights import Highlights
from app.services.reading.listing import Listing
from app.services.reading.remote_images import RemoteImages
from app.services.reading.searching import Searching
from app.services.reading.texts import Texts
from app.services.reading.views import Views
from app.services.sending.composing import Composer
from app.services.sending.originals import Originals
from app.services.sending.submissions import Submissions
from app.services.sign_in.account_setup import AccountSetup
from app.services.sign_in.connecting import Connecting
from app.services.sign_in.passwords import Passwords
from app.services.sign_in.remote_logins import RemoteLogins
from app.services.sign_in.sessions import Sessions
from app.workers.loop import persist


def services_on(stores: Stores, backends: Backends, logins: Logins, guard: NetGuard) -> Services:
    """Build all services of the API."""
    draining = asyncio.Event()
    account_services = _account_services(stores, backends, logins, guard)
    mail_services = _mail_services(stores, backends, account_services.accounts, draining)
    return Services(
        **vars(account_services),
        **vars(mail_services),
        settings=stores.settings,
        traces=stores.traces,
        remote_images=RemoteImages(guard, tls_context(stores.settings)),
        health=Health(stores.database, stores.store.blobs, draining),
        note_follower=stores.followers.note,
        draining=draining,
    )


def _account_services(stores: Stores, backends: Backends, logins: Logins, guard: NetGuard) -> AccountServices:
    database, bus, settings, vault = stores.database, stores.bus, stores.settings, stores.vault
    tokens, autoconfig = Tokens(database, bus), autoconfig_on(settings, guard)
    oauth_apps, authorization = OAuthApps(database, vault, guard), Authorization(guard, tls_context(settings))
    on_over, is_alone = partial(bus.poke, ACCOUNTS), stores.is_alone
    grants = Grants(database, vault, oauth_apps, authorization, persist=persist, is_alone=is_alone, on_over=on_over)
    accounts = Accounts(database, stores.store, backends, logins, vault, bus, guard, settings.domains, grants)
    redirect_urls = settings.connect_redirect_urls
    connecting = Connecting(database, vault, oauth_apps, authorization, accounts, redirect_urls)
    idempotency = Idempotency(database, vault, is_alone=is_alone)
    remote = RemoteLogins(database, accounts, backends, autoconfig, logins) if settings.session_remote else None
    sessions = Sessions(database, tokens, logins, bus, settings.domains, remote)
    return AccountServices(
        tokens=tokens,
        tickets=Tickets(database, tokens),
        sessions=sessions,
        passwords=Passwords(database, accounts, backends, logins, sessions, vault, bus),
        access=AccessWatch(database, bus),
        accounts=accounts,
        oauth_apps=oauth_apps,
        grants=grants,
        connecting=connecting,
        enrolment=AccountSetup(accounts, autoconfig, connecting, idempotency),
        autoconfig=autoconfig,
        idempotency=idempotency,
    )


def _mail_services(stores: Stores, backends: Backends, accounts: Accounts, draining: asyncio.Event) -> MailServices:
    settings, database, bus = stores.settings, stores.database, stores.bus
    index, reader, store, parsers = stores.index, stores.reader, stores.store, stores.store.parsers
    states, text_index = States(stores.vault, stores.epoch), TextIndex(database)
    submissions = Submissions(database, index, store.blobs, bus, backends, settings.domains)
    events = Events(stores.log, reader, bus, submissions, draining, stores.restored_at_ms)
    initial_listing = InitialListing(backends, index, reader, bus)
    freshness = Freshness(backends, index, reader, stores.followers, initial_listing)
    texts = Texts(backends, reader, text_index)
    content, listing = Content(backends, reader, parsers), Listing(reader, states, freshness, texts)
    links = Links(database, stores.vault)
    messages = Messages(backends, index, reader, content)
    bulk = Bulk(backends, index, reader, messages, texts, store)
    return MailServices(
        quotas=Quotas(database, backends),
        polling=Polling(accounts, reader, stores.log, bus),
        mailboxes=Mailboxes(index, reader, backends, store, freshness),
        keywords=Keywords(reader),
        content=content,
        views=Views(reader, content, links, Highlights(text_index, parsers)),
        links=links,
        listing=listing,
        searching=Searching(accounts, reader, states, freshness, texts),
        messages=messages,
        bulk=bulk,
        threads=Threads(reader, Conversations(database), listing, texts, bulk),
        imports=Imports(backends, index, reader, store, messages, settings.max_message_bytes, parsers),
        states=states,
        events=events,
        changes=ChangesSince(Differences(database), stores.log, events),
        consumers=Consumers(database),
        counts=Counts(reader.mailboxes, bus),
        submissions=submissions,
        composer=Composer(reader, Originals(reader, backends, parsers), parsers),
    )
