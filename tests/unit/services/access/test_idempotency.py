from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.cluster import claims
from app.db.session import Transaction
from app.errors import Conflict, IdempotencyMismatch, IdempotencyRunning, ServerRefused, TimedOut
from app.security.vault import Vault
from app.services.access.idempotency import Answer, Attempt, Idempotency

from tests.gateway import files_holding
from tests.harness import Harness, open_harness

VAULT = Vault([bytes(32)])
ANSWER = Answer(201, b'{"id":"x"}', {"Location": "/x"})


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


async def _begin(service: Idempotency, payload: str = "p", *, is_secret: bool = False) -> Answer | Attempt:
    return await service.begin("scope", "key", payload, is_secret=is_secret)


async def _attempt(service: Idempotency, payload: str = "p", *, is_secret: bool = False) -> Attempt:
    begun = await _begin(service, payload, is_secret=is_secret)
    assert isinstance(begun, Attempt)
    return begun


async def _answers(_: Attempt) -> Answer:
    return ANSWER


async def test_the_first_answer_is_given_again(harness: Harness) -> None:
    service = Idempotency(harness.database, VAULT)
    attempt = await _attempt(service)
    assert not attempt.is_repeated

    assert await service.complete(attempt, _answers) == ANSWER

    assert await _begin(service) == ANSWER
    with pytest.raises(IdempotencyMismatch):
        await _begin(service, "other")


async def test_while_the_first_runs_a_second_is_refused(harness: Harness) -> None:
    service = Idempotency(harness.database, VAULT, is_alone=True)
    outcomes = await asyncio.gather(*(_begin(service) for _ in range(5)), return_exceptions=True)

    assert sum(isinstance(outcome, Attempt) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, IdempotencyRunning) for outcome in outcomes) == 4


async def test_an_answer_recorded_in_a_transaction_that_fails_is_not_kept(harness: Harness) -> None:
    async def fails(attempt: Attempt) -> Answer:
        async def work(transaction: Transaction) -> None:
            await attempt.record(transaction, ANSWER)
            raise ZeroDivisionError

        await harness.database.write(work)
        return ANSWER

    service = Idempotency(harness.database, VAULT, is_alone=True)
    with pytest.raises(ZeroDivisionError):
        await service.complete(await _attempt(service), fails)

    assert (await _attempt(service)).is_repeated


async def test_after_a_crash_the_next_attempt_knows_what_to_look_for(harness: Harness) -> None:
    attempt = await _attempt(Idempotency(harness.database, VAULT, is_alone=True))
    await attempt.note({"mark": 7})
    await attempt.note({"copied": ["a"]})

    again = await _attempt(Idempotency(harness.database, VAULT, is_alone=True))

    assert again.is_repeated
    assert again.facts == {"mark": 7, "copied": ["a"]}


async def test_each_attempt_at_a_request_has_the_same_seed_and_beginning(harness: Harness) -> None:
    first = await _attempt(Idempotency(harness.database, VAULT, is_alone=True))
    again = await _attempt(Idempotency(harness.database, Vault([bytes(range(32)), bytes(32)]), is_alone=True))
    other = await Idempotency(harness.database, VAULT).begin("scope", "another key", "p")

    assert (again.seed, again.begun_at_ms) == (first.seed, first.begun_at_ms)
    assert isinstance(other, Attempt)
    assert other.seed != first.seed


async def test_what_runs_in_another_process_is_not_taken_over(harness: Harness) -> None:
    await _begin(Idempotency(harness.database, VAULT))

    with pytest.raises(IdempotencyRunning):
        await _begin(Idempotency(harness.database, VAULT))


async def test_a_refused_request_frees_its_key_for_another_payload(harness: Harness) -> None:
    async def refused(attempt: Attempt) -> Answer:
        await attempt.note({"mark": 7})
        raise ServerRefused("over quota")

    service = Idempotency(harness.database, VAULT)
    with pytest.raises(ServerRefused):
        await service.complete(await _attempt(service), refused)

    assert not (await _attempt(service, "other")).is_repeated


@pytest.mark.parametrize("later", [TimedOut(), Conflict(), ServerRefused()])
async def test_once_an_answer_was_lost_its_facts_stay_whatever_a_later_attempt_meets(
    harness: Harness, later: Exception
) -> None:
    service = Idempotency(harness.database, VAULT)

    async def lost(attempt: Attempt) -> Answer:
        await attempt.note({"mark": 7})
        raise TimedOut

    async def fails(_: Attempt) -> Answer:
        raise later

    with pytest.raises(TimedOut):
        await service.complete(await _attempt(service), lost)
    with pytest.raises(type(later)):
        await service.complete(await _attempt(service), fails)

    assert (await _attempt(service)).facts == {"mark": 7}


async def test_a_lost_answer_before_anything_was_done_frees_the_key(harness: Harness) -> None:
    async def fails(_: Attempt) -> Answer:
        raise TimedOut

    service = Idempotency(harness.database, VAULT)
    with pytest.raises(TimedOut):
        await service.complete(await _attempt(service), fails)

    assert not (await _attempt(service, "other")).is_repeated


async def test_the_work_of_a_cancelled_caller_goes_on_and_its_answer_is_kept(harness: Harness) -> None:
    service = Idempotency(harness.database, VAULT, is_alone=True)
    has_begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(_: Attempt) -> Answer:
        has_begun.set()
        await may_end.wait()
        return ANSWER

    caller = asyncio.create_task(service.complete(await _attempt(service), slow))
    await has_begun.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    with pytest.raises(IdempotencyRunning):
        await _begin(service)
    may_end.set()
    await service.close()

    assert caller.cancelled()
    assert await _begin(service) == ANSWER


async def test_a_request_whose_claim_was_lost_is_stopped(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.01)
    first = Idempotency(harness.database, VAULT)
    is_stopped = asyncio.Event()

    async def endless(_: Attempt) -> Answer:
        try:
            await asyncio.Event().wait()
        finally:
            is_stopped.set()
        return ANSWER

    running = asyncio.create_task(first.complete(await _attempt(first), endless))
    await _begin(Idempotency(harness.database, VAULT, is_alone=True))

    with pytest.raises(IdempotencyRunning):
        await running
    assert is_stopped.is_set()


async def test_an_overtaken_attempt_keeps_no_answer_and_notes_nothing(harness: Harness) -> None:
    first, second = (Idempotency(harness.database, VAULT, is_alone=True) for _ in range(2))
    overtaken = await _attempt(first)
    current = await _attempt(second)

    with pytest.raises(IdempotencyRunning):
        await overtaken.note({"mark": 7})
    with pytest.raises(IdempotencyRunning):
        await first.finish(overtaken, Answer(500, b"{}"))

    await second.finish(current, ANSWER)
    assert await _begin(Idempotency(harness.database, VAULT)) == ANSWER


async def test_an_answer_with_a_secret_is_kept_encrypted(harness: Harness, tmp_path: Path) -> None:
    service = Idempotency(harness.database, VAULT)
    secret = Answer(201, b'{"token":"canary-token"}')

    async def work(_: Attempt) -> Answer:
        return secret

    await service.complete(await _attempt(service, is_secret=True), work)

    assert not files_holding(tmp_path, b"canary")
    assert await _begin(service, is_secret=True) == secret


async def test_a_key_is_known_again_under_a_new_master_key(harness: Harness) -> None:
    service = Idempotency(harness.database, Vault([bytes(32)]))
    await service.complete(await _attempt(service), _answers)

    newer = Idempotency(harness.database, Vault([bytes(range(32)), bytes(32)]))

    assert await _begin(newer) == ANSWER
