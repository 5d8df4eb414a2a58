"""Of any number of processes one runs a request with a key, also when the process that ran it died."""

from __future__ import annotations

import asyncio

import pytest
from app.cluster import claims
from app.db import idempotency as rows
from app.db.claims import LEASE_MS
from app.db.session import Statement, Transaction
from app.db.tables import IDEMPOTENCY
from app.errors import IdempotencyRunning
from app.security.vault import Vault
from app.services.access import idempotency as module
from app.services.access.idempotency import Answer, Attempt, Idempotency
from sqlalchemy import select, update

from tests.contract.stores import Stores

VAULT = Vault([bytes(32)])
ANSWER = Answer(201, b"{}")
KEYS = 30
_END_LEASES: Statement = update(IDEMPOTENCY).values(lease_until_ms=IDEMPOTENCY.c.created_at_ms - 1_000)
_LEASES: Statement = select(IDEMPOTENCY.c.lease_until_ms)
_KEYS: Statement = select(IDEMPOTENCY.c.key)


def process(stores: Stores) -> Idempotency:
    return Idempotency(stores.database, VAULT)


async def begin(service: Idempotency, key: str = "key") -> Attempt:
    begun = await service.begin("scope", key, "payload")
    assert isinstance(begun, Attempt)
    return begun


async def let_leases_end(stores: Stores) -> None:
    """As if every process that runs a request had died long ago."""

    async def work(transaction: Transaction) -> None:
        await transaction.execute(_END_LEASES)

    await stores.database.write(work)


async def test_the_requests_of_a_dead_process_are_taken_over_by_one_other_each(stores: Stores) -> None:
    dead, others = process(stores), [process(stores) for _ in range(3)]
    keys = [f"key-{number}" for number in range(KEYS)]
    for key in keys:
        await begin(dead, key)
    await let_leases_end(stores)

    tries = [service.begin("scope", key, "payload") for key in keys for service in others]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)

    taken = [outcome for outcome in outcomes if isinstance(outcome, Attempt)]
    assert sorted(attempt.claim.key for attempt in taken if attempt.claim) == sorted(keys)
    assert all(attempt.is_repeated for attempt in taken)
    assert sum(isinstance(outcome, IdempotencyRunning) for outcome in outcomes) == 2 * KEYS


async def test_a_request_is_held_as_long_as_its_process_renews_the_claim(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.01)
    running = process(stores)

    async def slow(_: Attempt) -> Answer:
        await let_leases_end(stores)
        for _number in range(1000):
            await asyncio.sleep(0.01)
            if (await stores.database.rows(_LEASES))[0][0] > begun.begun_at_ms:
                break
        with pytest.raises(IdempotencyRunning):
            await begin(process(stores))
        return ANSWER

    begun = await begin(running)
    await running.complete(begun, slow)

    assert await process(stores).begin("scope", "key", "payload") == ANSWER


async def test_an_overtaken_process_commits_neither_its_answer_nor_what_it_did(stores: Stores) -> None:
    overtaken = await begin(process(stores))
    await let_leases_end(stores)
    current = process(stores)
    attempt = await begin(current)

    async def work(transaction: Transaction) -> None:
        await rows.take(transaction, "scope", "what it did", "")
        await overtaken.record(transaction, Answer(500, b"{}"))

    with pytest.raises(IdempotencyRunning):
        await stores.database.write(work)

    assert list(await stores.database.rows(_KEYS)) == [("key",)]
    await current.finish(attempt, ANSWER)
    assert await process(stores).begin("scope", "key", "payload") == ANSWER


async def test_a_claim_goes_by_the_databases_clock_alone(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "now_ms", lambda: 0)
    first = await begin(process(stores))
    monkeypatch.setattr(module, "now_ms", lambda: 2**50)

    with pytest.raises(IdempotencyRunning):
        await begin(process(stores))
    ((lease_until_ms,),) = await stores.database.rows(_LEASES)
    assert 0 <= lease_until_ms - first.begun_at_ms - LEASE_MS < LEASE_MS


async def test_what_a_dead_process_had_noted_is_known_to_the_next(stores: Stores) -> None:
    await (await begin(process(stores))).note({"mark": [1, 7]})
    await let_leases_end(stores)

    assert (await begin(process(stores))).facts == {"mark": [1, 7]}
