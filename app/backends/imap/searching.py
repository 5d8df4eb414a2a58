"""Searches one mailbox by IMAP SEARCH."""

from __future__ import annotations

from collections.abc import Collection

from app.backends.imap.fetched import fetched
from app.backends.imap.session import ClientSession
from app.errors import ServerProtocolError
from app.wire.imap import commands
from app.wire.imap.search import All, And, HeaderMatch, Numbers, SearchKey, TextField, TextMatch
from app.wire.imap.sets import SequenceSet

MAX_UIDS = 2_000_000
SEARCHED_RANGES = 200
"""A search names up to this many ranges of UIDs; with more, searching the whole mailbox is cheaper."""


async def uids_of(session: ClientSession, name: str, within: SequenceSet | None = None) -> list[int]:
    """The UIDs of a mailbox (within a set), ascending.

    If a search finds another number of messages than SELECT reported, all UIDs are fetched as well, so that an
    incomplete or unreadable response to SEARCH hides no message.
    """
    if within is not None:
        uids = await search(session, name, And((Numbers(within, is_uid=True),)))
        return [uid for uid in uids if uid in within]  # some servers return additional UIDs
    uids = await search(session, name, All())
    if session.selected is None or len(uids) == session.selected.exists:
        return uids
    (completion,) = await session.in_mailbox(name, commands.fetch(SequenceSet.parse("1:*"), ("UID",)))
    return sorted({*uids, *await fetched(completion, is_tolerant=True)})


async def search(session: ClientSession, name: str, key: SearchKey) -> list[int]:
    """The matching UIDs, ascending. Raises ServerProtocolError for more than a mailbox can hold."""
    try:
        return list((await session.search(name, key)).numbers(MAX_UIDS))
    except ValueError:
        raise ServerProtocolError("The server names more messages than a mailbox can hold") from None


def search_key(scope: str, value: str, uids: Collection[int] | None = None) -> SearchKey:
    """The search key for a text. `scope` is "body", "text" or "header:Name". `uids` restricts it if they are few."""
    key = _text_key(scope, value)
    within = None if uids is None else SequenceSet.of(sorted(uids))
    if within is not None and len(within.ranges) <= SEARCHED_RANGES:
        return And((Numbers(within, is_uid=True), key))
    return key


def _text_key(scope: str, value: str) -> SearchKey:
    if scope.startswith("header:"):
        return HeaderMatch(scope.removeprefix("header:"), value)
    return TextMatch(TextField.BODY if scope == "body" else TextField.TEXT, value)
