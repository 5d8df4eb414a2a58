"""A database may run a unit of work again after it rolled the first run back: what comes of it is the same as of one.

Here every write is rolled back once and made again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from app.cluster.leases import Leases
from app.db.postgres import PostgresDatabase
from app.db.session import Transaction, Work
from app.db.sqlite import SqliteDatabase
from app.mail.backend import Verdict
from app.mail.types import AccountId
from app.mailstore.store import FlagChange
from app.security.vault import Vault
from app.services.access.idempotency import Answer, Attempt, Idempotency

from tests.contract.post_office import Office, open_office
from tests.contract.stores import message
from tests.gateway import Gateway, open_gateway
from tests.unit.api.mail import note, open_mail

JOE = "joe@there.example"
VAULT = Vault([bytes(range(32))])
ANSWER = Answer(201, b'{"id":"x"}')


class _Undone(Exception):
    pass


def _twice(once: Any) -> Any:
    async def write(self: object, work: Work[Any], **options: Any) -> Any:
        async def undone(transaction: Transaction) -> None:
            await work(transaction)
            raise _Undone

        try:
            await once(self, undone, **options)
        except _Undone:
            return await once(self, work, **options)

    return write


@pytest.fixture(autouse=True)
def writes_run_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    for database in (SqliteDatabase, PostgresDatabase):
        monkeypatch.setattr(database, "write", _twice(database.write))


@pytest.fixture
async def gateway(database_url: str | None, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(tmp_path, database_url) as opened:
        yield opened


@pytest.fixture
async def office(database_url: str | None, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(tmp_path, database_url) as opened:
        yield opened


async def test_requests_with_a_key_are_made_once_and_answered_alike(gateway: Gateway) -> None:
    mail = await open_mail(gateway)
    first = await mail.add(note("one"))
    inbox, archive = await mail.mailbox_id(), await mail.mailbox_id("Archive")
    requests: list[dict[str, Any]] = [
        {"url": "/v1/me/mailboxes", "json": {"name": "Projects"}},
        {
            "url": f"/v1/me/messages?mailbox_id={inbox}",
            "content": note("two"),
            "headers": {"Content-Type": "message/rfc822"},
        },
        {"url": "/v1/me/messages/copy", "json": {"message_ids": [first], "mailbox_id": archive}},
    ]

    for number, request in enumerate(requests):
        request["headers"] = {**request.get("headers", {}), "Idempotency-Key": str(number)}
        answer, again = [await mail.client.post(**request) for _ in range(2)]
        assert answer.status_code < 300, answer.text
        assert (again.status_code, again.content) == (answer.status_code, answer.content)
        assert again.headers["Idempotency-Replayed"] == "true"

    mailboxes = (await mail.client.get("/v1/me/mailboxes")).json()["items"]
    assert [one["name"] for one in mailboxes].count("Projects") == 1
    assert sorted(await mail.subjects()) == ["one", "two"]
    assert await mail.subjects("Archive") == ["one"]


async def test_accounts_come_and_go_once(gateway: Gateway) -> None:
    new = {"kind": "embedded", "email": "zoe@demo.test", "password": "a long password"}
    made = await gateway.admin.post("/v1/accounts", json=new, headers={"Idempotency-Key": "k"})
    path = f"/v1/accounts/{made.json()['id']}"

    assert made.status_code == 201
    assert (await gateway.admin.post("/v1/accounts", json=new, headers={"Idempotency-Key": "k"})).json() == made.json()
    assert (await gateway.admin.delete(path)).status_code == 204
    assert (await gateway.admin.get(path)).status_code == 404


async def test_a_submission_is_sent_once_with_one_event_for_each_step(office: Office) -> None:
    id_ = await office.submit(JOE)

    assert (await office.attempt(id_)).status == "sent"
    assert len(office.next_server.sent) == 1
    assert await office.events(id_) == ["submission.queued", "submission.sent"]


async def test_a_sender_is_told_once_of_what_failed(office: Office) -> None:
    office.next_server.says(JOE, Verdict.REFUSED, "5.1.1", "No such user")
    await office.attempt(await office.submit(JOE))

    assert len(await office.inbox()) == 1


async def test_flags_that_changed_meanwhile_are_reported_once(office: Office) -> None:
    stores = office.stores
    inbox = await stores.mailbox(office.ann, "INBOX")
    content = await stores.store.keep(message(1))
    await stores.store.add(office.ann, inbox.id, [(content, frozenset(), None)])

    stored = await stores.store.store_flags(office.ann, inbox.id, [1], FlagChange(add=frozenset({"a"})), 0)

    assert stored.modified == (1,)


async def test_leases_are_taken_once(office: Office) -> None:
    leases = Leases(office.stores.database, is_alone=False)

    assert await leases.take([AccountId("acc_one")], 1) == {AccountId("acc_one"): 1}
    assert await leases.renew() == {AccountId("acc_one"): 1}


async def test_an_answer_counts_as_recorded_once_it_is_committed(office: Office) -> None:
    database = office.stores.database
    attempt = await Idempotency(database, VAULT).begin("scope", "key", "payload")
    assert isinstance(attempt, Attempt)

    async def rolled_back(transaction: Transaction) -> None:
        await attempt.note_in(transaction, {"a": 1})
        await attempt.record(transaction, ANSWER)
        raise _Refused

    with pytest.raises(_Refused):
        await database.write(rolled_back)
    assert not attempt.is_recorded
    assert attempt.facts == {}

    await attempt.note({"a": 1})
    await database.write(partial(attempt.record, answer=ANSWER))
    assert attempt.is_recorded
    assert attempt.facts == {"a": 1}


class _Refused(Exception):
    pass
