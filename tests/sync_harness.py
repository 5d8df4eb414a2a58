"""A Harness that follows an account on a real mail server, another client of that account, and what the index knows."""

from __future__ import annotations

import asyncio
import imaplib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

import orjson
from app.backends.imap.backend import ImapBackend
from app.backends.imap.origin import Hosts, Origin
from app.cluster.bus import listening
from app.cluster.leases import Leases
from app.db import directory, syncing
from app.db.session import Transaction
from app.errors import AccountNotFound
from app.mail.backend import MailBackend, Submission
from app.mail.event_log import Event
from app.mail.identifiers import new_id, now_ms
from app.mail.types import AccountId, AccountKind, Flags, Message, ServerLogin, TransportSecurity
from app.security.netguard import NetGuard
from app.services.accounts.rows import new_values
from app.workers.limiters import Limiters
from app.workers.supervisor import Supervisor
from app.workers.sync.account import SyncedAccount
from app.workers.text_indexer import TextReader

from tests.harness import Harness, open_harness
from tests.servers.courier import Courier
from tests.servers.cyrus import Cyrus
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.tls import TlsFiles

PATIENCE_SECONDS = 15.0


def mail(subject: str, body: str = "Hello.") -> bytes:
    lines = ["From: Bob <bob@elsewhere.test>", "To: ann@mail.test", f"Subject: {subject}"]
    lines += [f"Message-ID: <{subject}@elsewhere.test>", "Date: Mon, 1 Jan 2024 09:00:00 +0000", "", body, ""]
    return "\r\n".join(lines).encode()


@dataclass
class GivenBackends:
    """Backends by account, as a test made them."""

    by_id: dict[AccountId, MailBackend] = field(default_factory=dict)

    async def of(self, account_id: AccountId) -> MailBackend:
        if account_id not in self.by_id:
            raise AccountNotFound
        return self.by_id[account_id]

    async def submission_of(self, account_id: AccountId) -> Submission:
        raise NotImplementedError

    async def verify(self, logins: Mapping[str, ServerLogin]) -> None:
        raise NotImplementedError

    async def forget(self, account_id: AccountId) -> None:
        self.by_id.pop(account_id, None)

    async def forget_changed(self) -> None:
        """No other process changes an account."""


