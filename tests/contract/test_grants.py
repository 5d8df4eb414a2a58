"""Grants and connect sessions keep their promises on every database, and between processes that share one."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from typing import Any

import pytest
from app.db import directory, oauth
from app.db.session import Database, Statement, Transaction
from app.db.tables import OAUTH_GRANT
from app.errors import DatabaseUnavailable, LoginRefused
from app.mail.identifiers import new_id, now_ms
from app.mail.types import AccountId, AccountKind
from app.security.netguard import NetGuard
from app.security.vault import Vault
from app.services.accounts.rows import new_values
from app.services.oauth.apps import OAuthApp, OAuthAppOrder, OAuthApps
from app.services.oauth.authorization import Authorization, TokenAnswer
from app.services.oauth.grants import Consent, Grants
from app.services.oauth.providers import CUSTOM
from app.workers import loop
from app.workers.loop import persist
from sqlalchemy import update

from tests.contract.stores import Stores
from tests.servers.authorization_server import CLIENT_ID, CLIENT_SECRET, AuthorizationServer

VAULT = Vault([bytes(range(32))])
GUARD = NetGuard.of(["127.0.0.0/8"])
USER = "ann@mail.test"
_END_LEASES: Statement = update(OAUTH_GRANT).values(lease_until_ms=1)


def node(stores: Stores, database: Database | None = None) -> Grants:
    """The grants as one of several processes sees them, on a database of its own where one is given."""
    database = database or stores.database
    apps = OAuthApps(database, VAULT, GUARD)
    return Grants(database, VAULT, apps, Authorization(GUARD, ssl.create_default_context()), persist=persist)


async def consent(stores: Stores, authority: AuthorizationServer) -> Consent:
    order = OAuthAppOrder(
        authorization_url=f"{authority.url}/authorize",
        token_url=f"{authority.url}/token",
        scopes=("mail",),
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
    )
    app = await OAuthApps(stores.database, VAULT, GUARD).add(CUSTOM, order)
    return Consent(app.id, authority.consent(USER))


async def test_of_many_processes_one_renews(stores: Stores, authorization_server: AuthorizationServer) -> None:
    authorization_server.delay_seconds = 0.2
    nodes = [node(stores) for _ in range(4)]

    async with nodes[0].trial(await consent(stores, authorization_server)) as tokens:
        assert tokens is not None
        first = await asyncio.gather(*(one.token(tokens.grant_id) for one in nodes))
        second = await asyncio.gather(*(one.token(tokens.grant_id, refused=first[0]) for one in nodes))

    assert len(set(first)) == len(set(second)) == 1
    assert authorization_server.asked["refresh_token"] == 2


async def test_the_last_account_of_a_person_at_an_app_takes_the_consent_with_it(
    stores: Stores, authorization_server: AuthorizationServer
) -> None:
    grants, given = node(stores), await consent(stores, authorization_server)
    first, second, other = [
        await account_by_consent(stores, grants, given, email) for email in (USER, USER.upper(), "bob@mail.test")
    ]

    async def leave(transaction: Transaction, account_id: str) -> int:
        taken = await grants.revocations.take(transaction, account_id)
        await directory.remove(transaction, account_id)
        return len(taken)

    counts = [await stores.database.write(partial(leave, account_id=one)) for one in (first, second, second, other)]

    assert counts == [0, 1, 0, 1]
    assert await oauth.grants(stores.database) == []


async def account_by_consent(stores: Stores, grants: Grants, given: Consent, email: str) -> AccountId:
    """An account's row with a grant of its own."""
    account_id = AccountId(new_id("acc"))
    values = new_values(account_id, AccountKind.IMAP, email, "", now_ms())
    async with grants.trial(given) as tokens:
        assert tokens is not None
        grant_id = tokens.grant_id

        async def work(transaction: Transaction) -> None:
            await directory.add(transaction, values)
            await oauth.bind_grant(transaction, grant_id, account_id)

        await stores.database.write(work)
    return account_id


async def test_a_grant_that_is_over_is_over_everywhere(
    stores: Stores, authorization_server: AuthorizationServer
) -> None:
    one, other = node(stores), node(stores)
    async with one.trial(await consent(stores, authorization_server)) as tokens:
        assert tokens is not None
        token = await one.token(tokens.grant_id)
        authorization_server.revoke(USER)
        for node_ in (one, other):
            with pytest.raises(LoginRefused):
                await node_.token(tokens.grant_id, refused=token)

    assert authorization_server.asked["refresh_token"] == 2


async def test_an_account_has_one_grant_and_an_unused_one_goes_with_time(
    stores: Stores, authorization_server: AuthorizationServer
) -> None:
    grants, given = node(stores), await consent(stores, authorization_server)
    account_id = await stores.add_account()
    ids = [await kept(grants, given) for _ in range(4)]

    async def bind(transaction: Transaction) -> None:
        await oauth.bind_grant(transaction, ids[0], account_id)
        await oauth.bind_grant(transaction, ids[1], account_id)
        await oauth.bind_grant(transaction, ids[2], "acc_gone")

    await stores.database.write(bind)
    await stores.database.write(lambda transaction: oauth.remove_unused(transaction, now_ms() + 1))

    assert [await oauth.grant(stores.database, one) is not None for one in ids] == [False, True, False, False]
    assert await stores.database.write(lambda transaction: oauth.is_app_in_use(transaction, given.oauth_app_id))


