"""Sending keeps its promises on every database: nothing twice, each recipient's state on record, and senders told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from app.backends.local import LocalBackend
from app.cluster.bus import SUBMISSIONS
from app.db import accounts, directory
from app.db import submissions as rows
from app.db.claims import FOR_EVER_MS
from app.errors import Conflict, DatabaseUnavailable, LoginRefused, OriginAnswer
from app.mail.backend import Verdict
from app.mail.identifiers import now_ms
from app.mail.types import AccountKind
from app.mailstore.index import Index
from app.services.sending.submissions import Options, Recipient, Submissions, options_to_json, recipients_to_json
from app.workers.delivery import answers, worker
from app.workers.delivery.sent_copy import AWAITED_MS
from app.workers.delivery.steps import Steps

from tests.access import ADMIN
from tests.contract.post_office import Office, open_office
from tests.contract.stores import message

HOUR_MS = 3600 * 1000
JOE, AMY = "joe@there.example", "amy@there.example"


@pytest.fixture
async def office(database_url: str | None, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(tmp_path, database_url) as opened:
        yield opened


def parts_of(one: Message) -> list[Message]:
    parts = one.get_payload()
    assert isinstance(parts, list)
    return [part for part in parts if isinstance(part, Message)]


def reported(notice: Message) -> list[Message]:
    """The blocks of a report: about the message, then one a recipient."""
    assert notice.get_content_type() == "multipart/report"
    return parts_of(parts_of(notice)[1])


# ---- what the sender is told


async def test_the_sender_is_told_once_by_mail_what_failed(office: Office) -> None:
    office.next_server.says(JOE, Verdict.REFUSED, "5.1.1", "No such user")
    id_ = await office.submit(JOE, AMY)

    row = await office.attempt(id_)

    assert row.status == "sent"
    (notice,) = await office.inbox()
    assert (notice["Return-Path"], notice["To"], notice["Auto-Submitted"]) == ("<>", office.address, "auto-replied")
    assert (notice["In-Reply-To"], notice["References"]) == ("<1@example.com>", "<1@example.com>")
    about, joe = reported(notice)
    assert (about["Original-Envelope-Id"], about["Reporting-MTA"]) == (id_, "dns; mail.demo.test")
    assert dict(joe.items()) == {
        "Final-Recipient": f"rfc822; {JOE}",
        "Action": "failed",
        "Status": "5.1.1",
        "Diagnostic-Code": "smtp; No such user",
    }
    text, _, returned = parts_of(notice)
    assert JOE in str(text.get_payload())
    assert returned.get_content_type() == "text/rfc822-headers"
    assert str(returned.get_payload()) == message(1).decode().partition("\r\n\r\n")[0] + "\r\n"
    assert await office.events(id_) == ["submission.queued", "submission.sent"]


async def test_a_program_is_told_by_events_alone(office: Office) -> None:
    office.next_server.says(JOE, Verdict.REFUSED, "5.1.1", "No such user")
    id_ = await office.submit(JOE)
    await office.set(id_, options=options_to_json(Options()))

    assert (await office.attempt(id_)).status == "failed"

    assert await office.inbox() == []
    assert await office.events(id_) == ["submission.queued", "submission.failed"]


async def test_nobody_is_told_of_a_report_that_failed(office: Office) -> None:
    office.next_server.says(JOE, Verdict.REFUSED)
    id_ = await office.submit(JOE, sender="")

    assert (await office.attempt(id_)).status == "failed"

    assert await office.inbox() == []


async def test_what_cannot_be_sent_for_four_days_is_given_up_and_told(office: Office) -> None:
    office.next_server.says(JOE, Verdict.DEFERRED, "4.2.0", "Later")
    id_ = await office.submit(JOE, AMY)
    await office.set(id_, created_at_ms=now_ms() - 97 * HOUR_MS)

    row = await office.attempt(id_)

    assert row.status == "sent"
    assert [(one.status, one.enhanced_code) for one in await office.recipients(id_)] == [
        ("refused", "4.4.7"),
        ("accepted", None),
    ]
    (notice,) = await office.inbox()
    (_, joe) = reported(notice)
    assert (joe["Action"], joe["Status"], joe["Diagnostic-Code"]) == ("failed", "4.4.7", "smtp; Given up: Later")


async def test_what_was_scheduled_far_ahead_has_its_four_days_from_then(office: Office) -> None:
    office.next_server.says(JOE, Verdict.DEFERRED)
    id_ = await office.submit(JOE)
    await office.set(id_, created_at_ms=now_ms() - 200 * HOUR_MS, send_at_ms=now_ms() - 1000)

    assert (await office.attempt(id_)).status == "deferred"
    assert await office.inbox() == []


async def test_a_delay_is_told_once_after_four_hours(office: Office) -> None:
    office.next_server.says(JOE, Verdict.DEFERRED, "4.2.0", "Later")
    id_ = await office.submit(JOE)

    await office.attempt(id_)
    assert await office.inbox() == []
    for _ in range(2):
        await office.set(id_, created_at_ms=now_ms() - 5 * HOUR_MS, due_at_ms=now_ms())
        assert (await office.attempt(id_)).status == "deferred"

    (notice,) = await office.inbox()
    (_, joe) = reported(notice)
    assert (joe["Action"], joe["Status"]) == ("delayed", "4.2.0")
    assert joe["Will-Retry-Until"] is not None


async def test_the_sender_is_told_where_nobody_knows(office: Office) -> None:
    office.next_server.says(JOE, Verdict.UNCERTAIN)
    id_ = await office.submit(JOE)

    assert (await office.attempt(id_)).status == "uncertain"

    (notice,) = await office.inbox()
    assert "may" in notice["Subject"]
    (_, joe) = reported(notice)
    assert (joe["Action"], joe["Status"]) == ("failed", "4.4.2")


# ---- nothing is sent twice


async def test_what_is_uncertain_is_sent_again_only_if_asked_and_not_at_once(office: Office) -> None:
    office.next_server.says(JOE, Verdict.UNCERTAIN)
    id_ = await office.submit(JOE)
    await office.set(id_, options=options_to_json(Options(is_retried_when_uncertain=True)))

    row = await office.attempt(id_)

    assert row.status == "deferred"
    assert row.due_at_ms > now_ms() + 30_000


async def test_those_who_wait_are_tried_again_where_another_is_uncertain(office: Office) -> None:
    office.next_server.says(JOE, Verdict.UNCERTAIN)
    office.next_server.says(AMY, Verdict.DEFERRED)
    id_ = await office.submit(JOE, AMY)
    assert (await office.attempt(id_)).status == "deferred"

    office.next_server.verdicts.clear()
    await office.set(id_, due_at_ms=now_ms())
    assert (await office.attempt(id_)).status == "uncertain"

    assert [one.recipients for one in office.next_server.sent] == [(JOE, AMY), (AMY,)]
    assert [one.status for one in await office.recipients(id_)] == ["uncertain", "accepted"]


async def test_a_neighbour_has_one_copy_however_often_the_others_are_tried(office: Office) -> None:
    bob = await office.stores.add_account()
    office.next_server.says(JOE, Verdict.DEFERRED)
    id_ = await office.submit(f"{bob}@demo.test", "nobody@demo.test", JOE)
    await office.attempt(id_)
    await office.set(id_, due_at_ms=now_ms())

    await office.attempt(id_)

    assert [one.status for one in await office.recipients(id_)] == ["accepted", "refused", "deferred"]
    assert len(await office.inbox(bob)) == 1
    assert len(await office.inbox()) == 1  # of the one who is not there


async def test_an_attempt_that_lost_its_lease_sends_nothing_and_says_nothing(office: Office) -> None:
    id_ = await office.submit(JOE)
    steps = Steps(office.stores.database)

    async def another_takes_it() -> None:
        row = await office.set(id_, lease_until_ms=0)
        assert await steps.claim(row) is not None

    office.next_server.before = another_takes_it
    async with office.at_work():
        await office.until(id_, lambda row: row.attempts == 2)

    assert office.next_server.sent == []
    row = await office.row(id_)
    assert (row.status, row.phase, row.attempts) == ("sending", "", 2)
    assert await office.events(id_) == ["submission.queued"]


async def test_what_was_put_off_meanwhile_is_not_claimed(office: Office) -> None:
    seen = await office.row(await office.submit(JOE))
    await office.set(seen.id, due_at_ms=now_ms() + HOUR_MS)

    assert await Steps(office.stores.database).claim(seen) is None


async def test_a_submission_is_claimed_by_the_databases_clock_and_renewed_by_its_holder_alone(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = office.stores.database
    steps, seen = Steps(database), await office.row(await office.submit(JOE))
    held = await steps.claim(seen)
    assert held is not None
    assert await steps.claim(seen) is None
    monkeypatch.setattr(time, "time", lambda: 2.0**40)

    assert await rows.due(database, now_ms(), [], 10) == []
    assert await rows.renew(database, held)
    assert await rows.due(database, now_ms(), [], 10) == []
    ended = await office.set(seen.id, lease_until_ms=1)
    assert [row.id for row in await rows.due(database, now_ms(), [], 10)] == [seen.id]
    assert await rows.due(database, now_ms(), [], 10, slack_ms=-FOR_EVER_MS) == []
    assert await steps.claim(ended) is not None
    assert not await rows.renew(database, held)


async def test_what_is_being_sent_cannot_be_cancelled_and_what_was_cancelled_is_not_sent(office: Office) -> None:
    stores = office.stores
    submissions = Submissions(stores.database, stores.index, stores.store.blobs, stores.bus, office)
    begun, cancelled = await office.submit(JOE), await office.submit(AMY)
    seen = await office.row(cancelled)
    assert await Steps(stores.database).claim(await office.row(begun)) is not None

    with pytest.raises(Conflict):
        await submissions.cancel(office.ann, begun, ADMIN)
    assert (await submissions.cancel(office.ann, cancelled, ADMIN)).status == "cancelled"
    assert await Steps(stores.database).claim(seen) is None


async def test_the_copy_is_filed_once(office: Office) -> None:
    sent = await office.stores.mailbox(office.ann, "Sent")
    id_ = await office.submit(JOE)
    await office.set(id_, options=options_to_json(Options(save_to=sent.id)))
    assert (await office.attempt(id_)).status == "sent"

    await office.set(id_, phase="filing", is_filed=False, due_at_ms=now_ms(), lease_until_ms=0)  # as a crash leaves it
    row = await office.attempt(id_)

    assert row.is_filed
    assert len(await office.inbox(path="Sent")) == 1


@pytest.mark.parametrize("is_filed_by_origin", [True, False])
async def test_an_origin_that_files_what_it_sends_is_waited_for_and_given_no_second_copy(
    office: Office, monkeypatch: pytest.MonkeyPatch, is_filed_by_origin: bool
) -> None:
    async def capabilities(_: LocalBackend) -> list[str]:
        return ["X-GM-EXT-1"]

    monkeypatch.setattr(LocalBackend, "capabilities", capabilities)
    sent = await office.stores.mailbox(office.ann, "Sent")
    id_ = await office.submit(JOE)
    await office.set(id_, options=options_to_json(Options(save_to=sent.id)))
    async with office.at_work():
        await office.until(id_, lambda row: row.phase == "sent" and row.due_at_ms > now_ms() + 30_000)
    assert await office.inbox(path="Sent") == []
    if is_filed_by_origin:
        content = await office.stores.store.keep(message(1))
        await office.stores.store.add(office.ann, sent.id, [(content, frozenset(), None)])

    await office.set(id_, due_at_ms=now_ms(), lease_until_ms=0, updated_at_ms=now_ms() - AWAITED_MS)
    row = await office.attempt(id_)

    assert row.is_filed
    assert len(await office.inbox(path="Sent")) == 1


async def test_a_copy_that_the_origin_filed_at_once_is_the_only_one_and_the_next_is_waited_for(office: Office) -> None:
    sent = await office.stores.mailbox(office.ann, "Sent")
    content = await office.stores.store.keep(message(1))
    await office.stores.store.add(office.ann, sent.id, [(content, frozenset(), None)])
    first = await office.submit(JOE)
    await office.set(first, options=options_to_json(Options(save_to=sent.id)))

    assert (await office.attempt(first)).is_filed
    assert len(await office.inbox(path="Sent")) == 1
    assert await accounts.files_sent(office.stores.database, office.ann)


async def test_a_copy_that_the_origin_files_late_is_found_with_the_next_message_and_ours_goes(office: Office) -> None:
    sent = await office.stores.mailbox(office.ann, "Sent")
    first, second = await office.submit(JOE), await office.submit(AMY)
    for id_ in (first, second):
        await office.set(id_, options=options_to_json(Options(save_to=sent.id)))
    await office.set(second, message_id_header="<another@there.test>", due_at_ms=FOR_EVER_MS)
    async with office.at_work():
        await office.until(first, lambda row: bool(row.is_filed))
        content = await office.stores.store.keep(b"Received: from a server\r\n" + message(1))
        await office.stores.store.add(office.ann, sent.id, [(content, frozenset(), None)])
        await office.set(second, due_at_ms=now_ms())
        office.stores.bus.poke(SUBMISSIONS)
        await office.until(second, lambda row: row.phase == "sent" and row.due_at_ms > now_ms() + 30_000)

    assert ["Received" in one for one in await office.inbox(path="Sent")] == [True]
    assert await accounts.files_sent(office.stores.database, office.ann)


# ---- when something ends meanwhile


async def test_an_attempt_under_way_is_waited_for_at_the_end(office: Office) -> None:
    office.next_server.may_answer.clear()
    id_ = await office.submit(JOE)
    task = asyncio.create_task(office.delivery().run())
    await office.next_server.has_content.wait()

    task.cancel()
    await asyncio.sleep(0.05)
    office.next_server.may_answer.set()
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    assert (await office.row(id_)).status == "sent"


async def test_an_attempt_that_was_cut_after_its_content_began_is_uncertain(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "DRAIN_SECONDS", 0.01)
    office.next_server.may_answer.clear()
    id_ = await office.submit(JOE)
    async with office.at_work():
        await office.next_server.has_content.wait()
    assert ((await office.row(id_)).status, (await office.row(id_)).phase) == ("sending", "content")

    assert (await office.attempt(id_)).status == "uncertain"
    assert len(office.next_server.sent) == 1


async def test_a_refused_login_is_seen_and_tried_again(office: Office) -> None:
    office.next_server.failure = LoginRefused("", OriginAnswer("smtp", "Authentication failed", "5.7.8"))
    id_ = await office.submit(JOE)

    row = await office.attempt(id_)

    assert (row.status, row.due_at_ms > now_ms()) == ("deferred", True)
    assert await office.recipients(id_) == (Recipient(JOE, "deferred", "5.7.8", "Authentication failed"),)


async def test_lost_bytes_are_a_failure_that_is_told(office: Office) -> None:
    id_ = await office.submit(JOE)
    await office.set(id_, blob="0" * 64)

    assert (await office.attempt(id_)).status == "failed"

    assert len(await office.inbox()) == 1


async def test_an_account_that_is_removed_meanwhile_holds_up_nobody(office: Office) -> None:
    gone = await office.submit(JOE)
    stores = office.stores

    async def remove() -> None:
        office.next_server.before = None
        await stores.database.write(lambda transaction: directory.remove(transaction, office.ann))

    office.next_server.before = remove
    async with office.at_work(), asyncio.timeout(10):
        await office.next_server.has_content.wait()
        left = office.ann
        office.ann = await stores.add_account()
        office.next_server.has_content.clear()
        other = await office.submit(AMY)
        await office.until(other, lambda row: row.status == "sent")

    row = await rows.get(stores.database, left, gone)
    assert row is None or row.status == "sending"


async def test_a_remote_account_sends_to_local_addresses_through_its_own_server(office: Office) -> None:
    neighbour = office.address
    office.ann = await office.stores.add_account(AccountKind.IMAP)
    id_ = await office.submit(neighbour)

    assert (await office.attempt(id_)).status == "sent"

    assert [one.recipients for one in office.next_server.sent] == [(neighbour,)]


# ---- what a server answered stays known


@dataclass
class FailingIndex:
    """Stands before `Index.change`: once the server has the message, it fails so many times, after `before_failure`."""

    office: Office
    failures: int
    before_failure: Callable[[], Awaitable[object]] | None = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        change = self.office.stores.index.change

        async def changes(_: Index, *args: Any, **options: Any) -> Any:
            if self.office.next_server.sent and self.failures:
                self.failures -= 1
                if self.before_failure is not None:
                    await self.before_failure()
                raise DatabaseUnavailable
            return await change(*args, **options)

        monkeypatch.setattr(Index, "change", changes)
        monkeypatch.setattr(answers, "FIRST_PAUSE_SECONDS", 0.001)


async def test_an_answer_is_recorded_however_often_the_database_fails(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    FailingIndex(office, failures=5).install(monkeypatch)
    id_ = await office.submit(JOE)

    assert (await office.attempt(id_)).status == "sent"

    assert [recipient.status for recipient in await office.recipients(id_)] == ["accepted"]
    assert len(office.next_server.sent) == 1


@pytest.mark.parametrize(
    ("status", "recipient"), [("uncertain", "uncertain"), ("deferred", "deferred"), ("deferred", "pending")]
)
async def test_an_answer_corrects_what_another_worker_took_for_uncertain(
    office: Office, monkeypatch: pytest.MonkeyPatch, status: str, recipient: str
) -> None:
    id_ = await office.submit(JOE)

    async def settle() -> None:
        row = await office.row(id_)
        recipients = recipients_to_json([Recipient(JOE, recipient)])
        later = now_ms() + HOUR_MS
        await office.set(
            id_, status=status, phase="done", attempts=row.attempts + 1, recipients=recipients, due_at_ms=later
        )

    FailingIndex(office, failures=1, before_failure=settle).install(monkeypatch)

    async with office.at_work():
        await office.until(id_, lambda row: row.status == "sent")

    assert [one.status for one in await office.recipients(id_)] == ["accepted"]
    assert len(office.next_server.sent) == 1
