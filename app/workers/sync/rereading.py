"""Fetches messages again that the mail server refused, and completes their incomplete rows."""

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
"""Wait between two rounds. It doubles after each round without success."""
AT_ONCE = 20
"""Messages per round: a message at which the server closes the connection costs two connections."""


class Rereader:
    """Fetches refused messages again. `on_arrival` receives those that arrived."""

    def __init__(self, mirror: Mirror, on_arrival: OnArrival) -> None:
        self._mirror = mirror
        self._on_arrival = on_arrival
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._wait_seconds = SHORTEST_SECONDS
        self._tried: set[UnreadMessage] = set()
        """Messages tried in the current pass over all of them."""

    def want(self, arrived: Sequence[Arrived]) -> None:
        """Schedule a round if one of these messages could not be read."""
        if any(item.unread is not None for item in arrived):
            self.look()

    def look(self) -> None:
        """Schedule a round soon, for example after an initial sync."""
        self._wait_seconds = SHORTEST_SECONDS
        self._wanted.set()

    async def run(self) -> None:
        """Run rounds forever; sleep while there are no incomplete messages. Raises LoginRefused."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(spread(self._wait_seconds))
            if not (unread := await self._next()):
                self._wanted.clear()
                continue
            is_any_read = await self._fetch(unread)
            self._wait_seconds = SHORTEST_SECONDS if is_any_read else min(LONGEST_SECONDS, 2 * self._wait_seconds)

    async def _next(self) -> list[UnreadMessage]:
        """Up to AT_ONCE messages not yet tried in this pass, sorted by mailbox; after the last a new pass begins."""
        unread = await self._mirror.reader.incomplete.messages(self._mirror.account_id)
        self._tried &= set(unread)
        if self._tried.issuperset(unread):
            self._tried.clear()
        chosen = [item for item in unread if item not in self._tried][:AT_ONCE]
        self._tried.update(chosen)
        return sorted(chosen, key=lambda message: (message.mailbox_id, message.uid))

    async def _fetch(self, unread: Sequence[UnreadMessage]) -> bool:
        """Fetch these messages and write those that arrive; return whether any did."""
        is_any_read = False
        for mailbox_id, group in groupby(unread, key=lambda message: message.mailbox_id):
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
                locations = [Location(item.mailbox_id, item.uid) for item in read]
                completed = tuple(Completed(location, item) for location, item in zip(locations, read, strict=True))
                flagged = tuple(
                    Flagged(location, item.flags, item.modseq) for location, item in zip(locations, read, strict=True)
                )
                await self._mirror.apply(Delta(flagged=flagged, completed=completed))
                self._on_arrival(locations, read)
                is_any_read = True
        return is_any_read
