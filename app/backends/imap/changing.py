"""Changing mail in one mailbox: flags, copy, move, removal, append; the fallback beside each command.

Every function selects the mailbox before it changes anything, and refuses when it isn't the one that the index knows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.backends.imap.connection import Completion
from app.backends.imap.fetched import fetched, uid_set
from app.backends.imap.selected import Selected
from app.backends.imap.session import Session
from app.errors import (
    MailboxNotFound,
    MessageNotFound,
    NotSupported,
    PreconditionFailed,
    ServerRefused,
    TooLarge,
)
from app.mail.types import DELETED, Flags
from app.wire.imap import commands
from app.wire.imap.encode import Command, command
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.search import HasFlag, HeaderMatch
from app.wire.imap.sets import SequenceSet

ANY_KEYWORD = "\\*"
MAX_HEADER_BYTES = 256 * 1024
MAX_SOUGHT = 100
"""Copies that are sought by Message-ID where the server has no COPYUID."""


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox as the index knows it: UIDs mean something only while its UIDVALIDITY is this."""

    name: str
    uid_validity: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """What became of messages that were copied or moved: source UID → target UID, and those that were not there."""

    pairs: Mapping[int, int]
    gone: frozenset[int]
    unbound: frozenset[int] = frozenset()
    """Copied or moved, but the server doesn't tell to which UID."""


async def enter(session: Session, place: Place) -> Selected:
    """Select a mailbox. Raises MessageNotFound when its UIDs are no longer those that the index knows."""
    selected = await session.ensure(place.name)
    check_validity(session, place)
    return selected


async def enter_anew(session: Session, place: Place) -> None:
    """The same, and see the mailbox as it is now: one that stays selected may hide its newest messages."""
    await session.select(place.name)
    check_validity(session, place)


