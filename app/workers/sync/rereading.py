"""Fetches messages again that their mail server refused: a row that stands for a message becomes the message."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from itertools import groupby

from app.errors import LoginRefused, MailboxNotFound, MailServerError
from app.mail.backoff import spread
from app.mail.delta import Arrived, Completed, Delta, Flagged, Location
from app.mail.types import MailboxId
from app.mailstore.reading.incomplete import UnreadMessage
from app.mirror.account import Mirror
from app.mirror.arrivals import OnArrival
from app.telemetry import get_logger

log = get_logger(__name__)

SHORTEST_SECONDS, LONGEST_SECONDS = 60.0, 6 * 3600.0
"""Between two rounds: each round that returns nothing doubles the wait."""
AT_ONCE = 20
"""Messages of one round: one over which the server ends the connection costs two connections."""


class Rereader:
    """Which messages are to be fetched again, and the task that does it. `on_arrival` receives those that arrived."""

    def __init__(self, mirror: Mirror, on_arrival: OnArrival) -> None:
        self._mirror = mirror
        self._on_arrival = on_arrival
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._wait_seconds = SHORTEST_SECONDS
        self._tried: set[UnreadMessage] = set()
        """What was tried in this turn through all of them."""

    def want(self, arrived: Sequence[Arrived]) -> None:
        """Fetch those of these messages again that could not be read."""
        if any(item.unread is not None for item in arrived):
            self.look()

    def look(self) -> None:
        """See whether there are such messages, as after a first sync."""
        self._wait_seconds = SHORTEST_SECONDS
        self._wanted.set()

    async def run(self) -> None:
        """Try again now and then, for ever; sleep while all messages are read. Raises LoginRefused."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(spread(self._wait_seconds))
            if not (unread := await self._next()):
                self._wanted.clear()
                continue
            is_any_read = await self._fetch(unread)
            self._wait_seconds = SHORTEST_SECONDS if is_any_read else min(LONGEST_SECONDS, 2 * self._wait_seconds)

    async def _next(self) -> list[UnreadMessage]:
        """Some that were not tried in this turn, of as few mailboxes as can be; the first again after the last."""
        found = await self._mirror.reader.incomplete.messages(self._mirror.account_id)
        self._tried &= set(found)
        if self._tried.issuperset(found):
            self._tried.clear()
        chosen = [item for item in found if item not in self._tried][:AT_ONCE]
        self._tried.update(chosen)
        return sorted(chosen, key=lambda one: (one.mailbox_id, one.uid))

    async def _fetch(self, unread: Sequence[UnreadMessage]) -> bool:
        """Fetch these messages and write those that come; whether any did."""
        is_any_read = False
        for mailbox_id, group in groupby(unread, key=lambda one: one.mailbox_id):
            try:
                is_any_read |= await self._fetch_of(mailbox_id, [item.uid for item in group])
            except LoginRefused:
                raise
            except (MailServerError, MailboxNotFound) as error:
                log.info("messages_not_reread", account_id=self._mirror.account_id, error=error.code)
        return is_any_read

    async def _fetch_of(self, mailbox_id: MailboxId, uids: Collection[int]) -> bool:
        mailbox = await self._mirror.reader.mailboxes.mailbox(self._mirror.account_id, mailbox_id)
        is_any_read = False
        async for batch in self._mirror.backend.fetch(mailbox, sorted(uids)):
            read = [item for item in batch if item.unread is None and item.uid_validity in (None, mailbox.uid_validity)]
            if read:
                places = [Location(item.mailbox_id, item.uid) for item in read]
                completed = tuple(Completed(at, one) for at, one in zip(places, read, strict=True))
                flagged = tuple(Flagged(at, one.flags, one.modseq) for at, one in zip(places, read, strict=True))
                await self._mirror.apply(Delta(flagged=flagged, completed=completed))
                self._on_arrival(places, read)
                is_any_read = True
        return is_any_read
