"""Changing flags in one mailbox: STORE, under a condition too, and what to do where a server lacks CONDSTORE."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.backends.imap.connection import Completion
from app.backends.imap.fetched import fetched
from app.backends.imap.selectable import SelectableMailbox, enter, enter_anew
from app.backends.imap.selected import Selected
from app.backends.imap.session import Session
from app.errors import NotSupported, PreconditionFailed, ServerRefused
from app.mail.types import Flags
from app.wire.imap import commands
from app.wire.imap.encode import Command
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.sets import SequenceSet

ANY_KEYWORD = "\\*"


@dataclass(frozen=True, slots=True)
class StoreCondition:
    """A condition: the message has changed neither past this MODSEQ nor, where none is kept, from these flags."""

    modseq: int
    flags: Flags


async def store_flags(
    session: Session,
    place: SelectableMailbox,
    uids: Sequence[int],
    *,
    add: Flags,
    remove: Flags,
    condition: StoreCondition | None,
) -> dict[int, FetchedMessage]:
    """UID → flags after the change; a UID that is gone is absent. Raises PreconditionFailed, NotSupported.

    ServerRefused where no message has the flags that it should have: Dovecot answers OK also to clients without
    the right to change them.
    """
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
    if told and not any(_is_changed(message.flags, add, remove) for message in told.values()):
        raise ServerRefused("The mail server does not let these flags be changed")
    return told


def _is_changed(now: Flags | None, add: Flags, remove: Flags) -> bool:
    """Whether any of the change is to be seen in a message's flags."""
    has = {flag.lower() for flag in now or ()}
    return any(flag.lower() in has for flag in add) or any(flag.lower() not in has for flag in remove)


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
        changed.update(await fetched(completion))
    told = {uid: message for uid, message in changed.items() if uid in numbers and message.flags is not None}
    untold = [uid for uid in uids if uid not in told]
    if untold:
        told.update(await fetched(await session.do(commands.fetch(SequenceSet.of(untold), ("UID", "FLAGS")))))
    return told


async def _compare_flags(session: Session, place: SelectableMailbox, uids: Sequence[int], flags: Flags) -> None:
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
        raise NotSupported("The mail server does not store this keyword in this mailbox")
