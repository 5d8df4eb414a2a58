"""Copying and moving messages to another mailbox: COPY and MOVE, and the fallbacks beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.backends.imap.connection import Completion
from app.backends.imap.fetched import uid_set
from app.backends.imap.place import Place, check_target, enter, enter_anew
from app.backends.imap.removing import expunge
from app.backends.imap.session import Session
from app.wire.imap import commands
from app.wire.imap.encode import Command
from app.wire.imap.search import HeaderMatch
from app.wire.imap.sets import SequenceSet

MAX_SOUGHT = 100
"""Copies that are sought by Message-ID where the server has no COPYUID."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What became of messages that were copied or moved: source UID → target UID, and those that were not there."""

    pairs: Mapping[int, int]
    gone: frozenset[int]
    unbound: frozenset[int] = frozenset()
    """Copied or moved, but the server doesn't tell to which UID."""


async def copy(session: Session, place: Place, uids: Sequence[int], target: str) -> Transfer:
    """Copy messages. Raises MailboxNotFound when the target is gone."""
    return await _transfer(session, place, uids, target, commands.copy)


async def move(session: Session, place: Place, uids: Sequence[int], target: str) -> Transfer:
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
    session: Session, place: Place, uids: Sequence[int], target: str, build: _TransferCommand
) -> Transfer:
    was_selected = session.is_in(place.name)
    await enter(session, place)
    completion = (await session.run(build(SequenceSet.of(uids), target, is_utf8=session.is_utf8)))[0]
    first = _transferred(session, uids, check_target(completion))
    if not (first.gone and was_selected):
        return first
    await enter_anew(session, place)
    unseen = sorted(first.gone)
    completion = (await session.run(build(SequenceSet.of(unseen), target, is_utf8=session.is_utf8)))[0]
    second = _transferred(session, unseen, check_target(completion))
    return Transfer({**first.pairs, **second.pairs}, second.gone)


def _transferred(session: Session, uids: Sequence[int], completion: Completion) -> Transfer:
    codes = session.codes(completion, "COPYUID")
    pairs = {source: copied for code in codes for source, copied in code.copied.pairs}
    uid_set(pairs.values())
    wanted = frozenset(uids)
    if codes or session.has("UIDPLUS"):
        return Transfer({uid: pairs[uid] for uid in wanted & pairs.keys()}, wanted - pairs.keys())
    return Transfer({}, frozenset(), wanted)


async def find_copies(session: Session, target: str, message_ids: Mapping[int, str | None]) -> dict[int, int]:
    """Source UID → UID in the target, by Message-ID: where the server has no COPYUID. Those not found are absent."""
    pairs: dict[int, int] = {}
    for uid, message_id in list(message_ids.items())[:MAX_SOUGHT]:
        if message_id:
            found = await session.search(target, HeaderMatch("Message-ID", message_id))
            if found.ranges:
                pairs[uid] = found.ranges[-1][1]
    return pairs
