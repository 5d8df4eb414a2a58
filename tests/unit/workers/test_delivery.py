from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest
from app.cluster.bus import SUBMISSIONS
from app.db import submissions as rows
from app.db.session import Transaction
from app.mail.backend import Backends, OutgoingMail, RecipientResult, Submission, Verdict
from app.mail.identifiers import now_ms
from app.mail.types import AccountId
from app.services.submissions import Options, Recipient, options_to_json, recipients_to_json
from app.workers.delivery import Delivery
from app.workers.delivery.worker import ATTEMPTS_PER_ACCOUNT, PARALLEL_ATTEMPTS

from tests.house import House, open_house


class Servers:
    """Mail servers of accounts; those of `hanging` answer nothing until `released`."""

    def __init__(self) -> None:
        self.hanging: set[AccountId] = set()
        self.begun: list[AccountId] = []
        self.sent: list[AccountId] = []
        self.released = asyncio.Event()
        self.has_sent = asyncio.Condition()

    async def submission_of(self, account_id: AccountId) -> Submission:
        return cast("Submission", _Server(self, account_id))


class _Server:
    def __init__(self, servers: Servers, account_id: AccountId) -> None:
        self._servers = servers
        self._account_id = account_id

    async def send(self, mail: OutgoingMail, before_content: Callable[[], Awaitable[None]]) -> list[RecipientResult]:
        self._servers.begun.append(self._account_id)
        if self._account_id in self._servers.hanging:
            await self._servers.released.wait()
        await before_content()
        async with self._servers.has_sent:
            self._servers.sent.append(self._account_id)
            self._servers.has_sent.notify_all()
        return [RecipientResult(one, Verdict.ACCEPTED) for one in mail.recipients]


async def queue(house: House, account_id: AccountId, number: int) -> None:
    """A submission that is due now; a lower number came first."""
    recipient = Recipient("bob@elsewhere.test", "pending", None, None)
    submission = rows.Submission(
        account_id=account_id,
        id=f"sub_{number}",
        status="queued",
        phase="",
        sender="ann@demo.test",
        recipients=recipients_to_json([recipient]),
        message_id_header=f"<{number}@demo.test>",
        blob=await house.store.blobs.put(b"Subject: Hello\r\n\r\nHello.\r\n"),
        size_bytes=26,
        options=options_to_json(Options(save_to=None)),
        attempts=0,
        due_at_ms=now_ms() - 1_000_000 + number,
        send_at_ms=None,
        lease_until_ms=0,
        is_filed=False,
        created_at_ms=now_ms(),
        updated_at_ms=now_ms(),
    )

    async def work(transaction: Transaction) -> None:
        await rows.add(transaction, submission)

    await house.database.write(work)


@asynccontextmanager
async def delivering(house: House, servers: Servers) -> AsyncIterator[None]:
    backends = cast("Backends", servers)
    delivery = Delivery(
        house.database,
        house.index,
        house.store,
        backends,
        house.deliveries,
        house.bus,
        hostname="mail.demo.test",
        is_alone=True,
    )
    running = asyncio.create_task(delivery.run())
    try:
        yield
    finally:
        running.cancel()
        servers.released.set()
        with suppress(asyncio.CancelledError):
            await running


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path) as opened:
        yield opened


async def sent(servers: Servers, whose: list[AccountId]) -> None:
    """Wait until exactly this was sent."""
    async with asyncio.timeout(10), servers.has_sent:
        await servers.has_sent.wait_for(lambda: servers.sent == whose)


async def test_a_mail_server_that_hangs_holds_up_the_mail_of_its_own_account_alone(house: House) -> None:
    slow, quick = await house.add_account("slow@demo.test"), await house.add_account("quick@demo.test")
    servers = Servers()
    servers.hanging.add(slow)
    waiting = PARALLEL_ATTEMPTS * 2 + 5
    for number in range(waiting):
        await queue(house, slow, number)
    await queue(house, quick, waiting)

    async with delivering(house, servers):
        house.bus.poke(SUBMISSIONS)
        await sent(servers, [quick])

    assert servers.begun.count(slow) == ATTEMPTS_PER_ACCOUNT


async def test_all_that_is_due_is_sent_and_looked_at_no_more(house: House) -> None:
    account_id = await house.add_account("ann@demo.test")
    servers = Servers()
    for number in range(7):
        await queue(house, account_id, number)

    async with delivering(house, servers):
        await sent(servers, [account_id] * 7)

    assert await rows.due(house.database, now_ms(), [], 10) == []
    assert {one.due_at_ms for one in await rows.page(house.database, account_id, 10)} == {rows.NEVER_MS}
