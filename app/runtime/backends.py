"""Creates the backend of each account by its kind, and keeps it with its connections."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from app.backends.imap.backend import ImapBackend
from app.backends.imap.origin import Hosts, Origin
from app.backends.imap.pool import Pool
from app.backends.local import LocalBackend
from app.backends.pop3.backend import Pop3Backend
from app.backends.pop3.opening import SESSIONS_AT_ONCE, Pop3Origin
from app.backends.pop3.refusals import MaildropLocked
from app.backends.smtp import SmtpSubmission
from app.cluster.bus import Bus
from app.cluster.followers import Followers
from app.db import directory
from app.db.session import Database
from app.errors import GatewayError, InvalidRequest, NotSupported, TimedOut
from app.mail.backend import MailBackend, Submission
from app.mail.protocol_log import ProtocolLogs
from app.mail.types import AccountId, AccountKind, ServerLogin, TransportSecurity
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.security.netguard import NetGuard
from app.services.accounts.rows import Servers
from app.settings import Settings

VERIFY_SECONDS = 10.0

COMPARED_AT_ONCE = 1_000
"""Accounts whose rows are compared by one statement."""

ServersOf = Callable[[AccountId], Awaitable[tuple[AccountKind, Servers]]]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A backend, and the fingerprint of its account from before the account was read."""

    backend: MailBackend
    fingerprint: int | None


