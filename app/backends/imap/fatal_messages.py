"""Messages for the index, also where one of them makes the server end the connection, or fall silent.

Such a message is found by halving what is fetched, on a new connection each time. It becomes a row that says why, and
the others come. A mailbox that cannot be opened is refused as a whole; a server that lets nobody in is unreachable, as
ever.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from app.backends.imap.connection import COMMAND_TIMEOUT_SECONDS
from app.backends.imap.deltas import arrived
from app.backends.imap.pool import ENDED, SILENT, Pool
from app.backends.imap.rows import ROWS_AT_ONCE, dated, rows, unread_row
from app.backends.imap.session import Session
from app.errors import ServerProtocolError, TimedOut, Unreachable
from app.mail.delta import Arrived
from app.mail.types import Mailbox

MAX_LOSSES = 40
"""Connections that one call may lose. After so many the mailbox is left as it is until later."""
CAREFUL_SECONDS = 15.0
"""For a FETCH once a connection was lost."""


async def arrivals(pool: Pool, mailbox: Mailbox, uids: Sequence[int]) -> AsyncGenerator[list[Arrived], None]:
    """Messages in batches, in the order of `uids`. Raises what `Pool.session` does, and ServerProtocolError."""
    hunt, name = _Hunt(uids), mailbox.origin_name
    while piece := hunt.begin():
        async with pool.session(name, is_new=hunt.is_lost) as session:
            unread: list[Arrived] = []
            try:
                await hunt.enter(session, name)
                async with aclosing(rows(session, name, piece)) as batches:
                    async for batch in batches:
                        found = [arrived(session, mailbox, row) for row in batch]
                        hunt.took_batch(found)
                        yield found
                hunt.took_piece()
            except Unreachable as error:
                if (uid := hunt.note_loss(error)) is not None:
                    row = unread_row(uid, None, SILENT if isinstance(error, TimedOut) else ENDED)
                    unread = [arrived(session, mailbox, item) for item in dated([row], hunt.near_ms)]
            finally:
                session.fetch_seconds = COMMAND_TIMEOUT_SECONDS
        if unread:
            yield unread


class _Hunt:
    """What is still to be fetched, how much of it at once, and how many connections it has cost.

    `near_ms` is when a message came that stands near the next one.
    """

    def __init__(self, uids: Sequence[int]) -> None:
        self.is_lost = False
        self.near_ms = 0
        self._losses = 0
        self._uids = uids
        self._done = 0
        self._size = self._stop = len(uids)
        self._suspects_stop = 0

    def begin(self) -> Sequence[int]:
        """What to fetch next."""
        self._stop = self._done + self._size
        return self._uids[self._done : self._stop]

    async def enter(self, session: Session, name: str) -> None:
        """Once a connection was lost: make sure that it is not lost by opening the mailbox. ServerProtocolError."""
        if not self._losses:
            return
        session.fetch_seconds = CAREFUL_SECONDS
        try:
            await session.select(name)
        except Unreachable as error:
            raise ServerProtocolError(SILENT if isinstance(error, TimedOut) else ENDED) from error

    def took_batch(self, batch: Sequence[Arrived]) -> None:
        self._done = min(self._done + ROWS_AT_ONCE, self._stop)
        self.near_ms = batch[-1].received_at_ms if batch else self.near_ms

    def took_piece(self) -> None:
        self.is_lost = False
        left = self._suspects_stop - self._done
        self._size = (left + 1) // 2 if left > 0 else len(self._uids)

    def note_loss(self, error: Unreachable) -> int | None:
        """A connection was lost: the UID over which, where that is certain by now. Raises it where it is one too many.

        The same piece is tried twice: an unused connection may have been lost long ago.
        """
        self.is_lost = True
        self._losses += 1
        if self._losses > MAX_LOSSES:
            raise error
        self._size = min(self._stop - self._done, len(self._uids) - self._done, ROWS_AT_ONCE)
        self._suspects_stop = self._done + self._size
        if self._losses > 1:
            if self._size == 1:
                return self._give_up_one()
            self._size = (self._size + 1) // 2
        return None

    def _give_up_one(self) -> int:
        self._done += 1
        self._size = len(self._uids)
        return self._uids[self._done - 1]
