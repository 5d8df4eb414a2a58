"""Tokens, sessions, tickets, kept answers and accounts keep their promises on every database."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from app.cluster.bus import ACCESS
from app.db import directory
from app.db import tokens as rows
from app.db.session import Transaction
from app.errors import AccountNotFound, AlreadyExists, IdempotencyRunning, NotAuthenticated, TokenRevoked
from app.mail.types import AccountKind, ServerLogin, TransportSecurity
from app.security.netguard import NetGuard
from app.security.vault import Vault
from app.services.access.callers import ACCOUNT_SCOPES, Caller, Scope, TokenKind
from app.services.access.idempotency import Answer, Attempt, Idempotency
from app.services.access.logins import Logins
from app.services.access.tickets import Tickets
from app.services.access.tokens import TokenNotFound, TokenOrder, Tokens
from app.services.accounts.accounts import AccountChanges, Accounts, NewAccount, Servers
from app.services.oauth.apps import OAuthApps
from app.services.oauth.authorization import Authorization
from app.services.oauth.grants import Grants
from app.services.sign_in.sessions import Sessions
from app.settings import Settings
from app.workers.loop import persist
from app.workers.retention import RetentionWorker

from tests.access import set_password
from tests.contract.stores import Stores
from tests.gateway import FakeBackends
from tests.harness import FAST_HASHER

VAULT = Vault([bytes(range(32))])
DOMAINS = ("demo.test",)
IMAP = ServerLogin("93.184.216.34", 993, TransportSecurity.TLS, "me", "secret")
ADMIN = Caller(token_id="tok_admin", kind=TokenKind.SERVER, scopes=frozenset(Scope))  # type: ignore[arg-type]


def _accounts(stores: Stores) -> Accounts:
    logins = Logins(stores.database, FAST_HASHER)
    backends, guard = FakeBackends(stores), NetGuard()
    apps = OAuthApps(stores.database, VAULT, guard)
    grants = Grants(stores.database, VAULT, apps, Authorization(guard, ssl.create_default_context()), persist=persist)
    return Accounts(stores.database, stores.store, backends, logins, VAULT, stores.bus, guard, DOMAINS, grants)


async def test_a_token_is_made_found_listed_and_revoked(stores: Stores) -> None:
    account_id = await stores.add_account()
    tokens = Tokens(stores.database, stores.bus)
    order = TokenOrder(TokenKind.ACCOUNT, ACCOUNT_SCOPES, account_ids=(account_id,), origins=("https://a.test",))

    record, secret = await tokens.create(order)

    caller = await tokens.authenticate(secret, "127.0.0.1")
    assert (caller.token_id, caller.account_ids) == (record.id, frozenset({account_id}))
    assert await tokens.origins.knows("https://a.test")
    assert [one.id for one in (await tokens.list(ADMIN, 10))[0]] == [record.id]
    await tokens.revoke(record.id, ADMIN)
    with pytest.raises(NotAuthenticated):
        await tokens.authenticate(secret, "127.0.0.1")
    with pytest.raises(TokenNotFound):
        await tokens.get(record.id, ADMIN)


async def test_of_many_refreshes_with_one_token_at_most_one_succeeds(stores: Stores) -> None:
    accounts, tokens = _accounts(stores), Tokens(stores.database, stores.bus)
    sessions = Sessions(stores.database, tokens, Logins(stores.database, FAST_HASHER), stores.bus, DOMAINS)
    await accounts.add(NewAccount(AccountKind.EMBEDDED, "ann@demo.test", password="right"))
    pair = await sessions.open(await sessions.verify("ann@demo.test", "right", "127.0.0.1"))

    outcomes = await asyncio.gather(*(sessions.refresh(pair.refresh_token) for _ in range(5)), return_exceptions=True)

    assert sum(isinstance(one, NotAuthenticated) for one in outcomes) >= 4
    with pytest.raises(NotAuthenticated):
        await tokens.authenticate(pair.access_token, "127.0.0.1")


async def test_of_many_who_redeem_a_ticket_one_succeeds(stores: Stores) -> None:
    account_id = await stores.add_account()
    tokens = Tokens(stores.database, stores.bus)
    tickets = Tickets(stores.database, tokens)
    _, secret = await tokens.create(TokenOrder(TokenKind.ACCOUNT, ACCOUNT_SCOPES, account_ids=(account_id,)))
    ticket = await tickets.issue(await tokens.authenticate(secret, None))

    outcomes = await asyncio.gather(*(tickets.redeem(ticket, None) for _ in range(5)), return_exceptions=True)

    assert sum(isinstance(one, Caller) for one in outcomes) == 1


async def test_of_many_requests_with_one_key_one_runs(stores: Stores) -> None:
    nodes = [Idempotency(stores.database, VAULT) for _ in range(5)]

    outcomes = await asyncio.gather(*(node.begin("scope", "key", "payload") for node in nodes), return_exceptions=True)

    attempts = [one for one in outcomes if isinstance(one, Attempt)]
    assert len(attempts) == 1
    assert sum(isinstance(one, IdempotencyRunning) for one in outcomes) == 4
    await attempts[0].note({"size": 7})
    await nodes[0].finish(attempts[0], Answer(201, b"{}"))
    assert await Idempotency(stores.database, VAULT).begin("scope", "key", "payload") == Answer(201, b"{}")


async def test_of_many_accounts_with_one_address_one_is_made(stores: Stores) -> None:
    accounts = _accounts(stores)
    new = NewAccount(AccountKind.EMBEDDED, "Ann@demo.test", password="x")

    outcomes = await asyncio.gather(*(accounts.add(new) for _ in range(5)), return_exceptions=True)

    assert sum(isinstance(one, AlreadyExists) for one in outcomes) == 4


async def test_an_account_is_changed_and_removed_with_all_its_rows(stores: Stores) -> None:
    accounts = _accounts(stores)
    remote = await accounts.add(NewAccount(AccountKind.IMAP, "me@example.com", "Me", Servers(IMAP)))
    kept = await stores.add_account()
    await Tokens(stores.database, stores.bus).create(
        TokenOrder(TokenKind.ACCOUNT, ACCOUNT_SCOPES, account_ids=(remote.id,))
    )

    await accounts.update(remote.id, AccountChanges(name="I", servers=Servers(IMAP, IMAP)))
    assert (await accounts.get(remote.id)).name == "I"
    assert (await accounts.servers(remote.id))[1] == Servers(IMAP, IMAP)
    assert (await accounts.sync(remote.id)).status == "initial"
    assert [one.id for one in (await accounts.page(ADMIN, 10))[0]] == [remote.id, kept]

    await accounts.remove(remote.id)
    with pytest.raises(AccountNotFound):
        await accounts.get(remote.id)
    with pytest.raises(AccountNotFound):
        await accounts.remove(remote.id)
    await accounts.remove(kept)
    assert await stores.reader.mailboxes.mailboxes(kept) == []
    assert await directory.orphans(stores.database) == []
    assert (await Tokens(stores.database, stores.bus).list(ADMIN, 10))[0] == []


async def test_what_is_over_is_forgotten_and_a_broken_removal_finished(stores: Stores, tmp_path: Path) -> None:
    account_id, removed = await stores.add_account(), await stores.add_account()
    tokens = Tokens(stores.database, stores.bus)
    order = TokenOrder(TokenKind.ACCOUNT, ACCOUNT_SCOPES, account_ids=(account_id,), expires_in_seconds=-90_000)
    record, _ = await tokens.create(order)

    async def take_out_alone(transaction: Transaction) -> None:
        await directory.remove(transaction, removed)

    await stores.database.write(take_out_alone)
    assert await directory.orphans(stores.database) == [removed]

    await RetentionWorker(Settings(data_dir=tmp_path), stores.database, stores.reader, stores.store.blobs).round()

    assert await directory.orphans(stores.database) == []
    assert len(await stores.reader.mailboxes.mailboxes(account_id)) == 6
    with pytest.raises(TokenNotFound):
        await tokens.get(record.id, ADMIN)


async def test_what_a_token_made_ends_with_it_and_a_sign_in_with_its_password(stores: Stores) -> None:
    account_id = await stores.add_account()
    tokens, logins = Tokens(stores.database, stores.bus), Logins(stores.database, FAST_HASHER)
    await set_password(stores.database, logins, account_id, "right")
    sessions = Sessions(stores.database, tokens, logins, stores.bus, DOMAINS)
    address = (await _accounts(stores).get(account_id)).email
    maker, _ = await tokens.create(TokenOrder(TokenKind.SERVER, frozenset(Scope)))
    order = TokenOrder(TokenKind.ACCOUNT, ACCOUNT_SCOPES, account_ids=(account_id,))
    _, child = await tokens.create(order, maker.caller)
    pair = await sessions.open(await sessions.verify(address, "right", "127.0.0.1"))
    by_key = (await tokens.create(order))[1]

    await tokens.revoke(maker.id, ADMIN)
    with pytest.raises(TokenRevoked):
        await tokens.authenticate(child, None)
    await set_password(stores.database, logins, account_id, "new")
    stores.bus.poke(ACCESS)

    with pytest.raises(TokenRevoked):
        await tokens.authenticate(pair.access_token, None)
    with pytest.raises(NotAuthenticated):
        await sessions.refresh(pair.refresh_token)
    assert (await tokens.authenticate(by_key, None)).account_ids == frozenset({account_id})

    async def end_all(transaction: Transaction) -> None:
        await rows.remove_of_account(transaction, account_id)

    await stores.database.write(end_all)
    tokens.forget()
    with pytest.raises(TokenRevoked):
        await tokens.authenticate(by_key, None)
