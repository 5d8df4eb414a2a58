from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from app.db.session import Database, Work
from app.mail.types import AccountId, AccountKind, ServerLogin, TransportSecurity
from app.security.vault import Vault
from app.services.access.callers import TokenKind
from app.services.accounts.accounts import AccountChanges, NewAccount, Servers
from app.services.sign_in.passwords import PasswordChange

from tests.access import caller
from tests.gateway import MASTER_KEY, Gateway, files_holding, open_gateway

IMAP = ServerLogin("93.184.216.34", 993, TransportSecurity.TLS, "me", "canary-imap")
SMTP = ServerLogin("93.184.216.34", 465, TransportSecurity.TLS, "me", "canary-smtp")


async def test_passwords_are_not_in_clear_on_disk(tmp_path: Path) -> None:
    async with open_gateway(tmp_path) as gateway:
        accounts = gateway.services.accounts
        remote = await accounts.add(NewAccount(AccountKind.IMAP, "me@example.com", servers=Servers(IMAP, SMTP)))
        await accounts.add(NewAccount(AccountKind.EMBEDDED, "ann@demo.test", password="canary-own"))

        assert (await accounts.servers(remote.id))[1] == Servers(IMAP, SMTP)
        assert not files_holding(tmp_path, b"canary")
    assert not files_holding(tmp_path, b"canary")


async def test_credentials_are_sealed_anew_under_a_new_master_key(tmp_path: Path) -> None:
    new_key = bytes(32)
    async with open_gateway(tmp_path) as gateway:
        accounts = gateway.services.accounts
        remote = await accounts.add(NewAccount(AccountKind.IMAP, "me@example.com", servers=Servers(IMAP, SMTP)))

        accounts._vault = Vault([MASTER_KEY, new_key])
        assert (await accounts.seal_anew(), await accounts.seal_anew()) == (1, 0)

        accounts._vault = Vault([new_key])
        assert (await accounts.servers(remote.id))[1].imap == IMAP


class LeftAtCommit:
    """A database whose callers are cancelled while their transaction is committed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def write(self, work: Work[Any], **options: Any) -> Any:
        await self._database.write(work, **options)
        raise asyncio.CancelledError


async def change_password(gateway: Gateway, account_id: AccountId) -> None:
    by = caller(kind=TokenKind.ACCOUNT, account_ids=frozenset({account_id}), family="ses_1")
    await gateway.services.passwords.change(account_id, by, PasswordChange("canary-imap", "new"), "192.0.2.1")


async def change_servers(gateway: Gateway, account_id: AccountId) -> None:
    await gateway.services.accounts.update(account_id, AccountChanges(servers=Servers(SMTP, IMAP)))


async def remove(gateway: Gateway, account_id: AccountId) -> None:
    await gateway.services.accounts.remove(account_id)


@pytest.mark.parametrize("change", [change_password, change_servers, remove])
async def test_a_caller_that_leaves_during_the_commit_leaves_no_connection_with_the_old_login(
    tmp_path: Path, change: Callable[[Gateway, AccountId], Awaitable[None]]
) -> None:
    async with open_gateway(tmp_path) as gateway:
        services = gateway.services
        new = NewAccount(AccountKind.IMAP, "me@example.com", servers=Servers(IMAP, SMTP))
        account_id = (await services.accounts.add(new)).id
        left: Any = LeftAtCommit(gateway.harness.database)
        services.accounts._database = services.passwords._database = left

        with pytest.raises(asyncio.CancelledError):
            await change(gateway, account_id)

        await services.accounts.restarts.wait(account_id)
        assert gateway.backends.forgotten == [account_id]
