"""A Harness with an account over POP3, on a real server or on one that a test scripts."""

from __future__ import annotations

import asyncio
import poplib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.backends.pop3.backend import Pop3Backend
from app.backends.pop3.opening import Pop3Origin
from app.db import directory
from app.db.accounts import inbox_of
from app.db.session import Transaction
from app.mail.identifiers import new_id, now_ms
from app.mail.pop3 import Pop3Rules, Retention
from app.mail.types import AccountId, AccountKind, ServerLogin, TransportSecurity
from app.mailstore.pop3_ledger import Pop3Ledger
from app.security.netguard import NetGuard
from app.services.accounts.rows import new_values
from app.workers.pop3.poll import PollOutcome, Pop3Poll

from tests.harness import Harness, open_harness
from tests.integration.embedded import embedded_servers
from tests.servers.courier import Courier
from tests.servers.dovecot import Dovecot
from tests.servers.tls import TlsFiles
from tests.sync_harness import Followed, mail

HOST = "127.0.0.1"
GUARD = NetGuard.of(["127.0.0.0/8"])


@dataclass
class Maildrop:
    """A mailbox on a POP3 server, as other programs see it. Its methods block."""

    login: ServerLogin
    deliver: Callable[[bytes], None]

    def _client(self) -> poplib.POP3:
        client = poplib.POP3(HOST, self.login.port, timeout=10)
        client.user(self.login.username)
        client.pass_(self.login.password)
        return client

    def contents(self) -> list[bytes]:
        """Every message that it holds, in its order."""
        client = self._client()
        count, _ = client.stat()
        found = [b"\r\n".join(client.retr(number)[1]) + b"\r\n" for number in range(1, count + 1)]
        client.quit()
        return found

    def subjects(self) -> list[str]:
        fields = [line for content in self.contents() for line in content.split(b"\r\n\r\n")[0].split(b"\r\n")]
        return [line[9:].decode() for line in fields if line.startswith(b"Subject: ")]

    def remove(self, *numbers: int) -> None:
        """Delete messages as another client does."""
        client = self._client()
        for number in numbers:
            client.dele(number)
        client.quit()


def dovecot_maildrop(dovecot: Dovecot) -> Maildrop:
    user = dovecot.add_user(format="maildir")
    login = ServerLogin(HOST, dovecot.pop3_port, TransportSecurity.NONE, user.name, user.password)
    return Maildrop(login, lambda content: dovecot.deliver(content, user.name))


def courier_maildrop(courier: Courier) -> Maildrop:
    user = courier.add_user()
    login = ServerLogin(HOST, courier.pop3_port, TransportSecurity.NONE, user.name, user.password)
    return Maildrop(login, lambda content: courier.deliver(content, user))


@asynccontextmanager
async def own_maildrop(folder: Path, tls: TlsFiles) -> AsyncIterator[Maildrop]:
    """On our own POP3 server; it is served by the test's own loop, so everything that blocks is called in a thread."""
    await asyncio.to_thread(folder.mkdir)
    loop = asyncio.get_running_loop()
    async with embedded_servers(folder, tls) as served:
        found = await inbox_of(served.harness.database, "ann@demo.test")
        assert found is not None

        async def add(content: bytes) -> None:
            stored = await served.harness.store.keep(content)
            await served.harness.store.add(*found, [(stored, frozenset(), None)])

        login = ServerLogin(HOST, served.pop3, TransportSecurity.NONE, "ann@demo.test", "secret")
        yield Maildrop(login, lambda content: asyncio.run_coroutine_threadsafe(add(content), loop).result(10))


@dataclass
class Polled(Followed):
    """An account over POP3 in a Harness; nothing polls it but `poll`."""

    pop3: Pop3Backend | None = None
    epoch: int = 0
    poller: Pop3Poll | None = None

    async def poll(self) -> PollOutcome:
        assert self.poller is not None
        return await self.poller.run()

    def begin_anew(self, rules: Pop3Rules | None = None, login: ServerLogin | None = None) -> None:
        """As after a restart, with other rules or another server."""
        assert self.pop3 is not None
        origin = Pop3Origin(login, GUARD, ssl.create_default_context()) if login else self.pop3.origin
        harness = self.harness
        self.pop3 = Pop3Backend(
            self.account_id,
            origin,
            rules or self.pop3.rules,
            harness.store,
            harness.reader,
            harness.database,
            harness.bus,
        )
        self.backend = self.pop3
        self.poller = Pop3Poll(self.account_id, harness.index, harness.reader, self.pop3, self.epoch)

    async def states(self) -> list[str]:
        """States of the ledger, in the order of what they go by."""
        ledger = Pop3Ledger(self.harness.database, self.harness.index, self.harness.bus, self.account_id, self.epoch)
        return [line.state.value for _, line in sorted((await ledger.rows()).items())]


async def add_pop3_account(harness: Harness, email: str) -> AccountId:
    """The row of an account over POP3 that was verified, with its mailboxes."""
    account_id = AccountId(new_id("acc"))
    values = new_values(account_id, AccountKind.POP3, email, "", now_ms()) | {"status": "ready"}

    async def work(transaction: Transaction) -> None:
        await directory.add(transaction, values)
        await harness.store.mailboxes.create_first(account_id, within=transaction, is_filled=False)

    await harness.database.write(work)
    return account_id


@asynccontextmanager
async def open_polled(
    folder: Path, login: ServerLogin, rules: str = "keep", mirror: bool = False
) -> AsyncIterator[Polled]:
    """A Harness with an account at a POP3 server."""
    async with open_harness(folder) as harness:
        account_id = await add_pop3_account(harness, "me@mail.test")
        origin = Pop3Origin(login, GUARD, ssl.create_default_context())
        rule = Pop3Rules(Retention.parse(rules), mirror)
        backend = Pop3Backend(account_id, origin, rule, harness.store, harness.reader, harness.database, harness.bus)
        polled = Polled(harness, account_id, backend, pop3=backend)
        polled.epoch = await polled.lease()
        polled.begin_anew()
        yield polled


async def delivered(maildrop: Maildrop, *subjects: str) -> None:
    for subject in subjects:
        await asyncio.to_thread(maildrop.deliver, mail(subject))
