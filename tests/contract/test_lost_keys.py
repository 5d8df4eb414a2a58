"""A master key that is lost for good: what it sealed is forgotten, the rest stays, and the installation starts."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from app.mail.types import AccountId, AccountKind, ServerLogin, TransportSecurity
from app.runtime import Runtime, open_runtime
from app.runtime.lost_keys import forget_key
from app.security.vault import MASTER_KEY_FILE, MasterKeyError, Vault
from app.services.accounts.accounts import AccountChanges, NewAccount, Servers
from app.services.oauth.apps import OAuthAppOrder
from app.services.oauth.authorization import ConsentRequired
from app.services.oauth.grants import Consent
from app.settings import Settings

LOGIN = ServerLogin("mail.example.com", 993, TransportSecurity.TLS, "ann", "canary-password")
APP = OAuthAppOrder(name="Ours", client_id="client", client_secret="canary-secret")


@pytest.fixture
def settings(database_url: str | None, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", database_url=database_url, domains=("demo.test",), net_allow=())


def commands(settings: Settings) -> AbstractAsyncContextManager[Runtime]:
    return open_runtime(settings, is_serving=False)


async def add_all(runtime: Runtime) -> dict[str, AccountId]:
    """An embedded account, one with a password and one by consent, by their kind of login."""
    accounts, services = runtime.services.accounts, runtime.services
    here = NewAccount(AccountKind.EMBEDDED, "alice@demo.test", password="correct horse battery")
    app = await services.oauth_apps.add("google", APP)
    consent = Consent(app.id, "canary-refresh", "canary-access", 1)
    remote = NewAccount(AccountKind.IMAP, "ann@example.com", servers=Servers(imap=LOGIN))
    agreed = NewAccount(AccountKind.IMAP, "joe@example.com", servers=Servers(imap=_without(LOGIN)), consent=consent)
    return {
        "embedded": (await accounts.add(here)).id,
        "password": (await accounts.add(remote, is_verified=False)).id,
        "consent": (await accounts.add(agreed, is_verified=False)).id,
    }


def _without(login: ServerLogin) -> ServerLogin:
    return ServerLogin(login.host, login.port, login.security, login.username, "")


async def lose_key(settings: Settings) -> bytes:
    """Remove the key file; the id of the key that was in it."""
    lost = (await asyncio.to_thread(Vault.of, settings)).key_id
    (settings.data_dir / MASTER_KEY_FILE).unlink()
    return lost


async def test_what_a_lost_key_sealed_is_forgotten_and_its_accounts_ask_for_a_new_login(settings: Settings) -> None:
    async with commands(settings) as runtime:
        ids = await add_all(runtime)
    lost = await lose_key(settings)
    with pytest.raises(MasterKeyError, match=f"postgate forget-key {lost.hex()}"):
        async with commands(settings):
            pass

    forgotten = await asyncio.to_thread(forget_key, settings, lost)

    assert (forgotten.accounts, forgotten.apps) == (2, 1)
    async with commands(settings) as runtime:
        accounts = runtime.services.accounts
        statuses = {kind: (await accounts.get(id_)).status for kind, id_ in ids.items()}
        assert statuses == {"embedded": "ready", "password": "auth_required", "consent": "auth_required"}
        _, servers = await accounts.servers(ids["password"])
        assert servers.imap is not None
        assert (servers.imap.host, servers.imap.username, servers.imap.password) == (LOGIN.host, "ann", "")
        _, agreed = await accounts.servers(ids["consent"])
        assert agreed.imap is not None
        assert agreed.imap.tokens is not None
        with pytest.raises(ConsentRequired):
            await agreed.imap.tokens.token()
        assert [app.client_secret for app in await runtime.services.oauth_apps.all()] == [None]
        assert (await runtime.logins.verify("alice@demo.test", "correct horse battery", address="::1")).account_id


async def test_an_account_whose_password_was_forgotten_takes_a_new_one(settings: Settings) -> None:
    async with commands(settings) as runtime:
        ids = await add_all(runtime)
    await asyncio.to_thread(forget_key, settings, await lose_key(settings))

    async with commands(settings) as runtime:
        changes = AccountChanges(servers=Servers(imap=LOGIN))
        await runtime.services.accounts.update(ids["password"], changes, is_verified=False)
        _, servers = await runtime.services.accounts.servers(ids["password"])
        assert servers.imap == LOGIN


async def test_a_key_that_is_there_or_that_nothing_needs_is_not_forgotten(settings: Settings) -> None:
    async with commands(settings) as runtime:
        ids = await add_all(runtime)
    present = (await asyncio.to_thread(Vault.of, settings)).key_id

    with pytest.raises(MasterKeyError, match="is not lost"):
        await asyncio.to_thread(forget_key, settings, present)
    with pytest.raises(MasterKeyError, match="Nothing is encrypted"):
        await asyncio.to_thread(forget_key, settings, b"none")

    async with commands(settings) as runtime:
        _, servers = await runtime.services.accounts.servers(ids["password"])
        assert servers.imap == LOGIN
