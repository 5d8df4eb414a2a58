"""Sorts messages for SORT (RFC 5256 §3, RFC 5957), a few hundred at a time.

Each run of messages is sorted separately and the runs are merged, so that no step of the event loop is long. Texts are
compared by the first TEXT_LIMIT_BYTES of their folded form.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import orjson

from app.mail.searchable import fold
from app.mailstore.views import MessageValues
from app.mime.subject import base_subject
from app.servers.imap.merging import RUN_VALUES, Key, merged
from app.servers.imap.rows import read_rows
from app.servers.imap.session import ServerSession
from app.wire.imap.requests.sort import SortKey, SortTerm

TEXT_LIMIT_BYTES = 200
LARGE_FROM = 10_000
"""A SORT or THREAD of this many messages waits for its turn, because it holds a key of every message."""

Summary = Mapping[str, Any]
KeyMaker = Callable[[MessageValues, Summary], int | bytes]

_REVERSED = bytes(range(255, -1, -1))


def _text(text: str) -> bytes:
    """Return the sort key of a folded text: UTF-8 sorts in the order of code points."""
    return text.encode("utf-8", "replace")[:TEXT_LIMIT_BYTES]


def mailbox_of(summary: Summary, field: str) -> str:
    """Return the local part of the first address; "" if there is none."""
    addresses = summary[field]
    return str(addresses[0]["address"]).rpartition("@")[0] or str(addresses[0]["address"]) if addresses else ""


def display_of(summary: Summary, field: str) -> str:
    """Return the name of the first address, or the address if it has no name (RFC 5957 §2)."""
    addresses = summary[field]
    return str(addresses[0]["name"] or addresses[0]["address"]) if addresses else ""


def sent_at_ms(row: MessageValues) -> int:
    """Return the time of the Date field, or INTERNALDATE if it is invalid (RFC 5256 §2.2)."""
    return row.received_at_ms if row.date_ms is None else row.date_ms


_KEYS: dict[SortKey, tuple[tuple[str, ...], KeyMaker]] = {
    SortKey.ARRIVAL: (("received_at_ms",), lambda row, _: row.received_at_ms),
    SortKey.DATE: (("received_at_ms", "date_ms"), lambda row, _: sent_at_ms(row)),
    SortKey.SIZE: (("size_bytes",), lambda row, _: row.size_bytes),
    SortKey.SUBJECT: (("subject_folded",), lambda row, _: _text(base_subject(row.subject_folded)[0])),
    SortKey.FROM: (("summary",), lambda _, summary: _text(fold(mailbox_of(summary, "from")))),
    SortKey.TO: (("summary",), lambda _, summary: _text(fold(mailbox_of(summary, "to")))),
    SortKey.CC: (("summary",), lambda _, summary: _text(fold(mailbox_of(summary, "cc")))),
    SortKey.DISPLAY_FROM: (("summary",), lambda _, summary: _text(fold(display_of(summary, "from")))),
    SortKey.DISPLAY_TO: (("summary",), lambda _, summary: _text(fold(display_of(summary, "to")))),
}
"""The columns that a key needs, and the function that builds it."""


def reverse(key: int | bytes) -> int | bytes:
    """Return a key that sorts in reverse."""
    return -key if isinstance(key, int) else key.translate(_REVERSED) + b"\xff"


def columns_of(terms: Sequence[SortTerm]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(("uid", *(column for term in terms for column in _KEYS[term.key][0]))))


def key_of(terms: Sequence[SortTerm], row: MessageValues, summary: Summary) -> Key:
    """Return a message's sort key; equal messages sort in mailbox order."""
    keys = [_KEYS[term.key][1](row, summary) for term in terms]
    return (*[reverse(key) if term.is_reverse else key for term, key in zip(terms, keys, strict=True)], row.uid)


@asynccontextmanager
async def large_sort(session: ServerSession, messages: int) -> AsyncIterator[None]:
    """Wait for a turn if there are many messages: few sessions sort many messages at once."""
    async with session.services.large_sorts if messages > LARGE_FROM else nullcontext():
        yield


async def sort_uids(session: ServerSession, uids: Sequence[int], terms: Sequence[SortTerm]) -> array[int]:
    """Return the UIDs of the messages that exist, in order."""
    async with large_sort(session, len(uids)):
        return await _sorted(session, uids, terms)


async def _sorted(session: ServerSession, uids: Sequence[int], terms: Sequence[SortTerm]) -> array[int]:
    columns = columns_of(terms)
    has_summary = "summary" in columns
    runs: list[list[Key]] = []
    async for rows in read_rows(session, uids, columns):
        for start in range(0, len(rows), RUN_VALUES):
            run_rows = rows[start : start + RUN_VALUES]
            runs.append(
                sorted([key_of(terms, row, orjson.loads(row.summary) if has_summary else {}) for row in run_rows])
            )
            await session.pace.spend(len(run_rows) * len(terms))
    order = array("I")
    async for *_, uid in merged(runs, session.pace):
        assert isinstance(uid, int)
        order.append(uid)
    return order
