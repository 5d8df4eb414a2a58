"""Removing messages of one mailbox for good: these, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from app.backends.imap.place import Place, enter_anew
from app.backends.imap.session import Session
from app.errors import NotSupported
from app.mail.types import DELETED
from app.wire.imap import commands
from app.wire.imap.encode import command
from app.wire.imap.search import HasFlag
from app.wire.imap.sets import SequenceSet


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
