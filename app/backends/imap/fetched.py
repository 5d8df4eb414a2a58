"""What a server answers to FETCH and SEARCH, by UID: messages put together, and numbers that can be UIDs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from app.backends.imap.connection import Completion, kept_bytes
from app.errors import ServerProtocolError
from app.wire.imap.fetch import FetchedMessage, is_fetch, parse_fetch
from app.wire.imap.framing import Response
from app.wire.imap.sets import MAX_NUMBER, SequenceSet

PARSED_BYTES_AT_ONCE = 32 * 1024
"""Responses that are read before others have their turn: some 3 ms. One that is larger takes up to 15 ms."""


def uid_set(numbers: Iterable[int]) -> SequenceSet:
    """The set of UIDs that a server named. Raises ServerProtocolError for what is none."""
    try:
        return SequenceSet.of(numbers)
    except ValueError:
        raise ServerProtocolError("The server names a UID that cannot be") from None


async def in_slices(responses: Iterable[Response]) -> AsyncIterator[Response]:
    """The FETCH responses, with pauses in which others have their turn: by size, since reading costs by size."""
    taken_bytes = 0
    for response in responses:
        if is_fetch(response):
            taken_bytes += kept_bytes(response)
            if taken_bytes > PARSED_BYTES_AT_ONCE:
                taken_bytes = kept_bytes(response)
                await asyncio.sleep(0)
            yield response


async def fetched(completion: Completion, *, is_tolerant: bool = False) -> dict[int, FetchedMessage]:
    """UID → message, of all FETCH responses of a command; what comes in pieces for one UID is put together.

    Raises ServerProtocolError for a response that breaks the grammar; where it `is_tolerant`, that one is left out.
    """
    messages: dict[int, FetchedMessage] = {}
    async for response in in_slices(completion.responses):
        try:
            message = parse_fetch(response)
        except ServerProtocolError:
            if is_tolerant:
                continue
            raise
        if message.uid is not None and 0 < message.uid <= MAX_NUMBER:
            earlier = messages.get(message.uid)
            messages[message.uid] = message if earlier is None else _joined(earlier, message)
    return messages


_JOINED = (
    "flags", "modseq", "internal_date_ms", "size_bytes", "envelope", "structure", "preview", "email_id", "thread_id",
    "gmail_message_id", "gmail_thread_id",
)  # fmt: skip


def _joined(earlier: FetchedMessage, later: FetchedMessage) -> FetchedMessage:
    """Two responses about one message: another client's flag change may come between, without the items asked."""
    later.sections = {**earlier.sections, **later.sections}
    for name in _JOINED:
        if getattr(later, name) is None:
            setattr(later, name, getattr(earlier, name))
    return later
