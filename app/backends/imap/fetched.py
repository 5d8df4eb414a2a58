"""Reads responses to FETCH and SEARCH by UID: merges responses for one message, and validates UIDs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Sequence

from app.backends.imap.connection import CommandCompletion, kept_bytes
from app.errors import ServerProtocolError
from app.wire.imap.fetch import FetchedMessage, is_fetch, parse_fetch
from app.wire.imap.framing import Response
from app.wire.imap.responses import ESearchResult, SearchResult, ServerResponse
from app.wire.imap.sets import MAX_NUMBER, Range, SequenceSet

PARSED_BYTES_AT_ONCE = 32 * 1024
"""Bytes parsed before yielding to the event loop: about 3 ms. A single larger response takes up to 15 ms."""

MERGED_AT_ONCE = 4
"""Lines of numbers, each of up to 32 KiB, that are merged without another thread."""


async def uids_found(responses: Sequence[ServerResponse]) -> SequenceSet:
    """The UIDs of all ESEARCH and SEARCH lines: servers split long responses, and some write a line per UID.

    Numbers that cannot be UIDs are dropped. Long responses are merged in another thread.
    """
    is_long = len(responses) > MERGED_AT_ONCE
    return await asyncio.to_thread(_merged, responses) if is_long else _merged(responses)


def _merged(responses: Iterable[ServerResponse]) -> SequenceSet:
    numbers: list[int] = []
    ranges: list[Range] = []
    for response in responses:
        if isinstance(response, SearchResult):
            numbers += response.numbers
        elif isinstance(response, ESearchResult) and response.all is not None:
            ranges += response.all.ranges
    uids = SequenceSet.of([number for number in numbers if 0 < number <= MAX_NUMBER])
    return SequenceSet.of_ranges([*uids.ranges, *ranges]) if ranges else uids


def uid_set(numbers: Iterable[int]) -> SequenceSet:
    """A set of UIDs from a server. Raises ServerProtocolError for a number that cannot be a UID."""
    try:
        return SequenceSet.of(numbers)
    except ValueError:
        raise ServerProtocolError("The server returned an invalid UID") from None


async def fetched(completion: CommandCompletion, *, is_tolerant: bool = False) -> dict[int, FetchedMessage]:
    """UID → message, from all FETCH responses of a command. Several responses for one UID are merged.

    Raises ServerProtocolError for a response that violates the grammar; with `is_tolerant` it is dropped.
    """
    reader = FetchReader({})
    await reader.read(completion)
    if reader.is_any_broken and not is_tolerant:
        raise ServerProtocolError("A response to FETCH cannot be parsed")
    return reader.messages


async def in_slices(responses: Iterable[Response]) -> AsyncIterator[Response]:
    """The responses, with a yield to the event loop every PARSED_BYTES_AT_ONCE."""
    taken_bytes = 0
    for response in responses:
        taken_bytes += kept_bytes(response)
        if taken_bytes > PARSED_BYTES_AT_ONCE:
            taken_bytes = kept_bytes(response)
            await asyncio.sleep(0)
        yield response


class FetchReader:
    """Merges FETCH responses into `messages` by UID.

    A response without a UID belongs to the message with its sequence number, until an EXPUNGE, or to `only` if a single
    message was requested. `is_any_broken` is True after a response that violates the grammar.
    """

    def __init__(self, messages: dict[int, FetchedMessage], *, only: int | None = None) -> None:
        self.messages = messages
        self.is_any_broken = False
        self._only = only
        self._uids: dict[int, int] = {}
        self._nameless: dict[int, FetchedMessage] = {}

    async def read(self, completion: CommandCompletion) -> None:
        """Read all responses of a command."""
        async for response in in_slices(completion.responses):
            self._take(response)

    def _take(self, response: Response) -> None:
        if not is_fetch(response):
            if _REMOVAL.match(response.text):
                self._uids.clear()
                self._nameless.clear()
            return
        try:
            message = parse_fetch(response)
        except ServerProtocolError:
            self.is_any_broken = True
            return
        only = self._only if tells_content(message) else None
        uid = message.uid if message.uid is not None else self._uids.get(message.sequence, only)
        if uid is None:
            self._nameless[message.sequence] = _joined(self._nameless.get(message.sequence), message)
        elif 0 < uid <= MAX_NUMBER:
            self._uids[message.sequence] = message.uid = uid
            self._put(uid, _joined(self._nameless.pop(message.sequence, None), message))

    def _put(self, uid: int, message: FetchedMessage) -> None:
        self.messages[uid] = _joined(self.messages.get(uid), message)


def tells_content(message: FetchedMessage) -> bool:
    """Whether a response has more than flags. Servers send flags unsolicited."""
    return message.size_bytes is not None or bool(message.sections) or message.envelope is not None


_REMOVAL = re.compile(rb"\* (?:[0-9]+ EXPUNGE|VANISHED)", re.IGNORECASE)


_JOINED = (
    "uid", "flags", "modseq", "internal_date_ms", "size_bytes", "envelope", "structure", "preview", "email_id",
    "thread_id", "gmail_message_id", "gmail_thread_id",
)  # fmt: skip


def _joined(earlier: FetchedMessage | None, later: FetchedMessage) -> FetchedMessage:
    """Merge two responses for one message: an unsolicited flag change may lack the requested items."""
    if earlier is None:
        return later
    later.sections = {**earlier.sections, **later.sections}
    for name in _JOINED:
        if getattr(later, name) is None:
            setattr(later, name, getattr(earlier, name))
    return later
