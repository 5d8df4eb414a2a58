"""Changes flags in one mailbox by STORE, conditionally if requested, also without CONDSTORE."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.backends.imap.connection import CommandCompletion
from app.backends.imap.fetched import fetched
from app.backends.imap.selectable import SelectableMailbox, enter, enter_anew
from app.backends.imap.selected import Selected
from app.backends.imap.session import ClientSession
from app.errors import NotSupported, PreconditionFailed, ServerRefused
from app.mail.types import Flags
from app.wire.imap import commands
from app.wire.imap.encode import Command
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.sets import SequenceSet

ANY_KEYWORD = "\\*"


@dataclass(frozen=True, slots=True)
class StoreCondition:
    """The condition that a message has no newer MODSEQ or, without CONDSTORE, still has these flags."""

    modseq: int
    flags: Flags


async def store_flags(
    session: ClientSession,
    mailbox: SelectableMailbox,
    uids: Sequence[int],
    *,
    add: Flags,
    remove: Flags,
    condition: StoreCondition | None,
) -> dict[int, FetchedMessage]:
    """Change flags and return UID → flags; deleted messages are absent. Raises PreconditionFailed, NotSupported.

    Raises ServerRefused when no message shows any of the changes: Dovecot returns OK even without the right to change
    flags.
    """
    was_selected = session.is_in(mailbox.name)
    selected = await enter(session, mailbox)
    _check_keywords(selected, add)
    since = None
    if condition is not None and session.keeps_modseq and selected.highest_modseq:
        since = condition.modseq
    elif condition is not None:
        await _compare_flags(session, mailbox, uids, condition.flags)
    changes = {mode: sorted(flags) for mode, flags in (("+", add), ("-", remove)) if flags}
    changed = await _store(session, uids, changes, since)
    missing = [uid for uid in uids if uid not in changed]
    if missing and was_selected:
        await enter_anew(session, mailbox)
        changed.update(await _store(session, missing, changes, since))
    if changed and not any(_is_changed(message.flags, add, remove) for message in changed.values()):
        raise ServerRefused("The mail server does not allow changing these flags")
    return changed


def _is_changed(now: Flags | None, add: Flags, remove: Flags) -> bool:
    """Whether a message's flags show any of the changes."""
    has = {flag.lower() for flag in now or ()}
    return any(flag.lower() in has for flag in add) or any(flag.lower() not in has for flag in remove)


async def _store(
    session: ClientSession, uids: Sequence[int], changes: Mapping[str, Sequence[str]], since: int | None
) -> dict[int, FetchedMessage]:
    """UID → flags after these changes (mode → flags); fetched if the server reports none because none changed."""
    numbers = SequenceSet.of(uids)
    stores = [
        commands.store(numbers, flags, mode=mode, unchanged_since=since if index == 0 else None)
        for index, (mode, flags) in enumerate(changes.items())
    ]
    responses: dict[int, FetchedMessage] = {}
    for completion in await _run_stores(session, stores, is_conditional=since is not None):
        responses.update(await fetched(completion))
    changed = {uid: message for uid, message in responses.items() if uid in numbers and message.flags is not None}
    unreported = [uid for uid in uids if uid not in changed]
    if unreported:
        changed.update(await fetched(await session.do(commands.fetch(SequenceSet.of(unreported), ("UID", "FLAGS")))))
    return changed


async def _compare_flags(session: ClientSession, mailbox: SelectableMailbox, uids: Sequence[int], flags: Flags) -> None:
    """Emulate UNCHANGEDSINCE: compare the flags before the change."""
    messages = await session.fetch(mailbox.name, SequenceSet.of(uids), ("UID", "FLAGS"))
    if any(message.flags != flags for message in messages.values()):
        raise PreconditionFailed


async def _run_stores(
    session: ClientSession, stores: Sequence[Command], *, is_conditional: bool
) -> list[CommandCompletion]:
    """Run STOREs, pipelined unless they are conditional."""
    if not is_conditional:
        return [completion.check() for completion in await session.run(*stores)]
    completions = []
    for store in stores:
        completion = (await session.run(store))[0]
        if session.codes(completion, "MODIFIED"):
            raise PreconditionFailed
        completions.append(completion.check())
    return completions


def _check_keywords(selected: Selected, add: Collection[str]) -> None:
    permanent = selected.permanent_flags
    if permanent and ANY_KEYWORD not in permanent and not all(flag.lower() in permanent for flag in add):
        raise NotSupported("The mail server does not store this keyword in this mailbox")
