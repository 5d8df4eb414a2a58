"""FETCH where one message may fail the whole command: the set is halved until the refused messages are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.backends.imap.fetched import FetchReader
from app.backends.imap.session import Session
from app.wire.imap.commands import BodySection
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.sets import SequenceSet

MAX_REFUSALS = 400
"""Refused commands, after which it is the mailbox that cannot be read, not some of its messages."""


@dataclass(slots=True)
class BisectedFetch:
    """What came of a FETCH. `refused` maps the UIDs for which the server said NO or BAD to its words; `broken` are
    those whose answer broke the grammar; any other UID is not in the mailbox."""

    messages: dict[int, FetchedMessage] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)


async def fetch_apart(session: Session, uids: Sequence[int], items: Sequence[str | BodySection]) -> BisectedFetch:
    """Fetch these messages of the selected mailbox, as far as the server gives them.

    Raises Throttled, and ServerRefused or ServerProtocolError where it refuses one command after another and gives
    nothing.
    """
    apart = BisectedFetch()
    waiting = [list(uids)]
    failures = 0
    while waiting:
        asked = waiting.pop()
        exchange = await session.begin_fetch(SequenceSet.of(asked), items)
        completion = await session.protocol.settle(exchange)
        reader = FetchReader(apart.messages, only=asked[0] if len(asked) == 1 else None)
        await reader.read(completion)
        left = [uid for uid in asked if uid not in apart.messages]
        if completion.status == "OK" and not reader.is_any_broken:
            continue
        failures += 1
        if completion.is_throttling or failures > MAX_REFUSALS:
            completion.check()
        if len(asked) == 1 and completion.status == "OK":
            apart.broken.update(left)
        elif len(asked) == 1:
            apart.refused |= dict.fromkeys(left, completion.origin.response)
        elif left:
            middle = (len(left) + 1) // 2
            waiting += [half for half in (left[middle:], left[:middle]) if half]
    return apart
