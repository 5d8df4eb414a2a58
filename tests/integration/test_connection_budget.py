"""Servers that let in few connections: the watch and the work share them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from app.backends.imap.backend import ImapBackend
from app.backends.imap.origin import Hosts, Origin
from app.backends.imap.pool import ACCOUNT_CONNECTIONS, Pool
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.contract.mail_account import joined
from tests.harness import open_harness
from tests.servers.courier import Courier, CourierUser
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.process import started
from tests.servers.tls import TlsFiles
from tests.sync_harness import Followed, add_remote_account, mail

ALLOWED = 3
READERS = 12


@pytest.fixture(scope="module")
def strict_courier(tls: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Courier]:
    """A Courier with MAXPERIP=3: it closes the fourth connection without a word."""
    with started(Courier(tls, tmp_path_factory.mktemp("courier") / "courier.log", max_per_ip=ALLOWED)) as server:
        yield server


@pytest.fixture(scope="module")
def strict_dovecot(tls: TlsFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dovecot]:
    """A Dovecot with mail_max_userip_connections=3: it refuses the fourth login."""
    with started(Dovecot(tls, tmp_path_factory.mktemp("dovecot") / "dovecot.log", max_connections=ALLOWED)) as server:
        yield server


@asynccontextmanager
async def following(
    folder: Path,
    server: Dovecot | Courier,
    user: DovecotUser | CourierUser,
    tls: TlsFiles,
    budget: int = ACCOUNT_CONNECTIONS,
) -> AsyncIterator[Followed]:
    login = ServerLogin("127.0.0.1", server.imap_port, TransportSecurity.STARTTLS, user.name, user.password)
    origin = Origin(login, NetGuard.of(["127.0.0.0/8"]), tls.client_context(), Hosts())
    async with open_harness(folder) as harness:
        account_id = await add_remote_account(harness, user.name)
        backend = ImapBackend(account_id, origin, harness.reader.mailboxes, Pool(origin.open, limit=budget))
        followed = Followed(harness, account_id, backend)
        try:
            async with followed.following():
                await followed.until_live()
                yield followed
        finally:
            await backend.close()


async def read_all_at_once(followed: Followed) -> list[bytes]:
    messages = await followed.messages()
    return await asyncio.gather(*[joined(followed.backend.read_raw(message)) for message in messages])


async def test_dovecot_that_allows_three_connections_is_followed_and_read(
    strict_dovecot: Dovecot, tls: TlsFiles, tmp_path: Path
) -> None:
    user = strict_dovecot.add_user()
    for number in range(READERS):
        strict_dovecot.deliver(mail(f"n{number}"), user.name)

    async with following(tmp_path, strict_dovecot, user, tls) as followed:
        contents = await read_all_at_once(followed)
        strict_dovecot.deliver(mail("later"), user.name)
        await followed.until(followed.subjects, [f"n{number}" for number in range(READERS)] + ["later"])

        assert len(contents) == READERS
        assert await followed.told("account.") == ["account.connected"]


async def test_courier_that_allows_three_connections_is_followed_and_read(
    strict_courier: Courier, tls: TlsFiles, tmp_path: Path
) -> None:
    user = strict_courier.add_user()
    for number in range(READERS):
        strict_courier.deliver(mail(f"n{number}"), user)

    async with following(tmp_path, strict_courier, user, tls) as followed:
        contents = await read_all_at_once(followed)
        strict_courier.deliver(mail("later"), user)
        await followed.until(followed.subjects, [f"n{number}" for number in range(READERS)] + ["later"])

        assert len(contents) == READERS
        assert await followed.told("account.") == ["account.connected"]


async def test_where_two_are_allowed_one_connection_follows_what_others_move_about(
    dovecot: Dovecot, tls: TlsFiles, tmp_path: Path
) -> None:
    user = dovecot.add_user()
    for number in range(READERS):
        dovecot.deliver(mail(f"n{number}"), user.name)

    async with following(tmp_path, dovecot, user, tls, budget=2) as followed:
        before, paths = await followed.ids(), await followed.paths()
        dovecot.doveadm("mailbox", "create", "-u", user.name, "New")
        dovecot.doveadm("move", "-u", user.name, "New", "mailbox", "INBOX", "ALL")
        dovecot.deliver(mail("later"), user.name)
        await followed.until(followed.paths, paths | {"New"})
        await followed.until(lambda: followed.ids("New"), before)
        dovecot.doveadm("move", "-u", user.name, "Archive", "mailbox", "New", "ALL")
        await followed.until(lambda: followed.ids("Archive"), before)
        await followed.until(followed.subjects, ["later"])

        assert await followed.told("account.") == ["account.connected"]


async def test_an_account_whose_connections_are_all_others_is_throttled_and_heals(
    strict_dovecot: Dovecot, tls: TlsFiles, tmp_path: Path
) -> None:
    user = strict_dovecot.add_user()
    login = ServerLogin("127.0.0.1", strict_dovecot.imap_port, TransportSecurity.STARTTLS, user.name, user.password)
    origin = Origin(login, NetGuard.of(["127.0.0.0/8"]), tls.client_context(), Hosts())
    others = [await origin.open() for _ in range(ALLOWED)]
    async with open_harness(tmp_path) as harness:
        account_id = await add_remote_account(harness, user.name)
        backend = ImapBackend(account_id, origin, harness.reader.mailboxes)
        followed = Followed(harness, account_id, backend)
        async with followed.following():
            await followed.until(followed.state, ("unreachable", "down"))
            assert await followed.told("account.") == ["account.throttled"]
        for session in others:
            session.close()
            await session.protocol.wait_closed()
        async with followed.following():
            await followed.until_live()
        await backend.close()
