"""Fetches messages for the index, even if one of them makes the server close the connection or stop responding.

Such a message is found by halving the fetched set, on a new connection each time. It becomes a row with the reason,
and the others are fetched. A mailbox that cannot be opened is refused as a whole; a server that accepts no connection
is unreachable.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from app.backends.imap.connection import COMMAND_TIMEOUT_SECONDS
from app.backends.imap.deltas import arrived
from app.backends.imap.pool import ENDED, SILENT, Pool
from app.backends.imap.rows import ROWS_AT_ONCE, dated, rows, unread_row
from app.backends.imap.session import ClientSession
from app.errors import ServerProtocolError, TimedOut, Unreachable
from app.mail.delta import Arrived
from app.mail.types import Mailbox

MAX_LOSSES = 40
"""Connections that one call may lose before the mailbox is left for later."""
CAREFUL_SECONDS = 15.0
"""Timeout of a FETCH after a connection was lost."""


async def arrivals(pool: Pool, mailbox: Mailbox, uids: Sequence[int]) -> AsyncGenerator[list[Arrived], None]:
    """Messages in batches, in the order of `uids`. Raises what `Pool.session` raises, and ServerProtocolError."""
    bisection, name = _BisectReconnecting(uids), mailbox.origin_name
    while piece := bisection.begin():
        async with pool.session(name, is_new=bisection.is_lost) as session:
            unread: list[Arrived] = []
            try:
                await bisection.enter(session, name)
                async with aclosing(rows(session, name, piece)) as batches:
                    async for batch in batches:
                        messages = [arrived(session, mailbox, row) for row in batch]
                        bisection.took_batch(messages)
                        yield messages
                bisection.took_piece()
            except Unreachable as error:
                if (uid := bisection.note_loss(error)) is not None:
                    row = unread_row(uid, None, SILENT if isinstance(error, TimedOut) else ENDED)
                    unread = [arrived(session, mailbox, item) for item in dated([row], bisection.near_ms)]
            finally:
                session.fetch_seconds = COMMAND_TIMEOUT_SECONDS
        if unread:
            yield unread


class _BisectReconnecting:
    """State of a bisection: the remaining UIDs, the size of the next piece and the lost connections.

    `near_ms` is the arrival time of the last fetched message.
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
        """The UIDs to fetch next; empty at the end."""
        self._stop = self._done + self._size
        return self._uids[self._done : self._stop]

    async def enter(self, session: ClientSession, name: str) -> None:
        """After a lost connection, open the mailbox first. Raises ServerProtocolError if that loses one too."""
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
        """Record a lost connection. Return the UID that caused it, once that is certain. Raises it after MAX_LOSSES.

        The first piece is tried twice, because an idle connection may have been lost before.
        """
        self.is_lost = True
        self._losses += 1
        if self._losses > MAX_LOSSES:
            raise error
        self._size = min(self._stop - self._done, len(self._uids) - self._done, ROWS_AT_ONCE)
        self._suspects_stop = self._done + self._size
        if self._losses > 1:
            if self._size == 1:
                return self._skip_message()
            self._size = (self._size + 1) // 2
        return None

    def _skip_message(self) -> int:
        self._done += 1
        self._size = len(self._uids)
        return self._uids[self._done - 1]
