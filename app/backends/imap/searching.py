"""Searching one mailbox by what its server can find."""

from __future__ import annotations

from collections.abc import Collection

from app.backends.imap.fetched import fetched
from app.backends.imap.session import Session
from app.errors import ServerProtocolError
from app.wire.imap import commands
from app.wire.imap.search import All, And, HeaderMatch, Numbers, SearchKey, TextField, TextMatch
from app.wire.imap.sets import SequenceSet

MAX_UIDS = 2_000_000
SEARCHED_RANGES = 200
"""A search names the messages that it asks about up to so many ranges; beyond, the whole mailbox is cheaper to say."""


async def uids_of(session: Session, name: str, within: SequenceSet | None = None) -> list[int]:
    """The UIDs of a mailbox (within a set), ascending.

    Where a search finds another number than SELECT told, a FETCH of all tells too: no message is hidden by a search
    whose answer was cut short or could not be read.
    """
    if within is not None:
        found = await search(session, name, And((Numbers(within, is_uid=True),)))
        return [uid for uid in found if uid in within]  # some servers return more than was requested
    found = await search(session, name, All())
    if session.selected is None or len(found) == session.selected.exists:
        return found
    (completion,) = await session.in_mailbox(name, commands.fetch(SequenceSet.parse("1:*"), ("UID",)))
    return sorted({*found, *await fetched(completion, is_tolerant=True)})


async def search(session: Session, name: str, key: SearchKey) -> list[int]:
    """The UIDs that match, ascending. Raises ServerProtocolError for more than a mailbox can hold."""
    try:
        return list((await session.search(name, key)).numbers(MAX_UIDS))
    except ValueError:
        raise ServerProtocolError("The server names more messages than a mailbox can hold") from None


def search_key(scope: str, value: str, uids: Collection[int] | None = None) -> SearchKey:
    """What finds a text: `scope` is "body", "text" or "header:Name". `uids`: those alone, where that is less to say."""
    key = _text_key(scope, value)
    within = None if uids is None else SequenceSet.of(sorted(uids))
    if within is not None and len(within.ranges) <= SEARCHED_RANGES:
        return And((Numbers(within, is_uid=True), key))
    return key


def _text_key(scope: str, value: str) -> SearchKey:
    if scope.startswith("header:"):
        return HeaderMatch(scope.removeprefix("header:"), value)
    return TextMatch(TextField.BODY if scope == "body" else TextField.TEXT, value)
