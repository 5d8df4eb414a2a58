"""Records a mail server's responses, and retries while the database fails: no other process has them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from app.db import submissions as rows
from app.errors import Conflict, Unavailable
from app.mail.backend import RecipientResult
from app.telemetry import get_logger
from app.workers.delivery.concluding import Concluding
from app.workers.delivery.steps import Steps

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 3.0
"""Short, so that a response is recorded soon after the database recovers, before another worker considers the attempt
abandoned."""

log = get_logger(__name__)


class Answers:
    """Records responses, and retries until that succeeds."""

    def __init__(self, steps: Steps, concluding: Concluding) -> None:
        self._steps = steps
        self._concluding = concluding

    async def record(self, row: rows.Submission, results: Sequence[RecipientResult]) -> rows.Submission:
        """Record the responses and return the updated submission.

        Raises Conflict when another worker is already sending it again, AccountNotFound.
        """
        seconds = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._conclude(row, results)
            except Unavailable as error:
                log.warning("answers_not_recorded", submission_id=row.id, error=error.code)
            await asyncio.sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
            seconds = min(2 * seconds, LONGEST_PAUSE_SECONDS)

    async def _conclude(self, row: rows.Submission, results: Sequence[RecipientResult]) -> rows.Submission:
        try:
            return await self._concluding.conclude(row, results)
        except Conflict:
            settled = await self._steps.settled_meanwhile(row)
            if settled is None:
                raise
            return await self._concluding.conclude(settled, results)
