"""THREAD and UID THREAD (RFC 5256), with ORDEREDSUBJECT and REFERENCES."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from app.mailstore.views import MessageValues
from app.mime.subject import base_subject
from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import Completion
from app.servers.imap.finding import find, search_time
from app.servers.imap.forest import Forest, ThreadedMessage
from app.servers.imap.handlers import Handler, Handlers, SessionState, with_uids
from app.servers.imap.rows import read_rows
from app.servers.imap.session import ServerSession
from app.servers.imap.sorting import large_sort, sent_at_ms
from app.wire.imap.requests.thread import ThreadAlgorithm, ThreadMessages

_COLUMNS = ("uid", "received_at_ms", "date_ms", "subject_folded")
PIECES_AT_ONCE = 1_000
"""Pieces of the response that are sent together; a message is one or two."""


async def thread(session: ServerSession, command: ThreadMessages, out: ReplyWriter) -> Completion:
    """THREAD. Refused with LIMIT if it takes too long."""
    async with search_time(session):
        result = await find(session, command.key, out)
        async with large_sort(session, len(result.uids)):
            forest = Forest(session.pace)
            if command.algorithm is ThreadAlgorithm.ORDERED_SUBJECT:
                await _add(session, forest, result.uids)
                await forest.by_subject()
            else:
                await _add_linked(session, forest, result.uids)
                await forest.by_references()
    await _send(session, forest, out, is_uid=command.is_uid)
    return result.completion("THREAD")


async def _add(session: ServerSession, forest: Forest, uids: Sequence[int]) -> None:
    async for rows in read_rows(session, uids, _COLUMNS):
        for row in rows:
            forest.add(_threaded(row))
            await session.pace.spend(1)


async def _add_linked(session: ServerSession, forest: Forest, uids: Sequence[int]) -> None:
    async for rows in read_rows(session, uids, (*_COLUMNS, "summary")):
        for row in rows:
            summary = orjson.loads(row.summary)
            ancestors = summary["references"] or summary["in_reply_to"][:1]
            steps = forest.add_linked(_threaded(row, summary["message_id_header"], ancestors))
            await session.pace.spend(2 + steps // 20)


def _threaded(row: MessageValues, message_id: str | None = None, ancestors: Sequence[str] = ()) -> ThreadedMessage:
    base, is_answer = base_subject(row.subject_folded)
    return ThreadedMessage(row.uid, sent_at_ms(row), base, is_answer, message_id, ancestors)


async def _send(session: ServerSession, forest: Forest, out: ReplyWriter, *, is_uid: bool) -> None:
    number_of = (lambda uid: uid) if is_uid else session.selected.number_of
    pieces = [b"* THREAD"]
    for piece in forest.written(number_of):
        pieces.append(piece)
        if len(pieces) == PIECES_AT_ONCE:
            await out.send(b"".join(pieces))
            await session.pace.spend(PIECES_AT_ONCE // 5)
            pieces = []
    await out.send(b"".join(pieces) + b"\r\n")


HANDLERS: Handlers = (
    Handler(
        ThreadMessages,
        thread,
        SessionState.SELECTED,
        capabilities=("THREAD=ORDEREDSUBJECT", "THREAD=REFERENCES"),
        may_expunge=with_uids,
    ),
)