async def kept(grants: Grants, given: Consent) -> str:
    async with grants.trial(given) as tokens:
        assert tokens is not None
        return tokens.grant_id


async def test_a_session_is_claimed_once_and_its_state_taken_once(stores: Stores) -> None:
    values = {
        "id": "con_1", "secret_hash": "s", "state_hash": None, "browser_hash": None, "verifier": None, "facts": "{}",
        "expires_at_ms": now_ms() + 60_000,
    }  # fmt: skip
    await stores.database.write(lambda transaction: oauth.add_session(transaction, values))

    async def claim(browser: str) -> bool:
        return await stores.database.write(lambda transaction: oauth.claim_session(transaction, "s", browser))

    async def take() -> oauth.StoredSession | None:
        return await stores.database.write(lambda transaction: oauth.take_state(transaction, "state", now_ms()))

    claims = await asyncio.gather(*(claim(f"b{number}") for number in range(5)))
    await stores.database.write(
        lambda transaction: oauth.begin_session(transaction, "con_1", "state", b"v", "{}", now_ms())
    )
    taken = await asyncio.gather(*(take() for _ in range(5)))

    assert claims.count(True) == 1
    assert [session is None for session in taken].count(False) == 1
    over = await oauth.session(stores.database, "s")
    assert over is not None
    assert over.expires_at_ms <= now_ms()


async def test_a_lease_that_was_lost_ends_no_other_and_is_not_renewed(
    stores: Stores, authorization_server: AuthorizationServer
) -> None:
    grant_id = await kept(node(stores), await consent(stores, authorization_server))

    async def take(transaction: Transaction) -> int | None:
        return await oauth.lease_grant(transaction, grant_id, 0)

    lost = await stores.database.write(take)
    assert lost is not None
    assert await stores.database.write(take) is None
    await stores.database.write(lambda transaction: transaction.execute(_END_LEASES))
    await asyncio.sleep(0.002)  # a lease is known by the millisecond of its end
    held = await stores.database.write(take)
    assert held is not None

    assert await stores.database.write(lambda transaction: oauth.keep_lease(transaction, grant_id, lost)) is None
    await stores.database.write(lambda transaction: oauth.end_lease(transaction, grant_id, lost))
    assert await stores.database.write(take) is None
    await stores.database.write(lambda transaction: oauth.end_lease(transaction, grant_id, held))
    assert await stores.database.write(take) is not None


class Outage:
    """A database that answers nothing while it `is_down`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.failure_count = 0
        self.is_down = False
        self.has_failed_again = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        if self.is_down:
            self.failure_count += 1
            if self.failure_count > 1:
                self.has_failed_again.set()
            raise DatabaseUnavailable
        return getattr(self._database, name)


async def test_tokens_that_came_while_the_database_was_away_are_stored_when_it_is_back(
    stores: Stores, authorization_server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller has left by then, and another process has asked with the old refresh token."""
    monkeypatch.setattr(loop, "FIRST_PAUSE_SECONDS", 0.001)
    outage: Any = Outage(stores.database)
    mine, other = node(stores, outage), node(stores)
    grant_id = await kept(mine, await consent(stores, authorization_server))
    renew = Authorization.renew

    async def renew_and_fail(self: Authorization, app: OAuthApp, refresh_token: str) -> TokenAnswer:
        answer = await renew(self, app, refresh_token)
        outage.is_down = True
        return answer

    monkeypatch.setattr(Authorization, "renew", renew_and_fail)
    asking = asyncio.create_task(mine.token(grant_id))
    await outage.has_failed_again.wait()
    asking.cancel()
    with pytest.raises(DatabaseUnavailable):
        await mine.token(grant_id)
    await stores.database.write(lambda transaction: oauth.end_grant(transaction, grant_id, 0, now_ms()))
    monkeypatch.setattr(Authorization, "renew", renew)
    outage.is_down = False
    await mine.close()

    token = await other.token(grant_id)
    assert await mine.token(grant_id) == token
    assert await other.token(grant_id, refused=token) not in ("", token)
    assert authorization_server.asked["refresh_token"] == 2


async def test_tokens_that_another_process_has_replaced_are_not_kept(
    stores: Stores, authorization_server: AuthorizationServer
) -> None:
    grant_id = await kept(node(stores), await consent(stores, authorization_server))

    async def keep(transaction: Transaction, secrets: bytes) -> bool:
        return await oauth.renew_grant(transaction, grant_id, 0, secrets, "mail", now_ms(), now_ms())

    assert await stores.database.write(partial(keep, secrets=b"newer"))
    assert not await stores.database.write(partial(keep, secrets=b"older"))
    stored = await oauth.grant(stores.database, grant_id)
    assert stored is not None
    assert stored.secrets == b"newer"
