"""Many accounts lose their mail server at once: they come back without hammering it, and nothing is missed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from app.backends.imap.backend import ImapBackend
from app.backends.imap.pool import ACCOUNT_CONNECTIONS
from app.mail.backoff import RECONNECT_SECONDS

from tests.harness import open_harness
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.dovecot import Dovecot
from tests.servers.process import started
from tests.servers.tls import TlsFiles
from tests.sync_harness import Followed, GivenBackends, add_remote_account, mail, plain_backend, supervised

ACCOUNTS = 40
AWAY_SECONDS = 3.0
LIVE_SECONDS = 90.0
"""A bound for a machine under load, not an assertion of speed."""


class CountingProxy(CuttingProxy):
    """Counts the connections that are made; while its server is away it closes them at once."""

    connections = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await super()._serve(reader, writer)


@pytest.fixture
def server(tls: TlsFiles, tmp_path: Path) -> Iterator[Dovecot]:
    """A Dovecot of this test alone, which is stopped and started again."""
    with started(Dovecot(tls, tmp_path / "dovecot.log")) as dovecot:
        yield dovecot


@pytest.fixture
def proxy(server: Dovecot) -> Iterator[CountingProxy]:
    with started(CountingProxy(server.imap_port, seed=1)) as opened:
        yield opened


@asynccontextmanager
async def followed_accounts(folder: Path, dovecot: Dovecot, port: int) -> AsyncIterator[dict[str, Followed]]:
    """`ACCOUNTS` accounts, by their user's name, that one process follows."""
    users = [dovecot.add_user() for _ in range(ACCOUNTS)]
    backends = GivenBackends()
    async with open_harness(folder) as harness:
        accounts: dict[str, Followed] = {}
        opened: list[ImapBackend] = []
        for user in users:
            account_id = await add_remote_account(harness, user.name)
            backend = plain_backend(account_id, harness, port, user)
            opened.append(backend)
            backends.by_id[account_id] = backend
            accounts[user.name] = Followed(harness, account_id, backend)
        try:
            async with supervised(harness, backends):
                yield accounts
        finally:
            for backend in opened:
                await backend.close()


async def all_live(accounts: dict[str, Followed]) -> None:
    for one in accounts.values():
        await one.until(one.state, ("ready", "live"), LIVE_SECONDS)


def deliver_to_all(dovecot: Dovecot, accounts: dict[str, Followed], subject: str) -> None:
    for name in accounts:
        dovecot.deliver(mail(subject), name)


@pytest.mark.timeout(240)
async def test_accounts_that_lose_their_server_together_come_back_without_hammering_it_and_miss_nothing(
    tmp_path: Path, server: Dovecot, proxy: CountingProxy
) -> None:
    async with followed_accounts(tmp_path, server, proxy.port) as accounts:
        await all_live(accounts)

        before, began = proxy.connections, time.monotonic()
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(AWAY_SECONDS)
        refused, away = proxy.connections - before, time.monotonic() - began
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(deliver_to_all, server, accounts, "while-away")
        await all_live(accounts)
        await asyncio.to_thread(deliver_to_all, server, accounts, "afterwards")
        for one in accounts.values():
            await one.until(one.subjects, ["while-away", "afterwards"], LIVE_SECONDS)

        assert refused <= ACCOUNTS * tries_within(away)
        assert proxy.connections - before <= ACCOUNTS * (tries_within(LIVE_SECONDS) + ACCOUNT_CONNECTIONS)
        for one in accounts.values():
            assert await one.told("message.created") == ["message.created"] * 2


def tries_within(seconds: float) -> int:
    """How often an account may try to connect in so many seconds, at its shortest delays."""
    tries, at = 1, 0.0
    for delay in RECONNECT_SECONDS:
        at += 0.8 * delay
        tries += at <= seconds
    return tries + int(seconds / (0.8 * RECONNECT_SECONDS[-1]))
