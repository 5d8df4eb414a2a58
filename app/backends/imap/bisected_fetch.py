"""FETCH that tolerates messages the server refuses: the set is halved until the refused messages are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from app.backends.imap.fetched import FetchReader
from app.backends.imap.session import ClientSession
from app.wire.imap.commands import BodySection
from app.wire.imap.fetch import FetchedMessage
from app.wire.imap.sets import SequenceSet

MAX_REFUSALS = 400
"""After this many refused commands, the mailbox counts as unreadable."""


@dataclass(slots=True)
class BisectedFetch:
    """The result of a FETCH.

    `refused` maps UIDs for which the server returned NO or BAD to the response text. `broken` are UIDs whose response
    violated the grammar. Any other UID is not in the mailbox.
    """

    messages: dict[int, FetchedMessage] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)


async def fetch_apart(session: ClientSession, uids: Sequence[int], items: Sequence[str | BodySection]) -> BisectedFetch:
    """Fetch these messages of the selected mailbox, without those that the server refuses.

    Raises Throttled, and ServerRefused or ServerProtocolError after MAX_REFUSALS refused commands.
    """
    result = BisectedFetch()
    waiting = [list(uids)]
    failures = 0
    while waiting:
        requested = waiting.pop()
        exchange = await session.begin_fetch(SequenceSet.of(requested), items)
        completion = await session.protocol.settle(exchange)
        reader = FetchReader(result.messages, only=requested[0] if len(requested) == 1 else None)
        await reader.read(completion)
        missing = [uid for uid in requested if uid not in result.messages]
        if completion.status == "OK" and not reader.is_any_broken:
            continue
        failures += 1
        if completion.is_throttling or failures > MAX_REFUSALS:
            completion.check()
        if len(requested) == 1 and completion.status == "OK":
            result.broken.update(missing)
        elif len(requested) == 1:
            result.refused |= dict.fromkeys(missing, completion.origin.response)
        elif missing:
            middle = (len(missing) + 1) // 2
            waiting += [half for half in (missing[middle:], missing[:middle]) if half]
    return result