class AccountBackends:
    """Implements `Backends`. `servers_of` is set later, because the accounts service itself depends on this object."""

    servers_of: ServersOf

    def __init__(
        self,
        settings: Settings,
        database: Database,
        reader: MailReader,
        store: MailStore,
        bus: Bus,
        guard: NetGuard,
        traces: ProtocolLogs,
        followers: Followers,
    ) -> None:
        self._followers = followers
        self._database = database
        self._reader = reader
        self._store = store
        self._bus = bus
        self._guard = guard
        self._traces = traces
        self._tls = tls_context(settings)
        self._hosts = Hosts(settings.imap_host_connections)
        self._connections = settings.imap_account_connections
        self._pop3_turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(SESSIONS_AT_ONCE))
        self._client_name = settings.hostname
        self._smarthost = _smarthost(settings)
        self._open: dict[AccountId, _Opened] = {}
        self._generation = 0
        """Number of `forget` calls: a backend made from an account read before the last one is discarded."""
        self._submissions: dict[AccountId | None, SmtpSubmission] = {}

    async def of(self, account_id: AccountId) -> MailBackend:
        while (opened := self._open.get(account_id)) is None:
            generation = self._generation
            fingerprint = (await directory.fingerprints(self._database, [account_id])).get(account_id)
            kind, servers = await self.servers_of(account_id)
            if generation == self._generation:
                created = _Opened(self._make(account_id, kind, servers), fingerprint)
                return self._open.setdefault(account_id, created).backend
        return opened.backend

    def _make(self, account_id: AccountId, kind: AccountKind, servers: Servers) -> MailBackend:
        if kind is AccountKind.EMBEDDED:
            return LocalBackend(account_id, self._store, self._reader, self._database, self._bus)
        if servers.pop3 is not None:
            turns = self._pop3_turns[f"{servers.pop3.host.lower()}:{servers.pop3.port}"]
            recorder = partial(self._traces.recorder, account_id, "pop3")
            origin = Pop3Origin(servers.pop3, self._guard, self._tls, turns, recorder)
            return Pop3Backend(account_id, origin, servers.rules, self._store, self._reader, self._database, self._bus)
        if servers.imap is None:
            raise NotSupported("This account has no mail server to read mail from")
        recorder = partial(self._traces.recorder, account_id, "imap")
        imap = replace(self._origin(servers.imap), new_recorder=recorder)
        self._followers.hear(account_id)
        is_followed = partial(self._followers.is_followed, account_id)
        return ImapBackend(
            account_id, imap, self._reader.mailboxes, Pool(imap.open, limit=self._connections), is_followed
        )

    def _origin(self, login: ServerLogin) -> Origin:
        return Origin(login, self._guard, self._tls, self._hosts)

    async def submission_of(self, account_id: AccountId) -> Submission:
        kind, servers = await self.servers_of(account_id)
        if kind is AccountKind.EMBEDDED:
            if self._smarthost is None:
                raise NotSupported("Mail to other domains needs the setting POSTGATE_SMARTHOST")
            return self._submission(None, self._smarthost)
        if servers.smtp is None:
            raise NotSupported("This account has no SMTP server")
        return self._submission(account_id, servers.smtp)

    def _submission(self, key: AccountId | None, login: ServerLogin) -> SmtpSubmission:
        known = self._submissions.get(key)
        if known is None or known.server != login:
            if known is not None:
                known.close()
            recorder = partial(self._traces.recorder, key, "smtp") if key is not None else None
            known = SmtpSubmission(login, self._guard, self._tls, self._client_name, recorder)
            self._submissions[key] = known
        return known

    async def verify(self, logins: Mapping[str, ServerLogin]) -> None:
        tries = {"imap": self._verify_imap, "pop3": self._verify_pop3, "smtp": self._verify_smtp}
        attempts = [tries[protocol](login) for protocol, login in logins.items()]
        try:
            async with asyncio.timeout(VERIFY_SECONDS):
                await asyncio.gather(*attempts)
        except TimeoutError:
            raise TimedOut("The mail server did not respond within 10 s") from None

    async def _verify_imap(self, login: ServerLogin) -> None:
        session = await self._origin(login).open()
        session.close()

    async def _verify_pop3(self, login: ServerLogin) -> None:
        """Verify a POP3 login. A locked maildrop is a success: servers report it only after a valid login."""
        with suppress(MaildropLocked):
            session = await Pop3Origin(login, self._guard, self._tls).open()
            session.close()

    async def _verify_smtp(self, login: ServerLogin) -> None:
        submission = SmtpSubmission(login, self._guard, self._tls, self._client_name)
        try:
            await submission.verify()
        finally:
            submission.close()

    async def forget(self, account_id: AccountId) -> None:
        self._generation += 1
        opened = self._open.pop(account_id, None)
        if opened is not None and isinstance(opened.backend, ImapBackend):
            await opened.backend.close()
        submission = self._submissions.pop(account_id, None)
        if submission is not None:
            submission.close()

    async def forget_changed(self) -> None:
        opened = list(self._open.items())
        for begin in range(0, len(opened), COMPARED_AT_ONCE):
            batch = opened[begin : begin + COMPARED_AT_ONCE]
            current = await directory.fingerprints(self._database, [account_id for account_id, _ in batch])
            for account_id, known in batch:
                if current.get(account_id) != known.fingerprint and self._open.get(account_id) is known:
                    with suppress(GatewayError):
                        await self.forget(account_id)

    async def close(self) -> None:
        """Close every connection."""
        for account_id in list(self._open):
            with suppress(GatewayError):
                await self.forget(account_id)
        for submission in self._submissions.values():
            submission.close()


def tls_context(settings: Settings) -> ssl.SSLContext:
    """The TLS context for outgoing connections, with the system's certificate authorities and POSTGATE_TLS_CA_FILE."""
    context = ssl.create_default_context()
    if settings.tls_ca_file is not None:
        try:
            context.load_verify_locations(settings.tls_ca_file)
        except OSError as error:
            raise InvalidRequest(f"POSTGATE_TLS_CA_FILE: {settings.tls_ca_file} cannot be used: {error}") from None
    return context


def _smarthost(settings: Settings) -> ServerLogin | None:
    if settings.smarthost is None:
        return None
    host, _, port = settings.smarthost.rpartition(":")
    password = settings.smarthost_password.get_secret_value() if settings.smarthost_password else ""
    return ServerLogin(
        host or settings.smarthost,
        int(port) if host else 587,
        TransportSecurity(settings.smarthost_security),
        settings.smarthost_username or "",
        password,
    )
