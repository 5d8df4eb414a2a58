"""Claims due submissions and attempts them, a few at a time."""

from __future__ import annotations

import asyncio
from functools import partial

from app import faults
from app.cluster.bus import SUBMISSIONS, Bus, Waiter, listening
from app.cluster.claims import RENEW_SECONDS, LeaseGrace, renewed
from app.db import submissions as rows
from app.db.session import Database
from app.errors import GatewayError
from app.mail.backend import Backends
from app.mail.identifiers import now_ms
from app.mail.types import AccountId
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.services.sending.deliveries import Deliveries
from app.workers.delivery.answers import Answers
from app.workers.delivery.concluding import Concluding
from app.workers.delivery.places import PLACES, DestinationLimiter, Key
from app.workers.delivery.sending import SendAttempt
from app.workers.delivery.sent_copy import SentCopy
from app.workers.delivery.steps import Steps
from app.workers.loop import attempt, forever, persist

LOOKED_AT = PLACES * 2
"""Submissions read in one query."""
IDLE_SECONDS = 30.0
"""Interval between queries when nothing is due, in a single process. Several also look for abandoned attempts."""
BUSY_SECONDS = 1.0
DRAIN_SECONDS = 3.0
"""How long shutdown waits for running attempts: an attempt cut off after its content has begun is uncertain."""


class Delivery:
    """Attempts due submissions, a few at a time, until cancelled."""

    def __init__(
        self,
        database: Database,
        index: Index,
        reader: MailReader,
        store: MailStore,
        backends: Backends,
        deliveries: Deliveries,
        bus: Bus,
        *,
        hostname: str,
        is_alone: bool,
    ) -> None:
        """`is_alone`: no other process works on this database."""
        self._is_alone = is_alone
        self._idle_seconds = IDLE_SECONDS if is_alone else RENEW_SECONDS
        self._database = database
        self._bus = bus
        self._steps = Steps(database)
        self._sending = SendAttempt(self._steps, store, backends, deliveries)
        self._filing = SentCopy(database, self._steps, index, reader, store.blobs, backends)
        self._concluding = Concluding(index, reader, store, self._filing, hostname)
        self._answers = Answers(self._steps, self._concluding)
        self._backends = backends
        self._places = DestinationLimiter()
        self._patience = LeaseGrace(database)
        self._attempts: dict[Key, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Attempt submissions as they are accepted and as they fall due."""
        if self._is_alone:
            await persist("release_submissions", partial(rows.release_all, self._database))
        with listening(self._bus, SUBMISSIONS) as waiter:
            async with asyncio.TaskGroup() as group:
                try:
                    await forever("delivery", partial(self._start_and_wait, group, waiter))
                except asyncio.CancelledError:
                    if self._attempts:
                        await asyncio.wait(self._attempts.values(), timeout=DRAIN_SECONDS)
                    raise

    async def _start_and_wait(self, group: asyncio.TaskGroup, waiter: Waiter) -> None:
        while await self._start_due(group):
            pass
        await waiter.wait(await self._seconds_to_next())

    async def _seconds_to_next(self) -> float:
        due = await rows.next_due_ms(self._database)
        if due is None:
            return self._idle_seconds
        seconds = (due - now_ms()) / 1000
        if seconds <= 0 and self._attempts:  # it waits for a running attempt, whose end wakes this task
            return BUSY_SECONDS
        return min(self._idle_seconds, max(0.05, seconds))

    async def _start_due(self, group: asyncio.TaskGroup) -> bool:
        """Start attempts up to the limits; whether to query again, since waiting submissions may hide others."""
        if self._places.are_full:
            return False
        await asyncio.sleep(0)  # yields to the event loop: reading may not wait for anything
        busy, slack_ms = sorted(self._places.shut_out()), self._patience.slack_ms
        due = await rows.due(self._database, now_ms(), busy, LOOKED_AT, slack_ms=slack_ms)
        has_moved = False
        for row in due:
            key = (row.account_id, row.id)
            if self._places.may_take(key):
                has_moved = True
                if self._places.take(key, await self._host_of(row)):
                    self._attempts[key] = group.create_task(self._attempt(row))
        return has_moved and len(due) == LOOKED_AT

    async def _host_of(self, row: rows.Submission) -> str:
        """Host and port of the server that an attempt needs, or "" when it needs none."""
        try:
            if row.status == "sent":
                return (await self._backends.of(AccountId(row.account_id))).host
            return await self._sending.host_of(row)
        except GatewayError:  # the attempt itself meets this error and reports it
            return ""

    async def _attempt(self, row: rows.Submission) -> None:
        """Attempt one submission. A failure affects no other submission; the lease expires."""
        try:
            await attempt("submission", partial(self._claim_and_advance, row), submission_id=row.id)
        finally:
            key = (row.account_id, row.id)
            self._places.leave(key)
            del self._attempts[key]
            self._bus.poke(SUBMISSIONS)

    async def _claim_and_advance(self, row: rows.Submission) -> None:
        claimed = await self._steps.claim(row)
        if claimed is not None:
            async with renewed(self._steps.renewal(claimed)):
                await self._advance(claimed)

    async def _advance(self, row: rows.Submission) -> None:
        """Take all remaining steps of a claimed submission."""
        if row.status == "sending" and row.phase == "content":
            row = await self._concluding.abandoned(row)
        elif row.status == "sending":
            row = await self._answers.record(*await self._sending.send(row))
        faults.point("delivery.recorded")
        if row.status == "sent":
            await self._filing.file(row)
