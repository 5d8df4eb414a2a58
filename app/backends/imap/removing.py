"""Removing messages of one mailbox for good: these, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from app.backends.imap.fetched import fetched
from app.backends.imap.selectable import SelectableMailbox, enter_anew
from app.backends.imap.session import Session
from app.errors import NotSupported, ServerRefused
from app.mail.types import DELETED
from app.wire.imap import commands
from app.wire.imap.encode import command
from app.wire.imap.responses import Expunged, Vanished
from app.wire.imap.search import HasFlag
from app.wire.imap.sets import SequenceSet


async def expunge(session: Session, place: SelectableMailbox, uids: Sequence[int]) -> None:
    """Remove these messages and no others.

    Without UIDPLUS a plain EXPUNGE is used, and only where nobody else has marked a message of the mailbox as deleted;
    else raises NotSupported, and the marks are taken back. ServerRefused if no removal is reported and they are still
    there: Dovecot answers OK to clients without the right to remove (RFC 4314 §4).
    """
    await enter_anew(session, place)
    numbers = SequenceSet.of(uids)
    mark = commands.store(numbers, [DELETED], mode="+", silent=True)
    if session.has("UIDPLUS") or session.has("IMAP4REV2"):
        asked = [mark, commands.expunge(numbers)]
    else:
        await session.do(mark)
        await _check_others(session, place, numbers)
        asked = [command("EXPUNGE")]
    completions = [completion.check() for completion in await session.run(*asked)]
    if not any(isinstance(one, (Expunged, Vanished)) for told in completions for one in session.parsed(told)):
        await _check_gone(session, numbers)


async def _check_gone(session: Session, numbers: SequenceSet) -> None:
    """Raises ServerRefused where a message is still there. Not pipelined: Dovecot may look at a mailbox only later."""
    there = await fetched(await session.do(commands.fetch(numbers, ("UID",))))
    if any(uid in numbers for uid in there):
        await _take_back(session, numbers)
        raise ServerRefused("The mail server does not let these messages be removed")


async def _check_others(session: Session, place: SelectableMailbox, numbers: SequenceSet) -> None:
    """Raises NotSupported where messages beside these are marked as deleted."""
    marked = await session.search(place.name, HasFlag(DELETED))
    if any(low not in numbers or high not in numbers for low, high in marked.ranges):
        await _take_back(session, numbers)
        raise NotSupported("The mail server can't remove single messages, and others are marked as deleted")


async def _take_back(session: Session, numbers: SequenceSet) -> None:
    await session.do(commands.store(numbers, [DELETED], mode="-", silent=True))
