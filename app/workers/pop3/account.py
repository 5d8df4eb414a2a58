"""Polls one account over POP3: often after new mail, and less often while none arrives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.backends.pop3.backend import Pop3Backend
from app.backends.pop3.refusals import MaildropLocked
from app.cluster.bus import Waiter, listening
from app.errors import AccountNotFound, Conflict, GatewayError, LoginRefused, RateLimited, Unavailable
from app.mail.pop3 import poll_topic
from app.mail.types import AccountId
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mirror.account import Mirror
from app.telemetry import get_logger
from app.workers.pop3.poll import PollOutcome, Pop3Poll
from app.workers.sync.reports import ReportReader
from app.workers.sync.state import AccountState

log = get_logger(__name__)

SHORTEST_SECONDS, LONGEST_SECONDS = 30.0, 900.0
GROWTH = 1.5
"""Factor by which each wait grows while no mail arrives."""
ASKED_SECONDS = 1.0
"""Shortest time between two requested polls."""
IN_USE_PATIENCE = 20
"""Polls in a row that may find the maildrop locked before the account is reported as throttled."""


@dataclass(slots=True)
class PollInterval:
    """How long to wait before the next poll. `delay_seconds` is the server's minimum (LOGIN-DELAY, RFC 2449)."""

    wait_seconds: float = SHORTEST_SECONDS
    delay_seconds: float = 0.0

    def after(self, outcome: PollOutcome) -> None:
        self.delay_seconds = outcome.login_delay_seconds
        self.wait_seconds = SHORTEST_SECONDS if outcome.arrived else min(LONGEST_SECONDS, self.wait_seconds * GROWTH)

    def failed(self) -> None:
        self.wait_seconds = min(LONGEST_SECONDS, max(SHORTEST_SECONDS, self.wait_seconds * 2))

    def seconds(self, jitter: Callable[[float, float], float] = random.uniform) -> float:
        """Seconds to wait, with jitter so that accounts do not poll in step; at least `delay_seconds`."""
        return max(self.wait_seconds * jitter(0.9, 1.1), self.delay_seconds)


class Pop3Sync:
    """Syncs one account under the lease `epoch`, until cancelled or until it cannot continue."""

    def __init__(
        self, account_id: AccountId, index: Index, reader: MailReader, backend: Pop3Backend, epoch: int
    ) -> None:
        self._account_id = account_id
        self._backend = backend
        self._poll = Pop3Poll(account_id, index, reader, backend, epoch)
        self._state = AccountState(account_id, index, epoch)
        self._reports = ReportReader(Mirror(account_id, index, reader, backend, epoch))
        self._interval = PollInterval()
        self._refusals = 0

    async def run(self) -> None:
        """Poll forever. Returns when the login is refused, the account is deleted or another worker holds it."""
        reports = asyncio.create_task(self._reports.run())
        try:
            with listening(self._backend.bus, poll_topic(self._account_id)) as waiter:
                while True:
                    try:
                        wait_seconds = await self._poll_once()
                    except LoginRefused as error:
                        await self._state.refused(error)
                        return
                    await self._wait(waiter, wait_seconds)
        except (AccountNotFound, Conflict):
            return
        finally:
            reports.cancel()
            await asyncio.gather(reports, return_exceptions=True)  # a cancellation of this task is still raised

    async def _poll_once(self) -> float:
        """Poll once and return the seconds to wait. Raises LoginRefused, AccountNotFound, Conflict, Unavailable."""
        try:
            outcome = await self._poll.run()
        except (LoginRefused, AccountNotFound, Conflict, Unavailable):
            raise
        except RateLimited as error:
            return await self._throttled(error)
        except GatewayError as error:
            log.info("account_lost", account_id=self._account_id, error=error.code)
            await self._state.lost(error)
            self._interval.failed()
            return self._interval.seconds()
        self._refusals = 0
        self._reports.want(outcome.arrived)
        wake = partial(self._backend.bus.poke, self._account_id)
        await self._state.polled(outcome.asked_at_ms, is_live=not outcome.has_more, wake=wake)
        if outcome.has_more:
            return self._interval.delay_seconds
        self._interval.after(outcome)
        return self._interval.seconds()

    async def _throttled(self, error: RateLimited) -> float:
        """Handle RateLimited. A maildrop that another program has locked is reported only after many polls."""
        self._refusals += 1
        if not isinstance(error, MaildropLocked) or self._refusals >= IN_USE_PATIENCE:
            await self._state.lost(error)
        log.info("pop3_held_off", account_id=self._account_id, error=type(error).__name__)
        return max(error.retry_after_seconds, self._interval.delay_seconds)

    async def _wait(self, waiter: Waiter, seconds: float) -> None:
        """Wait until the next poll is due or requested, but not before the server allows it."""
        least = min(seconds, max(ASKED_SECONDS, self._interval.delay_seconds))
        await asyncio.sleep(least)
        if seconds > least:
            await waiter.wait(seconds - least)
