"""Reads rows of the selected mailbox's messages in pieces, in a thread if there are many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from app.mailstore.views import MessageValues, is_detailed
from app.servers.imap.session import ServerSession

ROWS_LIMIT, DETAILED_ROWS_LIMIT = 1_000, 100
"""Rows of one read: with small columns only, and with large columns."""
FEW_ROWS = 100
"""Up to this number, rows are read without a thread."""


async def read_rows(
    session: ServerSession, uids: Sequence[int], columns: tuple[str, ...]
) -> AsyncIterator[Sequence[MessageValues]]:
    """Yield these columns of the messages with these UIDs, which ascend and are in the view.

    Messages that are gone are omitted. Each piece is read on demand, so a slow client holds only one in memory.
    """
    view, views = session.selected, session.services.views
    step = DETAILED_ROWS_LIMIT if is_detailed(columns) else ROWS_LIMIT
    is_long = len(uids) > FEW_ROWS
    for start in range(0, len(uids), step):
        slice_uids = uids[start : start + step]
        if is_long and view.are_neighbours(slice_uids):
            yield await views.rows_between(session.account, view.mailbox_id, slice_uids[0], slice_uids[-1], columns)
        else:
            yield await views.rows(session.account, view.mailbox_id, slice_uids, columns, is_long=is_long)
