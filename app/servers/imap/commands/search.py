"""SEARCH and UID SEARCH, with ESEARCH and SEARCHRES (RFC 9051 §6.4.4, RFC 7162 §3.1.5)."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import Completion
from app.servers.imap.finding import SearchResult, find, search_time
from app.servers.imap.handlers import Handler, Handlers, SessionState, with_uids
from app.servers.imap.numbers import numbers_of, set_pieces
from app.servers.imap.session import ServerSession
from app.wire.imap.requests.search import Search


async def search(session: ServerSession, command: Search, out: ReplyWriter) -> Completion:
    """SEARCH. Refused with LIMIT if it takes too long."""
    async with search_time(session, command.returning):
        result = await find(session, command.key, out)
    if command.returning is None:
        await send_numbers(session, "SEARCH", result, result.uids, out, is_uid=command.is_uid)
    else:
        await send_extended(session, command.returning, result, result.uids, out, is_uid=command.is_uid)
    return result.completion("SEARCH")


async def send_numbers(
    session: ServerSession, name: str, result: SearchResult, order: Sequence[int], out: ReplyWriter, *, is_uid: bool
) -> None:
    """Send SEARCH or SORT: a number for each message, in pieces. `order` has the UIDs in the order of the response."""
    await out.send(f"* {name}".encode())
    async for numbers in numbers_of(session, order, is_uid=is_uid):
        await out.send(b"".join([b" %d" % number for number in numbers]))
    modseq = result.highest_modseq()
    await out.send(b" (MODSEQ %d)\r\n" % modseq if modseq else b"\r\n")


async def send_extended(
    session: ServerSession,
    returning: frozenset[str],
    result: SearchResult,
    order: Sequence[int],
    out: ReplyWriter,
    *,
    is_uid: bool,
) -> None:
    """Send ESEARCH (RFC 4731 §3.1, RFC 5267 §3); RETURN () means ALL. With SAVE only it sends nothing.

    `order` has the found UIDs in the order of the response: MIN is the first, MAX the last.
    """
    returning = returning or frozenset({"ALL"})
    ends = {name: uids for name, uids in (("MIN", order[:1]), ("MAX", order[-1:])) if uids and name in returning}
    only = sorted({uid for uids in ends.values() for uid in uids}) if not returning & {"ALL", "COUNT"} else []
    if "SAVE" in returning:  # MIN and MAX without ALL or COUNT save only themselves (RFC 5182 §2.4)
        session.selected.saved = array("I", only) if returning & {"MIN", "MAX"} and only else result.uids
        if returning == {"SAVE"}:
            return
    words = [f' (TAG "{session.tag}")', *([" UID"] if is_uid else [])]
    for name, (uid,) in ends.items():
        words.append(f" {name} {uid if is_uid else session.selected.number_of(uid)}")
    await out.send(f"* ESEARCH{''.join(words)}".encode())
    if order and "ALL" in returning:
        await out.send(b" ALL ")
        async for piece in set_pieces(session, order, is_uid=is_uid):
            await out.send(piece)
    count = b" COUNT %d" % len(order) if "COUNT" in returning else b""
    modseq = result.highest_modseq(only or None)
    await out.send(count + (b" MODSEQ %d\r\n" % modseq if modseq else b"\r\n"))


HANDLERS: Handlers = (
    Handler(
        Search, search, SessionState.SELECTED, capabilities=("ESEARCH", "SEARCHRES", "WITHIN"), may_expunge=with_uids
    ),
)
