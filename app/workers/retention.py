"""Deletes data that is no longer needed: old events, finished submissions, stored answers, tokens, unused blobs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice, takewhile

from app.db import directory, idempotency, oauth, retention, tokens
from app.db.session import Database, Transaction
from app.errors import AccountNotFound
from app.mail.identifiers import now_ms
from app.mail.types import AccountId
from app.mailstore.blobs import Blobs
from app.mailstore.index import lock_account
from app.mailstore.reader import MailReader
from app.settings import Settings
from app.workers.loop import forever

ROUND_SECONDS = 3600.0
TRIM_SECONDS = 60.0
"""How often event logs above their limit are trimmed."""
FIRST_ROUND_SECONDS = 15.0
"""Startup has more urgent work."""
DAY_MS = 24 * 3600 * 1000
SUBMISSION_DAYS = 30
ANSWER_DAYS = 2
MARK_MS = 3600 * 1000
"""How long marks of commits are kept: far longer than anything may look for them."""
TOKEN_DAYS = 1
"""How long tokens and tickets are kept after they expire."""
DEPARTED_LIMIT = 100_000
"""Deleted messages of an account whose ids are remembered."""
BATCH_ROWS = 1_000
PAUSE_SECONDS = 0.02


class RetentionWorker:
    """Call `run`, or `round` once."""

    def __init__(self, settings: Settings, database: Database, reader: MailReader, blobs: Blobs) -> None:
        self._settings = settings
        self._database = database
        self._reader = reader
        self._blobs = blobs

    async def run(self) -> None:
        """Run a round every hour and trim long event logs every minute, until cancelled."""
        await asyncio.sleep(FIRST_ROUND_SECONDS)
        async with asyncio.TaskGroup() as group:
            group.create_task(forever("retention", self._round_and_rest))
            group.create_task(forever("log_limits", self._trim_and_rest))

    async def _round_and_rest(self) -> None:
        await self.round()
        await asyncio.sleep(ROUND_SECONDS)

    async def _trim_and_rest(self) -> None:
        await self.trim_long_logs()
        await asyncio.sleep(TRIM_SECONDS)

    async def trim_long_logs(self) -> None:
        """Trim the event logs that are longer than allowed."""
        limit = self._settings.event_retention_count
        for span in await retention.accounts(self._database, more_than=limit):
            await self._trim(span, now_ms())

    async def round(self) -> None:
        """Delete all data past its retention time."""
        now = now_ms()
        for span in await retention.accounts(self._database):
            await self._trim(span, now)
            await self._forget(span.id, now)
        await self._remove_submissions(now)
        await self._remove_answers_and_tokens(now)
        for account_id in await directory.orphans(self._database):  # whose removal was interrupted
            await directory.clear(self._database, account_id)
        await self._sweep_blobs()

    async def _trim(self, span: retention.LogSpan, now: int) -> None:
        """Trim an account's event log to the count and age in the settings."""
        before_ms = now - self._settings.event_retention_days * DAY_MS
        free_seq = span.last_seq - self._settings.event_retention_count
        first_seq = span.first_seq
        while True:
            events = await retention.oldest_events(self._database, span.id, first_seq, BATCH_ROWS)
            old = list(takewhile(lambda event: event.seq <= free_seq or event.at_ms < before_ms, events))
            if old:
                first_seq = old[-1].seq
                await self._trim_to(span.id, first_seq, old[-1].at_ms)
            if len(old) < BATCH_ROWS:
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _trim_to(self, account_id: str, seq: int, at_ms: int) -> None:
        async def work(transaction: Transaction) -> None:
            await lock_account(transaction, AccountId(account_id))
            await retention.trim_events(transaction, account_id, seq, at_ms)

        with suppress(AccountNotFound):
            await self._database.write(work, is_durable=False, turn=account_id)

    async def _forget(self, account_id: str, now: int) -> None:
        """Delete old tombstones: older states are then answered with the list of affected mailboxes.

        Also delete old records of deleted messages: a message that comes back later is new.
        """
        before_ms = now - self._settings.tombstone_retention_days * DAY_MS

        async def work(transaction: Transaction) -> int:
            await lock_account(transaction, AccountId(account_id))
            tombstones = await retention.trim_tombstones(transaction, account_id, before_ms, BATCH_ROWS)
            departed = await retention.trim_departed(transaction, account_id, before_ms, DEPARTED_LIMIT, BATCH_ROWS)
            return max(tombstones, departed)

        removed = BATCH_ROWS
        with suppress(AccountNotFound):
            while removed == BATCH_ROWS:
                removed = await self._database.write(work, is_durable=False, turn=account_id)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _remove_submissions(self, now: int) -> None:
        async def work(transaction: Transaction) -> int:
            return await retention.remove_submissions(transaction, now - SUBMISSION_DAYS * DAY_MS, BATCH_ROWS)

        removed = BATCH_ROWS
        while removed == BATCH_ROWS:
            removed = await self._database.write(work)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _remove_answers_and_tokens(self, now: int) -> None:
        async def work(transaction: Transaction) -> None:
            await idempotency.remove_old(transaction, now - ANSWER_DAYS * DAY_MS)
            await tokens.remove_expired(transaction, now - TOKEN_DAYS * DAY_MS)
            await retention.remove_marks(transaction, now - MARK_MS)
            await oauth.remove_unused(transaction, now - TOKEN_DAYS * DAY_MS)

        await self._database.write(work)

    async def _sweep_blobs(self) -> None:
        """Delete blobs that no row has referenced for a while, and files that dead processes left incomplete.

        The store itself keeps recently written blobs.
        """
        await asyncio.to_thread(self._blobs.forget_unfinished)
        names = self._blobs.old_names()
        while batch := await asyncio.to_thread(_take, names):
            in_use = await self._reader.messages.blobs_in_use(batch)
            await asyncio.to_thread(self._blobs.remove, [name for name in batch if name not in in_use])
            await asyncio.sleep(PAUSE_SECONDS)


def _take(names: Iterator[str]) -> list[str]:
    return list(islice(names, BATCH_ROWS))
