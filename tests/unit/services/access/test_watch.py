"""Guards of open sessions: what ends them, and how much it costs to know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from app.cause import Cause, caused_by, current_cause
from app.cluster.bus import ACCESS, Waiter
from app.db import tokens as rows
from app.db.session import Database
from app.errors import GatewayError, TokenExpired, TokenRevoked
from app.mail.identifiers import new_id
from app.services.access import watch as access
from app.services.access.callers import ACCOUNT_SCOPES, Caller, TokenKind
from app.services.access.tokens import TokenOrder, Tokens
from app.services.access.watch import AccessWatch, Guard

from tests.access import ADMIN, set_password
from tests.harness import Harness, open_harness


@dataclass
class Watched:
    harness: Harness
    tokens: Tokens
    watch: AccessWatch

    async def caller(self, **limits: Any) -> Caller:
        account_id = await self.harness.add_account(f"{new_id('user')}@demo.test")
        order = TokenOrder(TokenKind.ACCOUNT, ACCOUNT_SCOPES, account_ids=(account_id,), **limits)
        _, secret = await self.tokens.create(order)
        return await self.tokens.authenticate(secret, None)


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    async with open_harness(tmp_path) as harness:
        yield Watched(harness, Tokens(harness.database, harness.bus), AccessWatch(harness.database, harness.bus))


async def ended(guard: Guard) -> GatewayError | None:
    """Why a guard ended, once its session was told."""
    assert await guard.waiter.wait(5) == {ACCESS}
    return guard.ended


async def test_a_guard_ends_when_its_token_is_revoked_and_others_stay(watched: Watched) -> None:
    caller, other = await watched.caller(), await watched.caller()
    with watched.watch.guard(caller, Waiter()) as guard, watched.watch.guard(other, Waiter()) as staying:
        await watched.tokens.revoke(caller.token_id, ADMIN)

        assert isinstance(await ended(guard), TokenRevoked)
        assert staying.ended is None
        with pytest.raises(TokenRevoked):
            guard.check()
        staying.check()


async def test_a_guard_ends_when_its_token_expires(watched: Watched) -> None:
    with watched.watch.guard(await watched.caller(expires_in_seconds=1), Waiter()) as guard:
        assert isinstance(await ended(guard), TokenExpired)


async def test_a_guard_of_a_token_that_was_revoked_before_ends_at_once(watched: Watched) -> None:
    caller = await watched.caller()
    await watched.tokens.revoke(caller.token_id, ADMIN)

    with watched.watch.guard(caller, Waiter()) as guard:
        assert isinstance(await ended(guard), TokenRevoked)


async def test_a_guard_of_a_mail_session_ends_when_the_password_changes_or_the_account_goes(watched: Watched) -> None:
    harness = watched.harness
    ann, bob = await harness.add_account("ann@demo.test"), await harness.add_account("bob@demo.test")
    logins = [await harness.logins.verify(f"{name}@demo.test", "secret", address="::1") for name in ("ann", "bob")]
    with watched.watch.guard(logins[0], Waiter()) as of_ann, watched.watch.guard(logins[1], Waiter()) as of_bob:
        await set_password(harness.database, harness.logins, ann, "new")
        harness.bus.poke(ACCESS)
        assert isinstance(await ended(of_ann), TokenRevoked)
        assert of_bob.ended is None

        await harness.remove_account(bob)
        harness.bus.poke(ACCESS)
        assert isinstance(await ended(of_bob), TokenRevoked)


async def test_a_poke_costs_one_query_for_all_guards(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, other = await watched.caller(), await watched.caller()
    asked: list[int] = []
    find_all = rows.find_all

    async def counting(database: Database, token_ids: list[str]) -> list[rows.StoredToken]:
        asked.append(len(token_ids))
        return await find_all(database, token_ids)

    guards = [watched.watch.begin(caller, Waiter()) for _ in range(200)]
    with watched.watch.guard(other, Waiter()) as last:
        monkeypatch.setattr(rows, "find_all", counting)
        await watched.tokens.revoke(other.token_id, ADMIN)
        await ended(last)
    for guard in guards:
        watched.watch.end(guard)

    assert asked[-1] == 2
    assert len(asked) <= 2  # the first look at the new guards, and that of the poke


async def test_a_database_that_is_away_ends_no_session_and_is_asked_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await watched.caller()
    monkeypatch.setattr(access, "RETRY_SECONDS", 0.01)
    find_all, failures = rows.find_all, [GatewayError(), GatewayError()]

    async def failing(database: Database, token_ids: list[str]) -> list[rows.StoredToken]:
        if failures:
            raise failures.pop()
        return await find_all(database, token_ids)

    with watched.watch.guard(caller, Waiter()) as guard:
        monkeypatch.setattr(rows, "find_all", failing)
        await watched.tokens.revoke(caller.token_id, ADMIN)
        assert isinstance(await ended(guard), TokenRevoked)
        assert not failures


async def test_nothing_watches_when_no_session_is_open(watched: Watched) -> None:
    with watched.watch.guard(await watched.caller(), Waiter()):
        assert ACCESS in watched.harness.bus.heard()
    await asyncio.sleep(0)

    assert watched.watch._watching is None


async def test_a_token_that_is_revoked_while_it_is_read_is_not_remembered(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = await watched.harness.add_account("eve@demo.test")
    record, secret = await watched.tokens.create(
        TokenOrder(TokenKind.ACCOUNT, ACCOUNT_SCOPES, account_ids=(account_id,))
    )
    find = rows.find_by_hash

    async def overtaken(database: Database, secret_hash: str) -> rows.StoredToken | None:
        row = await find(database, secret_hash)
        await watched.tokens.revoke(record.id, ADMIN)
        return row

    monkeypatch.setattr(rows, "find_by_hash", overtaken)
    await watched.tokens.authenticate(secret, None)
    monkeypatch.setattr(rows, "find_by_hash", find)

    with pytest.raises(TokenRevoked):
        await watched.tokens.authenticate(secret, None)


async def test_the_watch_of_all_sessions_belongs_to_no_request(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    causes: list[Cause | None] = []
    check = watched.watch._check

    async def noting(*, is_all: bool) -> bool:
        causes.append(current_cause())
        return await check(is_all=is_all)

    monkeypatch.setattr(watched.watch, "_check", noting)
    caller = await watched.caller()
    with caused_by(Cause("req_1")), watched.watch.guard(caller, Waiter()) as guard:
        await watched.tokens.revoke(caller.token_id, ADMIN)
        await ended(guard)

    assert set(causes) == {None}
