"""What a server answers to FETCH and SEARCH, by UID: messages put together, and numbers that can be UIDs."""

from __future__ import annotations

from collections.abc import Iterable

from app.backends.imap.connection import Completion
from app.errors import ServerProtocolError
from app.wire.imap.fetch import FetchedMessage, is_fetch, parse_fetch
from app.wire.imap.sets import MAX_NUMBER, SequenceSet


def uid_set(numbers: Iterable[int]) -> SequenceSet:
    """The set of UIDs that a server named. Raises ServerProtocolError for what is none."""
    try:
        return SequenceSet.of(numbers)
    except ValueError:
        raise ServerProtocolError("The server names a UID that cannot be") from None


def fetched(completion: Completion, *, is_tolerant: bool = False) -> dict[int, FetchedMessage]:
    """UID → message, of all FETCH responses of a command; what comes in pieces for one UID is put together.

    Raises ServerProtocolError for a response that breaks the grammar; where it `is_tolerant`, that one is left out.
    """
    messages: dict[int, FetchedMessage] = {}
    for response in completion.responses:
        if is_fetch(response):
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
