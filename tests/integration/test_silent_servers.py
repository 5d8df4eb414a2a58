"""Connections that die without a word are found by the watch, and the account says so."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from app.backends.imap import session as session_module
from app.backends.imap.backend import ImapBackend
from app.backends.imap.connection.exchange import COMMAND_TIMEOUT_SECONDS
from app.backends.imap.origin import Hosts, Origin
from app.backends.imap.watching import inbox as inbox_module
from app.backends.imap.watching import sweeping
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard

from tests.harness import open_harness
from tests.servers import providers
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.sync_harness import Followed, add_remote_account, mail

DEATH_SECONDS = COMMAND_TIMEOUT_SECONDS + 15.0
"""Where the silence falls upon a command that is on its way, that one has its whole time."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the watchdog: how often it looks, and how long it waits for an answer."""
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", (0.2, 0.2))
    monkeypatch.setattr(session_module, "IDLE_END_SECONDS", 0.5)
    monkeypatch.setattr(inbox_module, "SILENCE_SECONDS", 0.5)


@asynccontextmanager
async def following(folder: Path, port: int, user: DovecotUser) -> AsyncIterator[Followed]:
    login = ServerLogin("127.0.0.1", port, TransportSecurity.NONE, user.name, user.password)
    origin = Origin(login, NetGuard.of(["127.0.0.0/8"]), ssl.create_default_context(), Hosts())
    async with open_harness(folder) as harness:
        account_id = await add_remote_account(harness, user.name)
        followed = Followed(harness, account_id, ImapBackend(account_id, origin, harness.reader.mailboxes))
        try:
            async with followed.following():
                await followed.until_live()
                yield followed
        finally:
            await followed.backend.close()  # type: ignore[attr-defined]


async def test_a_server_that_stops_to_answer_in_idle_is_found_and_the_account_heals(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    user = dovecot.add_user()
    async with (
        providers.running(providers.MICROSOFT_365, dovecot.imap_port) as proxy,
        following(tmp_path, proxy.port, user) as followed,
    ):
        proxy.is_silent = True
        await followed.until(followed.state, ("unreachable", "down"), DEATH_SECONDS)
        proxy.is_silent = False
        dovecot.deliver(mail("meanwhile"), user.name)
        await followed.until_live()

        await followed.until(followed.subjects, ["meanwhile"])
        assert await followed.told("account.") == ["account.connected", "account.disconnected", "account.connected"]


async def test_a_process_of_dovecot_that_hangs_in_idle_is_found_and_the_account_heals(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    user = dovecot.add_user()
    async with (
        providers.running(providers.MICROSOFT_365, dovecot.imap_port) as proxy,
        following(tmp_path, proxy.port, user) as followed,
    ):
        await heals_when_it_hangs(dovecot, user, followed)


async def test_a_process_of_dovecot_that_hangs_under_notify_is_found_and_the_account_heals(
    dovecot: Dovecot, tmp_path: Path
) -> None:
    user = dovecot.add_user()
    async with following(tmp_path, dovecot.imap_port, user) as followed:
        assert (await followed.backend.capabilities()).count("NOTIFY") == 1
        await asyncio.sleep(2)  # idle for long enough to be asked, and answers
        assert await followed.told("account.") == ["account.connected"]

        await heals_when_it_hangs(dovecot, user, followed)


async def heals_when_it_hangs(dovecot: Dovecot, user: DovecotUser, followed: Followed) -> None:
    stopped = processes_of(dovecot, user)
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        await followed.until(followed.state, ("unreachable", "down"), DEATH_SECONDS)
        dovecot.deliver(mail("meanwhile"), user.name)
        await followed.until(followed.subjects, ["meanwhile"])
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)

    assert (await followed.told("account."))[:2] == ["account.connected", "account.disconnected"]


def processes_of(dovecot: Dovecot, user: DovecotUser) -> list[int]:
    """The imap processes that serve a user."""
    lines = dovecot.doveadm("who", "-1", user.name).splitlines()[1:]
    return [int(line.split()[2]) for line in lines if "imap" in line]
