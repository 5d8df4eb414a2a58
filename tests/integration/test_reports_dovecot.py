"""Reports that arrive on a real Dovecot settle what was sent from that account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from app.db import submissions as rows
from app.mail.identifiers import now_ms
from app.services.sending.submissions import Options, Recipient, options_to_json, recipients_of, recipients_to_json

from tests.report import report
from tests.servers.dovecot import Dovecot, DovecotUser
from tests.servers.tls import TlsFiles
from tests.sync_harness import Followed, OtherClient, open_followed

JOE, AMY = "joe@there.example", "amy@there.example"


@pytest.fixture
def user(dovecot: Dovecot) -> DovecotUser:
    return dovecot.add_user()


@pytest.fixture
async def followed(tmp_path: Path, dovecot: Dovecot, tls: TlsFiles, user: DovecotUser) -> AsyncIterator[Followed]:
    async with open_followed(tmp_path, dovecot, tls, user) as account:
        await account.harness.database.write(lambda transaction: rows.add(transaction, sent(account.account_id)))
        yield account


def sent(account_id: str) -> rows.Submission:
    """What was sent to Joe and Amy, and taken."""
    recipients = recipients_to_json([Recipient(JOE, "accepted"), Recipient(AMY, "accepted")])
    now = now_ms()
    return rows.Submission(
        account_id, "sub_1", "sent", "done", "ann@mail.test", recipients, "<1@mail.test>", None, 1,
        options_to_json(Options()), 1, now, None, 0, True, now, now,
    )  # fmt: skip


async def statuses(account: Followed) -> list[str]:
    row = await rows.get(account.harness.database, account.account_id, "sub_1")
    assert row is not None
    return [one.status for one in recipients_of(row.recipients)]


async def test_a_bounce_on_the_origin_is_told_as_soon_as_it_arrives(
    followed: Followed, dovecot: Dovecot, user: DovecotUser
) -> None:
    bounce = report("Original-Envelope-Id: sub_1\r\n", (JOE, "failed"))
    receipt = report("", (AMY, "delivered"), returned="Message-ID: <1@mail.test>\r\n")
    async with followed.following():
        await followed.until_live()

        await asyncio.to_thread(dovecot.deliver, bounce, user.name)
        await followed.until(lambda: statuses(followed), ["bounced", "accepted"])
        await asyncio.to_thread(dovecot.deliver, receipt, user.name)
        await followed.until(lambda: statuses(followed), ["bounced", "delivered"])

    assert await followed.told("submission.") == ["submission.bounced", "submission.delivered"]


async def test_a_bounce_that_a_first_sync_finds_is_old_news(
    followed: Followed, dovecot: Dovecot, user: DovecotUser
) -> None:
    with OtherClient(dovecot, user) as client:
        client.append("INBOX", report("Original-Envelope-Id: sub_1\r\n", (JOE, "failed")))

    async with followed.following():
        await followed.until_live()
        await asyncio.to_thread(dovecot.deliver, report("Original-Envelope-Id: sub_1\r\n", (AMY, "failed")), user.name)
        await followed.until(lambda: statuses(followed), ["accepted", "bounced"])
