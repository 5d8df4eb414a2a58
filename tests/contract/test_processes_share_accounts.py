"""What one process changes of an account's servers, the other processes use within one look at the accounts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from app.backends.imap.backend import ImapBackend
from app.cluster import claims
from app.cluster.bus import LocalBus
from app.cluster.followers import Followers
from app.cluster.leases import Leases
from app.db import directory
from app.db.session import Transaction
from app.errors import AccountNotFound
from app.mail.backend import MailBackend
from app.mail.protocol_log import ProtocolLogs
from app.mail.types import AccountId, AccountKind, ServerLogin, TransportSecurity
from app.runtime.backends import AccountBackends
from app.security.netguard import NetGuard
from app.security.vault import Vault
from app.services.accounts.rows import Servers, sealed_servers, servers_of
from app.settings import Settings
from app.workers.supervisor import Supervisor

from tests.contract.stores import Stores

VAULT = Vault([bytes(range(32))])


def servers(password: str) -> Servers:
    login = ServerLogin("mail.test", 993, TransportSecurity.TLS, "me", password)
    return Servers(imap=login, smtp=login)


async def set_servers(stores: Stores, account_id: AccountId, password: str) -> None:
    """As another process does."""

    async def work(transaction: Transaction) -> None:
        await directory.change(transaction, account_id, sealed_servers(servers(password), account_id, VAULT))

    await stores.database.write(work)


async def remote_account(stores: Stores, password: str) -> AccountId:
    account_id = await stores.add_account(AccountKind.IMAP)
    await set_servers(stores, account_id, password)
    return account_id


def backends_of_a_process(stores: Stores, folder: Path) -> AccountBackends:
    bus = LocalBus()
    backends = AccountBackends(
        Settings(data_dir=folder),
        stores.database,
        stores.reader,
        stores.store,
        bus,
        NetGuard(()),
        ProtocolLogs(),
        Followers(bus),
    )

    async def read(account_id: AccountId) -> tuple[AccountKind, Servers]:
        stored = await directory.get(stores.database, account_id)
        if stored is None:
            raise AccountNotFound
        return AccountKind(stored.kind), servers_of(stored, VAULT, cast("Any", None))

    backends.servers_of = read
    return backends


def password_of(backend: MailBackend) -> str:
    assert isinstance(backend, ImapBackend)
    return backend._origin.login.password


async def test_a_login_that_another_process_changed_is_used_and_no_other_account_is_disturbed(
    stores: Stores, tmp_path: Path
) -> None:
    changed, unchanged, removed = [await remote_account(stores, "old") for _ in range(3)]
    embedded = await stores.add_account()
    backends = backends_of_a_process(stores, tmp_path)
    before = {id_: await backends.of(id_) for id_ in (changed, unchanged, removed, embedded)}

    await set_servers(stores, changed, "new")
    await stores.database.write(lambda transaction: directory.remove(transaction, removed))
    await backends.forget_changed()

    assert password_of(before[changed]) == "old"
    assert password_of(await backends.of(changed)) == "new"
    assert await backends.of(unchanged) is before[unchanged]
    assert await backends.of(embedded) is before[embedded]
    with pytest.raises(AccountNotFound):
        await backends.of(removed)


async def test_a_login_that_changes_while_a_backend_is_made_is_used_after_the_next_look(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = await remote_account(stores, "old")
    backends = backends_of_a_process(stores, tmp_path)
    read = backends.servers_of

    async def read_and_change(id_: AccountId) -> tuple[AccountKind, Servers]:
        found = await read(id_)
        await set_servers(stores, account_id, "new")
        return found

    monkeypatch.setattr(backends, "servers_of", read_and_change)
    assert password_of(await backends.of(account_id)) == "old"
    monkeypatch.setattr(backends, "servers_of", read)

    await backends.forget_changed()

    assert password_of(await backends.of(account_id)) == "new"


class Process(Supervisor):
    """A supervisor whose sync tasks only note which passwords they follow accounts with."""

    def __init__(self, stores: Stores, folder: Path) -> None:
        self.passwords: list[str] = []
        backends = backends_of_a_process(stores, folder)
        leases = Leases(stores.database, is_alone=False)
        super().__init__(stores.database, stores.index, stores.reader, backends, LocalBus(), leases)

    async def _follow(self, id_: AccountId, backend: MailBackend, epoch: int) -> None:
        self.passwords.append(password_of(backend))
        await asyncio.Event().wait()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - asks the state of what is tested, which tells nobody
            await asyncio.sleep(0.01)


async def test_an_account_is_followed_with_the_login_that_another_process_set(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr("app.workers.supervisor.RENEW_SECONDS", 0.02)
    account_id = await remote_account(stores, "old")
    process = Process(stores, tmp_path)
    running = asyncio.create_task(process.run())
    try:
        await until(lambda: process.passwords == ["old"])
        await set_servers(stores, account_id, "new")
        await until(lambda: len(process.passwords) > 1)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert process.passwords == ["old", "new"]
