"""Copies and moves messages to another mailbox by COPY and MOVE, with fallbacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from app.backends.imap.connection import CommandCompletion
from app.backends.imap.fetched import fetched, uid_set
from app.backends.imap.removing import expunge
from app.backends.imap.selectable import SelectableMailbox, check_target, enter, enter_anew
from app.backends.imap.session import ClientSession
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
"""Copies that are searched for by Message-ID if the server has no COPYUID."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """The result of a copy or move: source UID → target UID, and messages that did not exist."""

    pairs: Mapping[int, int]
    gone: frozenset[int]
    unbound: frozenset[int] = frozenset()
    """Copied or moved to UIDs that the server does not report."""
    since_uid: int | None = None
    """Lower bound of these UIDs, if known."""


async def copy(session: ClientSession, mailbox: SelectableMailbox, uids: Sequence[int], target: str) -> Transfer:
    """Copy messages. Raises MailboxNotFound if the target does not exist."""
    return await _transfer(session, mailbox, uids, target, commands.copy)


async def move(session: ClientSession, mailbox: SelectableMailbox, uids: Sequence[int], target: str) -> Transfer:
    """Move messages by MOVE (RFC 6851), else by COPY and expunging exactly these."""
    if session.has("MOVE") or session.has("IMAP4REV2"):
        return await _transfer(session, mailbox, uids, target, commands.move)
    transfer = await copy(session, mailbox, uids, target)
    copied = [uid for uid in uids if uid not in transfer.gone]
    if copied:
        await expunge(session, mailbox, copied)
    return transfer


class _TransferCommand(Protocol):
    def __call__(self, uids: SequenceSet, mailbox: str, *, is_utf8: bool = False) -> Command: ...


async def _transfer(
    session: ClientSession, mailbox: SelectableMailbox, uids: Sequence[int], target: str, build: _TransferCommand
) -> Transfer:
    was_selected = session.is_in(mailbox.name)
    since = None if session.has("UIDPLUS") else await _next_uid_of(session, target)
    await enter(session, mailbox)
    first = await _transfer_once(session, uids, target, build)
    if first.unbound or not (first.gone and was_selected):
        return replace(first, since_uid=since)
    await enter_anew(session, mailbox)
    second = await _transfer_once(session, sorted(first.gone), target, build)
    return Transfer({**first.pairs, **second.pairs}, second.gone, second.unbound)


async def _transfer_once(session: ClientSession, uids: Sequence[int], target: str, build: _TransferCommand) -> Transfer:
    numbers = SequenceSet.of(uids)
    completion = check_target((await session.run(build(numbers, target, is_utf8=session.is_utf8)))[0])
    pairs, is_reported = _reported_pairs(session, completion)
    wanted = frozenset(uids)
    if is_reported:
        return Transfer({uid: pairs[uid] for uid in wanted & pairs.keys()}, wanted - pairs.keys())
    if not session.has("UIDPLUS"):
        return Transfer({}, frozenset(), wanted)
    # without COPYUID nothing was copied, or the server omits it despite UIDPLUS
    remaining = await fetched(await session.do(commands.fetch(numbers, ("UID",))), is_tolerant=True)
    return Transfer({}, wanted - remaining.keys(), wanted & remaining.keys())


def _reported_pairs(session: ClientSession, completion: CommandCompletion) -> tuple[dict[int, int], bool]:
    """Source UID → target UID from COPYUID, and whether it was reported. An invalid COPYUID is ignored."""
    codes = session.codes(completion, "COPYUID")
    try:
        pairs = {source: copied for code in codes for source, copied in code.copied.pairs}
        uid_set(pairs.values())
    except ServerProtocolError:
        return {}, False
    return pairs, bool(codes)


async def _next_uid_of(session: ClientSession, target: str) -> int | None:
    """UIDNEXT of a mailbox, by STATUS."""
    (completion,) = await session.run(commands.status(target, ["UIDNEXT"], is_utf8=session.is_utf8))
    numbers = [
        response.items.get("UIDNEXT") for response in session.parsed(completion) if isinstance(response, MailboxStatus)
    ]
    return next((number for number in numbers if number), None)


async def find_copies(
    session: ClientSession, target: str, messages: Sequence[Message], since_uid: int | None
) -> dict[int, int]:
    """Source UID → UID in the target, for servers without COPYUID. Copies that are not found are absent.

    New messages from `since_uid` on are compared by Message-ID, size and time; the rest is searched by Message-ID.
    """
    pairs: dict[int, int] = {}
    if since_uid is not None:
        fetched_messages = await session.fetch_since(target, since_uid, _COMPARED)
        pairs = _paired(messages, [copied for uid, copied in sorted(fetched_messages.items()) if uid >= since_uid])
    for message in [item for item in messages if item.uid not in pairs and item.message_id_header][:MAX_SOUGHT]:
        matches = await session.search(target, HeaderMatch("Message-ID", message.message_id_header or ""))
        if matches.ranges:
            pairs[message.uid] = matches.ranges[-1][1]
    return pairs


_COMPARED = ("UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE")


def _paired(messages: Sequence[Message], candidates: Sequence[FetchedMessage]) -> dict[int, int]:
    """Match each message with the first similar candidate. Equal messages keep their order."""
    left = list(candidates)
    pairs: dict[int, int] = {}
    for by_time in (True, False):
        for message in messages:
            similar = (
                candidate
                for candidate in left
                if message.uid not in pairs and _is_similar(message, candidate, by_time=by_time)
            )
            if (copied := next(similar, None)) is not None and copied.uid is not None:
                left.remove(copied)
                pairs[message.uid] = copied.uid
    return pairs


def _is_similar(message: Message, copied: FetchedMessage, *, by_time: bool) -> bool:
    """Whether a candidate may be the copy. Without `by_time`, for servers that do not keep INTERNALDATE."""
    header = None if copied.envelope is None else overview_of(copied.envelope, None).message_id_header
    has_same_time = not by_time or copied.internal_date_ms == message.received_at_ms
    return header == message.message_id_header and copied.size_bytes == message.size_bytes and has_same_time
