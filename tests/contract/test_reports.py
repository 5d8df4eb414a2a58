"""Reports that come back settle what became of a submission's recipients, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.mail.backend import Verdict
from app.services.sending.submissions import Recipient, recipients_to_json
from app.workers.delivery.steps import Steps

from tests.contract.post_office import Office, open_office
from tests.report import report

JOE, AMY = "joe@there.example", "amy@there.example"


@pytest.fixture
async def office(database_url: str | None, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(tmp_path, database_url) as opened:
        yield opened


async def arrives(office: Office, content: bytes) -> None:
    inbox = await office.deliveries.find(office.address)
    assert inbox is not None
    assert await office.deliveries.deliver(await office.stores.store.keep(content), [inbox]) == [True]


async def test_a_bounce_is_told_of_the_recipient_that_it_names(office: Office) -> None:
    id_ = await office.submit(JOE, AMY)
    await office.attempt(id_)

    await arrives(office, report(f"Original-Envelope-Id: {id_}\r\n", (JOE.upper(), "failed")))

    assert await office.recipients(id_) == (
        Recipient(JOE, "bounced", "5.2.2", "552 5.2.2 Full"),
        Recipient(AMY, "accepted"),
    )
    assert (await office.row(id_)).status == "sent"
    assert await office.events(id_) == ["submission.queued", "submission.sent", "submission.bounced"]
    assert len(await office.inbox()) == 1


async def test_a_report_and_an_answer_that_come_together_are_both_kept(office: Office) -> None:
    for _ in range(10):
        id_ = await office.submit(JOE, AMY)
        row = await office.set(
            id_, recipients=recipients_to_json([Recipient(JOE, "accepted"), Recipient(AMY)]), status="sending"
        )
        answered = recipients_to_json([Recipient(JOE, "accepted"), Recipient(AMY, "accepted")])

        await asyncio.gather(
            Steps(office.stores.database).record(row, {"recipients": answered}),
            arrives(office, report(f"Original-Envelope-Id: {id_}\r\n", (JOE, "delivered"))),
            Steps(office.stores.database).record(row, {"recipients": answered}),
        )

        assert [recipient.status for recipient in await office.recipients(id_)] == ["delivered", "accepted"]


async def test_what_the_returned_header_names_is_found_without_an_envelope_id(office: Office) -> None:
    id_ = await office.submit(JOE, AMY)
    await office.attempt(id_)
    content = report("", (JOE, "delivered"), (AMY, "failed"), returned="Message-ID: <1@example.com>\r\n")

    await arrives(office, content)
    await arrives(office, content)

    assert [one.status for one in await office.recipients(id_)] == ["delivered", "bounced"]
    told = await office.events(id_)
    assert told[2:] == ["submission.bounced", "submission.delivered"]


async def test_a_forwarded_message_bounces_for_the_one_that_it_was_sent_to(office: Office) -> None:
    id_ = await office.submit(JOE)
    await office.attempt(id_)

    await arrives(office, report(f"Original-Envelope-Id: {id_}\r\n", ("joe@elsewhere.example", "failed")))

    assert [one.status for one in await office.recipients(id_)] == ["bounced"]


@pytest.mark.parametrize("action", ["delayed", "relayed", "expanded", "nonsense"])
async def test_what_settles_nothing_changes_nothing(office: Office, action: str) -> None:
    id_ = await office.submit(JOE)
    await office.attempt(id_)

    await arrives(office, report(f"Original-Envelope-Id: {id_}\r\n", (JOE, action)))

    assert [one.status for one in await office.recipients(id_)] == ["accepted"]
    assert await office.events(id_) == ["submission.queued", "submission.sent"]


async def test_a_report_on_what_others_sent_is_mail_and_nothing_more(office: Office) -> None:
    id_ = await office.submit(JOE)
    await office.attempt(id_)
    office.ann, sender = await office.stores.add_account(), office.ann

    about = f"Original-Envelope-Id: {id_}\r\n"
    await arrives(office, report(about, (JOE, "failed"), returned="Message-ID: <1@example.com>\r\n"))

    assert len(await office.inbox()) == 1
    office.ann = sender
    assert [one.status for one in await office.recipients(id_)] == ["accepted"]


async def test_a_report_settles_what_nobody_knew(office: Office) -> None:
    office.next_server.says(JOE, Verdict.UNCERTAIN)
    id_ = await office.submit(JOE)
    assert (await office.attempt(id_)).status == "uncertain"

    await arrives(office, report(f"Original-Envelope-Id: {id_}\r\n", (JOE, "delivered")))

    assert [one.status for one in await office.recipients(id_)] == ["delivered"]
    assert (await office.row(id_)).status == "sent"


async def test_a_report_that_comes_during_the_next_attempt_stays_said(office: Office) -> None:
    office.next_server.says(AMY, Verdict.DEFERRED)
    id_ = await office.submit(JOE, AMY)
    await office.attempt(id_)
    await office.set(id_, due_at_ms=0)
    office.next_server.verdicts.clear()
    content = report(f"Original-Envelope-Id: {id_}\r\n", (JOE, "failed"))
    office.next_server.before = lambda: arrives(office, content)

    assert (await office.attempt(id_)).status == "sent"

    assert [one.status for one in await office.recipients(id_)] == ["bounced", "accepted"]


async def test_a_bounce_of_what_waits_to_be_tried_again_does_not_keep_it_from_that(office: Office) -> None:
    office.next_server.says(JOE, Verdict.DEFERRED)
    id_ = await office.submit(JOE)
    row = await office.attempt(id_)

    await arrives(office, report(f"Original-Envelope-Id: {id_}\r\n", (JOE, "failed")))

    assert [one.status for one in await office.recipients(id_)] == ["deferred"]
    assert await Steps(office.stores.database).claim(row) is not None
