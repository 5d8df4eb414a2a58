"""SORT and UID SORT (RFC 5256), with ESORT (RFC 5267)."""

from __future__ import annotations

from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import Completion
from app.servers.imap.commands.search import send_extended, send_numbers
from app.servers.imap.finding import find, search_time
from app.servers.imap.handlers import Handler, Handlers, SessionState, with_uids
from app.servers.imap.session import ServerSession
from app.servers.imap.sorting import sort_uids
from app.wire.imap.requests.sort import Sort


async def sort(session: ServerSession, command: Sort, out: ReplyWriter) -> Completion:
    """SORT. Refused with LIMIT if it takes too long."""
    async with search_time(session, command.returning):
        result = await find(session, command.key, out)
        order = await sort_uids(session, result.uids, command.terms)
    if command.returning is None:
        await send_numbers(session, "SORT", result, order, out, is_uid=command.is_uid)
    else:
        await send_extended(session, command.returning, result, order, out, is_uid=command.is_uid)
    return result.completion("SORT")


HANDLERS: Handlers = (
    Handler(Sort, sort, SessionState.SELECTED, capabilities=("SORT", "SORT=DISPLAY", "ESORT"), may_expunge=with_uids),
)
