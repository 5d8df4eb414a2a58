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
from app.services.sending.submissions import Options, Recipient, options_to_json, recipients_to_json
from app.workers.delivery import Delivery
from app.workers.delivery.places import PLACES, PLACES_PER_ACCOUNT, PLACES_PER_HOST, DestinationLimiter

from tests.harness import Harness, open_harness


class Servers:
    """Mail servers of accounts, each its own unless `hosts` says another; those of `hanging` answer nothing until
    `released`.
    """

    def __init__(self) -> None:
        self.hosts: dict[AccountId, str] = {}
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
        self.host = servers.hosts.get(account_id, account_id)

    async def send(self, mail: OutgoingMail, before_content: Callable[[], Awaitable[None]]) -> list[RecipientResult]:
        self._servers.begun.append(self._account_id)
        if self._account_id in self._servers.hanging:
            await self._servers.released.wait()
        await before_content()
        async with self._servers.has_sent:
            self._servers.sent.append(self._account_id)
            self._servers.has_sent.notify_all()
        return [RecipientResult(one, Verdict.ACCEPTED) for one in mail.recipients]


async def queue(harness: Harness, account_id: AccountId, number: int, to: str = "bob@elsewhere.test") -> None:
    """A submission that is due now; a lower number came first."""
    recipient = Recipient(to, "pending", None, None)
    submission = rows.Submission(
        account_id=account_id,
        id=f"sub_{number}",
        status="queued",
        phase="",
        sender="ann@demo.test",
        recipients=recipients_to_json([recipient]),
        message_id_header=f"<{number}@demo.test>",
        blob=await harness.store.blobs.put(b"Subject: Hello\r\n\r\nHello.\r\n"),
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

    await harness.database.write(work)


@asynccontextmanager
async def delivering(harness: Harness, servers: Servers) -> AsyncIterator[None]:
    backends = cast("Backends", servers)
    delivery = Delivery(
        harness.database,
        harness.index,
        harness.reader,
        harness.store,
        backends,
        harness.deliveries,
        harness.bus,
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
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as opened:
        yield opened


async def sent(servers: Servers, whose: list[AccountId]) -> None:
    """Wait until exactly this was sent, in whatever order."""
    async with asyncio.timeout(10), servers.has_sent:
        await servers.has_sent.wait_for(lambda: sorted(servers.sent) == sorted(whose))


async def status_of(harness: Harness, account_id: AccountId, number: int, status: str) -> bool:
    """Wait until a submission is in this state."""
    for _ in range(500):
        row = await rows.get(harness.database, account_id, f"sub_{number}")
        if row is not None and row.status == status:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_a_mail_server_that_hangs_holds_up_the_mail_of_its_own_account_alone(harness: Harness) -> None:
    slow, quick = await harness.add_account("slow@demo.test"), await harness.add_account("quick@demo.test")
    servers = Servers()
    servers.hanging.add(slow)
    waiting = PLACES * 2 + 5
    for number in range(waiting):
        await queue(harness, slow, number)
    await queue(harness, quick, waiting)

    async with delivering(harness, servers):
        harness.bus.poke(SUBMISSIONS)
        await sent(servers, [quick])

    assert servers.begun.count(slow) == PLACES_PER_ACCOUNT


async def test_many_accounts_on_a_mail_server_that_hangs_hold_up_no_mail_to_another(harness: Harness) -> None:
    servers = Servers()
    slow = [await harness.add_account(f"slow{number}@demo.test") for number in range(PLACES * 3)]
    quick = await harness.add_account("quick@demo.test")
    servers.hanging |= {*slow}
    servers.hosts |= dict.fromkeys(slow, "hung.test:587")
    for number, account_id in enumerate(slow):
        await queue(harness, account_id, number)
    await queue(harness, quick, len(slow))

    async with delivering(harness, servers):
        harness.bus.poke(SUBMISSIONS)
        await sent(servers, [quick])
        assert len(servers.begun) == PLACES_PER_HOST + 1

        servers.released.set()
        await sent(servers, [quick, *slow])


async def test_mail_that_stays_here_does_not_wait_for_a_server_that_hangs(harness: Harness) -> None:
    servers = Servers()
    slow = [await harness.add_account(f"slow{number}@demo.test") for number in range(PLACES_PER_HOST + 1)]
    neighbour = await harness.add_account("neighbour@demo.test")
    servers.hanging |= {*slow}
    servers.hosts |= dict.fromkeys([*slow, neighbour], "hung.test:587")
    for number, account_id in enumerate(slow):
        await queue(harness, account_id, number)
    await queue(harness, neighbour, len(slow), to="neighbour@demo.test")

    async with delivering(harness, servers):
        harness.bus.poke(SUBMISSIONS)
        assert await status_of(harness, neighbour, len(slow), "sent")

    assert set(servers.begun) <= {*slow}


def test_an_account_that_was_turned_away_is_looked_at_anew_after_a_minute_for_it_may_have_another_server() -> None:
    clock = iter([0.0, 59.0, 61.0])
    places = DestinationLimiter(lambda: next(clock))
    for number in range(PLACES_PER_HOST):
        assert places.take((f"acc_{number}", "sub_1"), "hung.test:587")
    assert not places.take(("acc_new", "sub_1"), "hung.test:587")

    assert not places.may_take(("acc_new", "sub_2"))
    assert places.may_take(("acc_new", "sub_2"))
    assert places.take(("acc_new", "sub_2"), "good.test:587")


async def test_all_that_is_due_is_sent_and_looked_at_no_more(harness: Harness) -> None:
    account_id = await harness.add_account("ann@demo.test")
    servers = Servers()
    for number in range(7):
        await queue(harness, account_id, number)

    async with delivering(harness, servers):
        await sent(servers, [account_id] * 7)

    assert await rows.due(harness.database, now_ms(), [], 10) == []
    assert {one.due_at_ms for one in await rows.page(harness.database, account_id, 10)} == {rows.NEVER_MS}