@dataclass
class Followed:
    """One remote account in a Harness."""

    harness: Harness
    account_id: AccountId
    backend: MailBackend
    task: asyncio.Task[None] | None = None
    texts: TextReader | None = None
    """Reads whole messages for the full-text index, where a test wants that."""

    def sync(self, epoch: int, delays: Callable[[], Iterator[float]] = lambda: repeat(0.05)) -> SyncedAccount:
        return SyncedAccount(
            self.account_id,
            self.harness.index,
            self.harness.reader,
            self.backend,
            epoch,
            Limiters(),
            delays,
            self.texts,
        )

    async def lease(self) -> int:
        """A new epoch, as a worker that takes the account has it; nobody watches it yet.

        A write of the sync that was cancelled just before may still hold the row; PostgreSQL skips it meanwhile.
        """
        leases = Leases(self.harness.database, is_alone=True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            taken = await leases.take([self.account_id], 1)
            while not taken:
                await asyncio.sleep(0.01)
                taken = await leases.take([self.account_id], 1)

        async def work(transaction: Transaction) -> None:
            await syncing.mark_unwatched(transaction, list(taken))

        await self.harness.database.write(work)
        return taken[self.account_id]

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow the account during the block."""
        self.task = task = asyncio.create_task(self.sync(await self.lease()).run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.task = None

    async def state(self) -> tuple[str, str]:
        """(status, sync_status)"""
        stored = await directory.get(self.harness.database, self.account_id)
        assert stored is not None
        return stored.status, stored.sync_status

    async def until_live(self) -> None:
        await self.until(self.state, ("ready", "live"))

    async def until(self, look: Callable[[], Any], wanted: object, seconds: float = PATIENCE_SECONDS) -> None:
        """Look until what is wanted is seen."""
        deadline = time.monotonic() + seconds
        with listening(self.harness.bus, self.account_id) as waiter:
            while (seen := await look()) != wanted and time.monotonic() < deadline:
                if self.task is not None and self.task.done():
                    self.task.result()  # whatever ended it
                await waiter.wait(0.05)
        assert seen == wanted

    async def messages(self, path: str = "INBOX") -> list[Message]:
        """What the index has of a mailbox, by UID."""
        mailbox = await self.harness.mailbox(self.account_id, path)
        known = await self.harness.reader.mirrored.known(self.account_id, mailbox.id)
        found = await self.harness.reader.messages.locate(self.account_id, mailbox.id, list(known))
        return sorted(found, key=lambda one: one.uid)

    async def subjects(self, path: str = "INBOX") -> list[str]:
        return [orjson.loads(one.summary)["subject"] for one in await self.messages(path)]

    async def flags(self, path: str = "INBOX") -> list[Flags]:
        return [one.flags for one in await self.messages(path)]

    async def told(self, prefix: str = "message.") -> list[str]:
        """Types of the events so far."""
        return [one.type for one in await self.events(prefix)]

    async def ids(self, path: str = "INBOX") -> list[str]:
        return [one.id for one in await self.messages(path)]

    async def paths(self) -> set[str]:
        return {one.path for one in await self.harness.reader.mailboxes.mailboxes(self.account_id)}

    async def events(self, prefix: str = "") -> list[Event]:
        found = await self.harness.log.after(self.account_id, 0, 100_000)
        return [one for one in found if one.type.startswith(prefix)]

    async def content(self) -> dict[str, dict[int, Flags]]:
        """The whole index: path → UID → flags."""
        return {
            one.path: {
                uid: known.flags
                for uid, known in (await self.harness.reader.mirrored.known(self.account_id, one.id)).items()
            }
            for one in await self.harness.reader.mailboxes.mailboxes(self.account_id)
        }

    async def origin_content(self) -> dict[str, dict[int, Flags]]:
        """The same as the origin has it."""
        content = {}
        for one in await self.harness.reader.mailboxes.mailboxes(self.account_id):
            scanned = await self.backend.scan(replace(one), is_anew=True)
            content[one.path] = {uid: known.flags for uid, known in scanned.items()}
        return content


async def add_remote_account(harness: Harness, email: str) -> AccountId:
    """The row of a remote account that was verified."""
    account_id = AccountId(new_id("acc"))
    values = new_values(account_id, AccountKind.IMAP, email, "", now_ms()) | {"status": "ready"}

    async def work(transaction: Transaction) -> None:
        await directory.add(transaction, values)

    await harness.database.write(work)
    return account_id


@asynccontextmanager
async def followed_live(harness: Harness, account_id: AccountId, backend: ImapBackend) -> AsyncIterator[Followed]:
    """The account followed, from when it is live; its backend closes at the end."""
    followed = Followed(harness, account_id, backend)
    try:
        async with followed.following():
            await followed.until_live()
            yield followed
    finally:
        await backend.close()


def imap_backend(
    account_id: AccountId, harness: Harness, dovecot: Dovecot, tls: TlsFiles, user: DovecotUser
) -> ImapBackend:
    login = ServerLogin("127.0.0.1", dovecot.imap_port, TransportSecurity.STARTTLS, user.name, user.password)
    origin = Origin(login, NetGuard.of(["127.0.0.0/8"]), tls.client_context(), Hosts())
    return ImapBackend(account_id, origin, harness.reader.mailboxes)


def plain_backend(account_id: AccountId, harness: Harness, port: int, user: Login) -> ImapBackend:
    """A backend for a server on a loopback port, without TLS."""
    login = ServerLogin("127.0.0.1", port, TransportSecurity.NONE, user.name, user.password)
    origin = Origin(login, NetGuard.of(["127.0.0.0/8"]), ssl.create_default_context(), Hosts())
    return ImapBackend(account_id, origin, harness.reader.mailboxes)


@asynccontextmanager
async def open_followed(folder: Path, dovecot: Dovecot, tls: TlsFiles, user: DovecotUser) -> AsyncIterator[Followed]:
    """A Harness with an account on Dovecot, followed once `following` is entered."""
    async with open_harness(folder) as harness:
        account_id = await add_remote_account(harness, user.name)
        backend = imap_backend(account_id, harness, dovecot, tls, user)
        try:
            yield Followed(harness, account_id, backend)
        finally:
            await backend.close()


@asynccontextmanager
async def supervised(harness: Harness, backends: GivenBackends) -> AsyncIterator[None]:
    """Run a supervisor during the block."""
    leases = Leases(harness.database, is_alone=True)
    task = asyncio.create_task(
        Supervisor(harness.database, harness.index, harness.reader, backends, harness.bus, leases).run()
    )
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Login(Protocol):
    """Who logs in at a server, whatever kind it is."""

    @property
    def name(self) -> str: ...

    @property
    def password(self) -> str: ...


class OtherClient:
    """Another mail program on the same account, by imaplib. Blocks, as short as it is."""

    def __init__(self, server: Dovecot | Cyrus | Courier, user: Login) -> None:
        self.imap = imaplib.IMAP4(server.host, server.imap_port)
        self.imap.login(user.name, user.password)

    def __enter__(self) -> OtherClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.imap.logout()

    def append(self, mailbox: str, content: bytes, flags: str = "") -> None:
        self._check(self.imap.append(mailbox, flags, "", content))

    def select(self, mailbox: str = "INBOX") -> None:
        self._check(self.imap.select(mailbox))

    def uid(self, *arguments: str) -> list[Any]:
        return self._check(self.imap.uid(*arguments))

    def do(self, name: str, *arguments: str) -> None:
        """Run a command by its method: create, rename, delete, expunge …"""
        self._check(getattr(self.imap, name)(*arguments))

    @staticmethod
    def _check(answer: tuple[str, list[Any]]) -> list[Any]:
        status, data = answer
        assert status == "OK", data
        return data
