from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.db.session import Transaction
from app.errors import IdempotencyMismatch, IdempotencyRunning
from app.security.vault import Vault
from app.services.idempotency import Answer, Attempt, Idempotency

from tests.gateway import files_holding
from tests.house import House, open_house

VAULT = Vault([bytes(32)])
ANSWER = Answer(201, b'{"id":"x"}', {"Location": "/x"})


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as house:
        yield house


async def _begin(service: Idempotency, payload: str = "p", *, is_secret: bool = False) -> Answer | Attempt:
    return await service.begin("scope", "key", payload, is_secret=is_secret)


async def test_the_first_answer_is_given_again(house: House) -> None:
    service = Idempotency(house.database, VAULT)
    attempt = await _begin(service)
    assert isinstance(attempt, Attempt)
    assert not attempt.is_repeated

    await service.finish(attempt, ANSWER)
    service.end(attempt)

    assert await _begin(service) == ANSWER
    with pytest.raises(IdempotencyMismatch):
        await _begin(service, "other")


async def test_while_the_first_runs_a_second_waits_its_turn(house: House) -> None:
    service = Idempotency(house.database, VAULT, is_alone=True)
    outcomes = await asyncio.gather(*(_begin(service) for _ in range(5)), return_exceptions=True)

    assert sum(isinstance(one, Attempt) for one in outcomes) == 1
    assert sum(isinstance(one, IdempotencyRunning) for one in outcomes) == 4


async def test_an_answer_recorded_in_a_transaction_that_fails_is_not_kept(house: House) -> None:
    service = Idempotency(house.database, VAULT, is_alone=True)
    attempt = await _begin(service)
    assert isinstance(attempt, Attempt)

    async def work(transaction: Transaction) -> None:
        await attempt.record(transaction, ANSWER)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await house.database.write(work)
    service.end(attempt)

    again = await _begin(service)
    assert isinstance(again, Attempt)
    assert again.is_repeated


async def test_after_a_crash_the_next_attempt_knows_what_to_look_for(house: House) -> None:
    attempt = await _begin(Idempotency(house.database, VAULT, is_alone=True))
    assert isinstance(attempt, Attempt)
    await attempt.note({"message_id_header": "<a@b>"})

    after_restart = Idempotency(house.database, VAULT, is_alone=True)
    again = await _begin(after_restart)

    assert isinstance(again, Attempt)
    assert again.is_repeated
    assert again.facts == {"message_id_header": "<a@b>"}


async def test_what_runs_on_another_node_is_not_taken_over_at_once(house: House) -> None:
    await _begin(Idempotency(house.database, VAULT))

    with pytest.raises(IdempotencyRunning):
        await _begin(Idempotency(house.database, VAULT))


async def test_a_request_that_did_nothing_frees_its_key(house: House) -> None:
    service = Idempotency(house.database, VAULT)
    attempt = await _begin(service)
    assert isinstance(attempt, Attempt)

    await service.forget(attempt)
    service.end(attempt)

    other = await _begin(service, "other")
    assert isinstance(other, Attempt)
    assert not other.is_repeated


async def test_check_19_an_answer_with_a_secret_is_kept_encrypted(house: House, tmp_path: Path) -> None:
    service = Idempotency(house.database, VAULT)
    secret = Answer(201, b'{"token":"canary-token"}')
    attempt = await _begin(service, is_secret=True)
    assert isinstance(attempt, Attempt)

    await service.finish(attempt, secret)
    service.end(attempt)

    assert not files_holding(tmp_path, b"canary")
    assert await _begin(service, is_secret=True) == secret


async def test_a_key_is_known_again_under_a_new_master_key(house: House) -> None:
    attempt = await _begin(Idempotency(house.database, Vault([bytes(32)])))
    assert isinstance(attempt, Attempt)
    await attempt.service.finish(attempt, ANSWER)

    newer = Idempotency(house.database, Vault([bytes(range(32)), bytes(32)]))

    assert await _begin(newer) == ANSWER