def check_validity(session: Session, place: Place) -> None:
    """Raises MessageNotFound when the selected mailbox has another UIDVALIDITY than the index knows."""
    if session.selected is None or session.selected.uid_validity != place.uid_validity:
        raise MessageNotFound("The mailbox was made anew on the mail server")


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A condition: the message has changed neither past this MODSEQ nor, where none is kept, from these flags."""

    modseq: int
    flags: Flags


async def store_flags(
    session: Session, place: Place, uids: Sequence[int], *, add: Flags, remove: Flags, condition: Unchanged | None
) -> dict[int, FetchedMessage]:
    """UID → flags after the change; a UID that is gone is absent. Raises PreconditionFailed, NotSupported."""
    was_selected = session.is_in(place.name)
    selected = await enter(session, place)
    _check_keywords(selected, add)
    since = None
    if condition is not None and session.keeps_modseq and selected.highest_modseq:
        since = condition.modseq
    elif condition is not None:
        await _compare_flags(session, place, uids, condition.flags)
    changes = {mode: sorted(flags) for mode, flags in (("+", add), ("-", remove)) if flags}
    told = await _store(session, uids, changes, since)
    unseen = [uid for uid in uids if uid not in told]
    if unseen and was_selected:
        await enter_anew(session, place)
        told.update(await _store(session, unseen, changes, since))
    return told


async def _store(
    session: Session, uids: Sequence[int], changes: Mapping[str, Sequence[str]], since: int | None
) -> dict[int, FetchedMessage]:
    """UID → flags after these changes (mode → flags), asked for where the server tells nothing since none changed."""
    numbers = SequenceSet.of(uids)
    asked = [
        commands.store(numbers, flags, mode=mode, unchanged_since=since if index == 0 else None)
        for index, (mode, flags) in enumerate(changes.items())
    ]
    changed: dict[int, FetchedMessage] = {}
    for completion in await _run_stores(session, asked, is_conditional=since is not None):
        changed.update(fetched(completion))
    told = {uid: message for uid, message in changed.items() if uid in numbers and message.flags is not None}
    untold = [uid for uid in uids if uid not in told]
    if untold:
        told.update(fetched(await session.do(commands.fetch(SequenceSet.of(untold), ("UID", "FLAGS")))))
    return told


async def _compare_flags(session: Session, place: Place, uids: Sequence[int], flags: Flags) -> None:
    """The next best thing to UNCHANGEDSINCE: look before the change."""
    found = await session.fetch(place.name, SequenceSet.of(uids), ("UID", "FLAGS"))
    if any(message.flags != flags for message in found.values()):
        raise PreconditionFailed


async def _run_stores(session: Session, asked: Sequence[Command], *, is_conditional: bool) -> list[Completion]:
    """Pipelined, but for a condition: what follows depends on it."""
    if not is_conditional:
        return [completion.check() for completion in await session.run(*asked)]
    completions = []
    for store in asked:
        completion = (await session.run(store))[0]
        if session.codes(completion, "MODIFIED"):
            raise PreconditionFailed
        completions.append(completion.check())
    return completions


def _check_keywords(selected: Selected, add: Collection[str]) -> None:
    kept = selected.permanent_flags
    if kept and ANY_KEYWORD not in kept and not all(flag.lower() in kept for flag in add):
        raise NotSupported("The mail server keeps no such keyword in this mailbox")


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
    first = _transferred(session, uids, _check_target(completion))
    if not (first.gone and was_selected):
        return first
    await enter_anew(session, place)
    unseen = sorted(first.gone)
    completion = (await session.run(build(SequenceSet.of(unseen), target, is_utf8=session.is_utf8)))[0]
    second = _transferred(session, unseen, _check_target(completion))
    return Transfer({**first.pairs, **second.pairs}, second.gone)


async def expunge(session: Session, place: Place, uids: Sequence[int]) -> None:
    """Remove these messages and no others.

    Without UIDPLUS a plain EXPUNGE is used, and only where nobody else has marked a message of the mailbox as deleted;
    else raises NotSupported, and the marks are taken back.
    """
    await enter_anew(session, place)
    numbers = SequenceSet.of(uids)
    mark = commands.store(numbers, [DELETED], mode="+", silent=True)
    if session.has("UIDPLUS") or session.has("IMAP4REV2"):
        for completion in await session.run(mark, commands.expunge(numbers)):
            completion.check()
        return
    await session.do(mark)
    marked = await session.search(place.name, HasFlag(DELETED))
    if any(low not in numbers or high not in numbers for low, high in marked.ranges):
        await session.do(commands.store(numbers, [DELETED], mode="-", silent=True))
        raise NotSupported("The mail server can't remove single messages, and others are marked as deleted")
    await session.do(command("EXPUNGE"))


async def append(
    session: Session,
    target: str,
    content: AsyncIterator[bytes],
    size_bytes: int,
    flags: Flags,
    received_at_ms: int | None,
) -> int:
    """Add a message; returns its UID. Raises MailboxNotFound, TooLarge, ServerRefused."""
    _check_limit(session, size_bytes)
    has_uidplus = session.has("UIDPLUS") or session.has("IMAP4REV2")
    before = 0 if has_uidplus else (await session.select(target))[0].uid_next
    has_utf8_headers = False
    if session.has("UTF8=ACCEPT"):
        has_utf8_headers, content = await _look_at_header(content)
    asked = commands.append(
        target,
        size_bytes,
        flags=sorted(flags),
        received_at_ms=received_at_ms,
        utf8_headers=has_utf8_headers,
        is_utf8=session.is_utf8,
    )
    completion = _check_target(await session.upload(asked, content))
    for code in session.codes(completion, "APPENDUID"):
        (uid,) = uid_set(code.appended.uids[-1:]).numbers(1)
        return uid
    return await _find_appended(session, target, before, size_bytes)


async def _look_at_header(content: AsyncIterator[bytes]) -> tuple[bool, AsyncIterator[bytes]]:
    """Whether the header holds bytes that aren't ASCII, and the same content whole.

    A server with UTF8=ACCEPT refuses them unless they are announced (RFC 6855 §4).
    """
    start = b""
    async for piece in content:
        start += piece
        if b"\r\n\r\n" in start or len(start) > MAX_HEADER_BYTES:
            break

    async def whole() -> AsyncIterator[bytes]:
        yield start
        async for piece in content:
            yield piece

    return not start.partition(b"\r\n\r\n")[0].isascii(), whole()


def _check_limit(session: Session, size_bytes: int) -> None:
    for name in session.capabilities:
        limit = name.removeprefix("APPENDLIMIT=")
        if limit != name and limit.isascii() and limit.isdigit() and size_bytes > int(limit):
            raise TooLarge(f"The mail server takes messages of up to {limit} bytes")


async def _find_appended(session: Session, target: str, before: int, size_bytes: int) -> int:
    """The newest message that came since and has this size."""
    since = SequenceSet.parse(f"{max(1, before)}:*")
    asked = commands.fetch(since, ("UID", "RFC822.SIZE"))
    found = fetched((await session.in_mailbox(target, asked, is_anew=True))[0])
    uids = [uid for uid, message in found.items() if uid >= before and message.size_bytes == size_bytes]
    if not uids:
        raise ServerRefused("The mail server took the message and doesn't show it")
    return max(uids)


def _check_target(completion: Completion) -> Completion:
    """Raises MailboxNotFound for a target that is gone, TooLarge, else what `check` raises."""
    code = completion.code.name if completion.code and completion.status == "NO" else ""
    if code in ("TRYCREATE", "NONEXISTENT"):
        raise MailboxNotFound("The target mailbox is not on the mail server any more")
    if code in ("TOOBIG", "LIMIT"):
        raise TooLarge(f"The mail server finds the message too large: {completion.origin.response}")
    return completion.check()


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
