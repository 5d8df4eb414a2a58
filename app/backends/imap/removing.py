"""Expunges messages of one mailbox, and only these."""

from __future__ import annotations

from collections.abc import Sequence

from app.backends.imap.fetched import fetched
from app.backends.imap.selectable import SelectableMailbox, enter_anew
from app.backends.imap.session import ClientSession
from app.errors import NotSupported, ServerRefused
from app.mail.types import DELETED
from app.wire.imap import commands
from app.wire.imap.encode import command
from app.wire.imap.responses import Expunged, Vanished
from app.wire.imap.search import HasFlag
from app.wire.imap.sets import SequenceSet


async def expunge(session: ClientSession, mailbox: SelectableMailbox, uids: Sequence[int]) -> None:
    """Expunge these messages and no others.

    Without UIDPLUS a plain EXPUNGE is used, unless other messages of the mailbox are marked as deleted: then the marks
    are removed and NotSupported is raised. Raises ServerRefused if no removal is reported and the messages still
    exist: Dovecot returns OK to clients without the right to expunge (RFC 4314 §4).
    """
    await enter_anew(session, mailbox)
    numbers = SequenceSet.of(uids)
    flag = commands.store(numbers, [DELETED], mode="+", silent=True)
    if session.has("UIDPLUS") or session.has("IMAP4REV2"):
        pending = [flag, commands.expunge(numbers)]
    else:
        await session.do(flag)
        await _check_others(session, mailbox, numbers)
        pending = [command("EXPUNGE")]
    completions = [completion.check() for completion in await session.run(*pending)]
    if not any(isinstance(line, (Expunged, Vanished)) for item in completions for line in session.parsed(item)):
        await _check_gone(session, numbers)


async def _check_gone(session: ClientSession, numbers: SequenceSet) -> None:
    """Raises ServerRefused if a message still exists. Not pipelined: Dovecot may refresh a mailbox only later."""
    remaining = await fetched(await session.do(commands.fetch(numbers, ("UID",))))
    if any(uid in numbers for uid in remaining):
        await _unflag(session, numbers)
        raise ServerRefused("The mail server does not allow deleting these messages")


async def _check_others(session: ClientSession, mailbox: SelectableMailbox, numbers: SequenceSet) -> None:
    """Raises NotSupported if other messages are marked as deleted."""
    deleted = await session.search(mailbox.name, HasFlag(DELETED))
    if any(low not in numbers or high not in numbers for low, high in deleted.ranges):
        await _unflag(session, numbers)
        raise NotSupported("The mail server cannot delete single messages, and other messages are marked as deleted")


async def _unflag(session: ClientSession, numbers: SequenceSet) -> None:
    await session.do(commands.store(numbers, [DELETED], mode="-", silent=True))
