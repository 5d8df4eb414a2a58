"""Claims are renewed while work runs; work whose claim is lost is stopped."""

from __future__ import annotations

import asyncio

import pytest
from app.cluster import claims
from app.cluster.claims import ClaimLost, Renewal, hold, renewed
from app.errors import DatabaseUnavailable


@pytest.fixture(autouse=True)
def quick_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.0)


class Renewals:
    """Answers in turn; the last one from then on. An event tells that all were given."""

    def __init__(self, *answers: bool | Exception) -> None:
        self._answers = list(answers)
        self.are_given = asyncio.Event()

    async def __call__(self) -> bool:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if len(self._answers) == 1:
            self.are_given.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_work_whose_claim_is_renewed_ends_by_itself() -> None:
    renewals = Renewals(True, True, True)

    assert await hold(renewals.are_given.wait(), Renewal(renewals))


async def test_work_whose_claim_another_process_took_is_cancelled() -> None:
    work = asyncio.ensure_future(asyncio.Event().wait())

    with pytest.raises(ClaimLost):
        await hold(work, Renewal(Renewals(True, False)))
    assert work.cancelled()


async def test_one_renewal_that_fails_takes_the_claim_from_nobody() -> None:
    renewals = Renewals(DatabaseUnavailable(), TimeoutError(), True)

    assert await hold(renewals.are_given.wait(), Renewal(renewals))


async def test_work_is_stopped_when_no_renewal_succeeded_for_a_whole_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.05)

    with pytest.raises(ClaimLost):
        await hold(asyncio.Event().wait(), Renewal(Renewals(DatabaseUnavailable())))


async def test_a_process_that_is_alone_keeps_a_claim_that_it_cannot_renew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.0)
    renewals = Renewals(DatabaseUnavailable(), DatabaseUnavailable(), DatabaseUnavailable())

    assert await hold(renewals.are_given.wait(), Renewal(renewals, is_alone=True))


async def test_a_renewal_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.05)
    monkeypatch.setattr(claims, "DEADLINE_SECONDS", 0.01)

    async def stuck() -> bool:
        return await asyncio.Event().wait()

    with pytest.raises(ClaimLost):
        await hold(asyncio.Event().wait(), Renewal(stuck))


async def test_a_fault_in_a_renewal_is_not_hidden() -> None:
    with pytest.raises(KeyError):
        await hold(asyncio.Event().wait(), Renewal(Renewals(KeyError("fault"))))


async def test_work_that_must_not_be_cut_goes_on_without_its_claim() -> None:
    renewals = Renewals(False)

    async with renewed(Renewal(renewals)):
        await renewals.are_given.wait()
        await asyncio.sleep(0)
