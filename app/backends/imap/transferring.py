"""Copying and moving messages to another mailbox: COPY and MOVE, and the fallbacks beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from app.backends.imap.connection import Completion
from app.backends.imap.fetched import fetched, uid_set
from app.backends.imap.removing import expunge
from app.backends.imap.selectable import SelectableMailbox, check_target, enter, enter_anew
from app.backends.imap.session import Session
from app.errors import ServerProtocolError
from app.mail.types import Message
from app.mime.header import overview_of
from app.wire.imap import commands
from app.wire.imap.encode import Command
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.responses import MailboxStatus
from app.wire.imap.search import HeaderMatch
from app.wire.imap.sets import SequenceSet

MAX_SOUGHT = 100
"""Copies that are sought by Message-ID where the server has no COPYUID."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The result of a copy or move: source UID → target UID, and messages that did not exist."""

    pairs: Mapping[int, int]
    gone: frozenset[int]
    unbound: frozenset[int] = frozenset()
    """Copied or moved, but the server doesn't tell to which UID."""
    since_uid: int | None = None
    """Their UIDs are at least this, where that is known."""


async def copy(session: Session, place: SelectableMailbox, uids: Sequence[int], target: str) -> Transfer:
    """Copy messages. Raises MailboxNotFound when the target is gone."""
    return await _transfer(session, place, uids, target, commands.copy)


async def move(session: Session, place: SelectableMailbox, uids: Sequence[int], target: str) -> Transfer:
    """Move messages: MOVE (RFC 6851), else COPY and then the removal of exactly these."""
    if session.has("MOVE") or session.has("IMAP4REV2"):
        return await _transfer(session, place, uids, target, commands.move)
    transfer = await copy(session, place, uids, target)
    there = [uid for uid in uids if uid not in transfer.gone]
    if there:
        await expunge(session, place, there)
    return transfer


class _TransferCommand(Protocol):
    def __call__(self, uids: SequenceSet, mailbox: str, *, is_utf8: bool = False) -> Command: ...


async def _transfer(
    session: Session, place: SelectableMailbox, uids: Sequence[int], target: str, build: _TransferCommand
) -> Transfer:
    was_selected = session.is_in(place.name)
    since = None if session.has("UIDPLUS") else await _next_uid_of(session, target)
    await enter(session, place)
    first = await _transfer_once(session, uids, target, build)
    if first.unbound or not (first.gone and was_selected):
        return replace(first, since_uid=since)
    await enter_anew(session, place)
    second = await _transfer_once(session, sorted(first.gone), target, build)
    return Transfer({**first.pairs, **second.pairs}, second.gone, second.unbound)


async def _transfer_once(session: Session, uids: Sequence[int], target: str, build: _TransferCommand) -> Transfer:
    asked = SequenceSet.of(uids)
    completion = check_target((await session.run(build(asked, target, is_utf8=session.is_utf8)))[0])
    pairs, is_told = _told_pairs(session, completion)
    wanted = frozenset(uids)
    if is_told:
        return Transfer({uid: pairs[uid] for uid in wanted & pairs.keys()}, wanted - pairs.keys())
    if not session.has("UIDPLUS"):
        return Transfer({}, frozenset(), wanted)
    # without COPYUID nothing was there to be copied, or the server does not tell it as it promises to
    seen = await fetched(await session.do(commands.fetch(asked, ("UID",))), is_tolerant=True)
    return Transfer({}, wanted - seen.keys(), wanted & seen.keys())


def _told_pairs(session: Session, completion: Completion) -> tuple[dict[int, int], bool]:
    """Source UID → target UID as COPYUID tells it, and whether it does: one that cannot be is not believed."""
    codes = session.codes(completion, "COPYUID")
    try:
        pairs = {source: copied for code in codes for source, copied in code.copied.pairs}
        uid_set(pairs.values())
    except ServerProtocolError:
        return {}, False
    return pairs, bool(codes)


async def _next_uid_of(session: Session, target: str) -> int | None:
    """The UID that the next message of a mailbox gets, as STATUS tells it."""
    (completion,) = await session.run(commands.status(target, ["UIDNEXT"], is_utf8=session.is_utf8))
    told = [
        response.items.get("UIDNEXT") for response in session.parsed(completion) if isinstance(response, MailboxStatus)
    ]
    return next((number for number in told if number), None)


async def find_copies(
    session: Session, target: str, messages: Sequence[Message], since_uid: int | None
) -> dict[int, int]:
    """Source UID → UID in the target, where the server has no COPYUID. Those not found are absent.

    What came since `since_uid` is compared by Message-ID, size and time; the rest is sought by Message-ID.
    """
    pairs: dict[int, int] = {}
    if since_uid is not None:
        found = await session.fetch_since(target, since_uid, _COMPARED)
        pairs = _paired(messages, [one for uid, one in sorted(found.items()) if uid >= since_uid])
    for message in [item for item in messages if item.uid not in pairs and item.message_id_header][:MAX_SOUGHT]:
        there = await session.search(target, HeaderMatch("Message-ID", message.message_id_header or ""))
        if there.ranges:
            pairs[message.uid] = there.ranges[-1][1]
    return pairs


_COMPARED = ("UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE")


def _paired(messages: Sequence[Message], came: Sequence[FetchedMessage]) -> dict[int, int]:
    """Each message with the first of those that came which is like it: those that are equal keep their order."""
    left = list(came)
    pairs: dict[int, int] = {}
    for by_time in (True, False):
        for message in messages:
            like = (
                fetched_message
                for fetched_message in left
                if message.uid not in pairs and _is_like(message, fetched_message, by_time=by_time)
            )
            if (copied := next(like, None)) is not None and copied.uid is not None:
                left.remove(copied)
                pairs[message.uid] = copied.uid
    return pairs


def _is_like(message: Message, copied: FetchedMessage, *, by_time: bool) -> bool:
    """Not every server keeps the time of what it copies."""
    header = None if copied.envelope is None else overview_of(copied.envelope, None).message_id_header
    is_at_its_time = not by_time or copied.internal_date_ms == message.received_at_ms
    return header == message.message_id_header and copied.size_bytes == message.size_bytes and is_at_its_time
