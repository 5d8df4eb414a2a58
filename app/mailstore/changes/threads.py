"""Assigns messages to threads, and merges threads. The result does not depend on the order in which messages arrive.

Messages are in one thread if the server says so (THREADID of RFC 8474, X-GM-THRID). On other servers they are if one
names the other, or both name a third, in Message-ID, References or In-Reply-To (RFC 5256 §3, steps 1 to 4). A reply
that names none is matched by its subject and correspondents (step 5, but narrower: equal base subjects alone would
make one thread of every "Invoice"). If two threads turn out to be one, the older id is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import BindParameter, and_, bindparam, func, select, update

from app.db.session import Statement, insert_or, is_one_of, json_list
from app.db.tables import MESSAGE, THREAD_ALIAS, THREAD_LINK
from app.mail.delta import Arrived
from app.mail.events import ThreadUpdated
from app.mail.identifiers import new_id
from app.mail.searchable import fold
from app.mail.storable import KEY_BYTES, storable
from app.mail.summaries import patched
from app.mail.types import Address, ThreadId
from app.mailstore.changes.context import ChangeContext
from app.mime.subject import base_subject

REFERENCES_LIMIT = 50
"""How many of a message's references are used for threading: its nearest ancestors."""
ANSWERED_WITHIN_MS = 14 * 24 * 3600 * 1000
"""A reply that names no message must arrive within this time after the original."""
CANDIDATES_LIMIT = 200
MERGED_LIMIT = 20_000
"""The most messages that one change moves to other threads; a larger thread stays separate, to keep changes short."""
_ESCAPE = "\\"

_ACCOUNT: BindParameter[str] = bindparam("account_id")
_LINKS: Statement = (
    select(THREAD_LINK.c.message_id_header, func.coalesce(THREAD_ALIAS.c.into_id, THREAD_LINK.c.thread_id))
    .outerjoin(
        THREAD_ALIAS,
        and_(
            THREAD_ALIAS.c.account_id == THREAD_LINK.c.account_id,
            THREAD_ALIAS.c.thread_id == THREAD_LINK.c.thread_id,
        ),
    )
    .where(THREAD_LINK.c.account_id == _ACCOUNT, is_one_of(THREAD_LINK.c.message_id_header, bindparam("headers")))
)
_ADD_LINK: Statement = insert_or(THREAD_LINK).on_conflict_do_nothing()
_ADD_ALIAS: Statement = insert_or(THREAD_ALIAS).on_conflict_do_nothing()
_LEAD_ON: Statement = (
    update(THREAD_ALIAS)
    .where(THREAD_ALIAS.c.account_id == _ACCOUNT, THREAD_ALIAS.c.into_id == bindparam("old_id"))
    .values(into_id=bindparam("new_id"))
)
_OF_THREAD: Statement = select(MESSAGE.c.id, MESSAGE.c.summary).where(
    MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.thread_id == bindparam("thread_id")
)
_SET_THREAD: Statement = (
    update(MESSAGE)
    .where(MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.id == bindparam("key"))
    .values({name: bindparam("seq") for name in ("version", "other_seq", "changed_seq")})
    .values(thread_id=bindparam("thread_id"), summary=bindparam("summary"))
)
_ALIKE: Statement = (
    select(MESSAGE.c.thread_id, MESSAGE.c.received_at_ms, MESSAGE.c.summary)
    .where(
        MESSAGE.c.account_id == _ACCOUNT,
        MESSAGE.c.received_at_ms.between(bindparam("from_ms"), bindparam("to_ms")),
        MESSAGE.c.subject_folded.like(bindparam("ending"), escape=_ESCAPE),
    )
    .order_by(MESSAGE.c.received_at_ms)
    .limit(CANDIDATES_LIMIT)
)
_SOME: Statement = (
    select(MESSAGE.c.id)
    .where(MESSAGE.c.account_id == _ACCOUNT, MESSAGE.c.thread_id == bindparam("thread_id"))
    .limit(bindparam("limit"))
)
"""Up to some number of messages of a thread."""


@dataclass(frozen=True, slots=True)
class _Unreferenced:
    """A message that references no other, and the data by which its subject may match a reply."""

    base: str
    is_answer: bool
    received_at_ms: int
    authors: frozenset[str]
    recipients: frozenset[str]

    @property
    def mark(self) -> str:
        """The key that records that such a reply exists; no Message-ID begins with a space."""
        return storable(f" re:{self.base}", KEY_BYTES)

    def answers(self, other: _Unreferenced) -> bool:
        """Whether this is a reply by a recipient of the other to its author."""
        after_ms = self.received_at_ms - other.received_at_ms
        return (
            (self.is_answer, other.is_answer, self.base) == (True, False, other.base)
            and 0 <= after_ms <= ANSWERED_WITHIN_MS
            and not self.authors.isdisjoint(other.recipients)
            and not self.recipients.isdisjoint(other.authors)
        )


class ThreadAssignment:
    """Assigns threads within one change of an account's mail."""

    def __init__(self, ledger: ChangeContext) -> None:
        self._ledger = ledger
        self._into: dict[ThreadId, ThreadId] = {}
        """Threads that were merged into another in this change."""
        self._stored: set[ThreadId] = set()
        """The threads of before this change that it reads."""
        self._announced: set[ThreadId] = set()

    async def assign(self, arrived: Sequence[Arrived]) -> list[ThreadId]:
        """Return a thread for each message, and merge threads that these messages connect."""
        keys = [_keys(arrival) for arrival in arrived]
        unreferenced = [_unreferenced(arrival) for arrival in arrived]
        marks = {item.mark for item in unreferenced if item is not None}
        known = await self._links({key for item in keys for key in item} | marks)
        self._stored.update(known.values())
        links = dict(known)
        threads = [self._thread_of(item, links) for item in keys]
        await self._tie_by_subject(unreferenced, threads, known)
        for message, thread in zip(unreferenced, threads, strict=True):
            if message is not None and message.is_answer:
                links.setdefault(message.mark, thread)
        fresh = [
            {"account_id": self._ledger.account_id, "message_id_header": key, "thread_id": self._root(thread)}
            for key, thread in links.items()
            if key not in known
        ]
        if fresh:
            await self._ledger.tx.execute_many(_ADD_LINK, fresh)
        await self._merge()
        return [self._root(item) for item in threads]

    async def announce(self) -> None:
        """Emit one event for each changed thread of several messages."""
        for thread_id, has_lost in self._ledger.threads.items():
            if thread_id in self._announced:
                continue
            rows = await self._ledger.rows(_SOME, thread_id=thread_id, limit=2)
            if len(rows) > 1 or (rows and has_lost):
                self._ledger.event(ThreadUpdated(thread_id, []), thread_id)

    # ---- by Message-IDs

    async def _links(self, keys: set[str]) -> dict[str, ThreadId]:
        if not keys:
            return {}
        values = json_list(list(keys))
        rows = await self._ledger.rows(_LINKS, headers=values)
        return {header: ThreadId(thread_id) for header, thread_id in rows}

    def _thread_of(self, keys: Iterable[str], links: dict[str, ThreadId]) -> ThreadId:
        """Return the thread of all these keys from now on, merging theirs."""
        threads = {self._root(links[key]) for key in keys if key in links}
        thread = min(threads) if threads else ThreadId(new_id("thr"))
        for item in threads:
            self._join(item, thread)
        for key in keys:
            links.setdefault(key, thread)
        return thread

    def _root(self, thread: ThreadId) -> ThreadId:
        while thread in self._into:
            thread = self._into[thread]
        return thread

    def _join(self, item: ThreadId, other: ThreadId) -> None:
        older, younger = sorted((self._root(item), self._root(other)))
        if older != younger:
            self._into[younger] = older

    # ---- by subjects

    async def _tie_by_subject(
        self, unreferenced: Sequence[_Unreferenced | None], threads: Sequence[ThreadId], known: dict[str, ThreadId]
    ) -> None:
        among: dict[tuple[str, bool], list[tuple[_Unreferenced, ThreadId]]] = {}
        for message, thread in zip(unreferenced, threads, strict=True):
            if message is None:
                continue
            others = among.get((message.mark, not message.is_answer), [])
            stored = await self._alike(message) if message.is_answer or message.mark in known else []
            for other, its in (*others[-CANDIDATES_LIMIT:], *stored):
                if message.answers(other) or other.answers(message):
                    self._join(thread, its)
            among.setdefault((message.mark, message.is_answer), []).append((message, thread))

    async def _alike(self, unreferenced: _Unreferenced) -> list[tuple[_Unreferenced, ThreadId]]:
        """Return messages in the time window that name no other and have the same base subject."""
        before, after = (ANSWERED_WITHIN_MS, 0) if unreferenced.is_answer else (0, ANSWERED_WITHIN_MS)
        rows = await self._ledger.rows(
            _ALIKE,
            from_ms=unreferenced.received_at_ms - before,
            to_ms=unreferenced.received_at_ms + after,
            ending="%" + re.sub(r"([%_\\])", r"\\\1", unreferenced.base),
        )
        candidates = [
            (_unreferenced_in(received_at_ms, orjson.loads(summary)), thread)
            for thread, received_at_ms, summary in rows
        ]
        self._stored.update(ThreadId(thread) for thread, _, _ in rows)
        return [(other, ThreadId(thread)) for other, thread in candidates if other is not None]

    # ---- merging threads

    async def _merge(self) -> None:
        """Record which threads ended, and emit events for those that had messages."""
        await self._keep_large_apart()
        ended: dict[ThreadId, list[ThreadId]] = {}
        for item in sorted(self._stored):
            if self._root(item) != item:
                ended.setdefault(self._root(item), []).append(item)
        for thread, old in ended.items():
            await self._end(thread, old)

    async def _keep_large_apart(self) -> None:
        """Do not merge threads with too many messages to move in one transaction."""
        remaining = MERGED_LIMIT
        for item in sorted(self._stored):
            if self._root(item) == item:
                continue
            rows = await self._ledger.rows(_SOME, thread_id=item, limit=remaining + 1)
            if len(rows) > remaining:
                del self._into[item]
            else:
                remaining -= len(rows)

    async def _end(self, thread: ThreadId, old: Sequence[ThreadId]) -> None:
        moved = [row for item in old for row in await self._ledger.rows(_OF_THREAD, thread_id=item)]
        if moved:
            seq = self._ledger.event(ThreadUpdated(thread, list(old)), thread)
            self._announced.add(thread)
            values = [
                {
                    "account_id": self._ledger.account_id,
                    "key": id_,
                    "seq": seq,
                    "thread_id": thread,
                    "summary": patched(summary, thread_id=thread),
                }
                for id_, summary in moved
            ]
            await self._ledger.tx.execute_many(_SET_THREAD, values)
        for item in old:
            await self._ledger.execute(_LEAD_ON, old_id=item, new_id=thread)
            await self._ledger.execute(_ADD_ALIAS, thread_id=item, into_id=thread)


def _keys(arrival: Arrived) -> list[str]:
    """Return the thread keys of a message: the origin's thread id, or its Message-ID and those of its ancestors."""
    if arrival.origin_thread_id is not None:
        return [storable(f" {arrival.origin_thread_id}", KEY_BYTES)]
    overview = arrival.overview
    own = [overview.message_id_header] if overview.message_id_header else []
    ancestors = [*reversed(overview.references[-REFERENCES_LIMIT:]), *overview.in_reply_to[:REFERENCES_LIMIT]]
    return list(dict.fromkeys(storable(header, KEY_BYTES) for header in [*own, *ancestors]))


def _unreferenced(arrival: Arrived) -> _Unreferenced | None:
    overview = arrival.overview
    if arrival.origin_thread_id is not None or overview.references or overview.in_reply_to:
        return None
    base, is_answer = base_subject(overview.subject)
    if not base:
        return None
    authors = frozenset(_spelled(overview.from_))
    recipients = frozenset(_spelled((*overview.to, *overview.cc)))
    return _Unreferenced(fold(base), is_answer, arrival.received_at_ms, authors, recipients)


def _spelled(addresses: Iterable[Address]) -> Iterable[str]:
    return (item.address.lower() for item in addresses)


def _unreferenced_in(received_at_ms: int, summary: dict[str, Any]) -> _Unreferenced | None:
    base, is_answer = base_subject(summary["subject"])
    if summary["references"] or summary["in_reply_to"] or not base:
        return None
    authors = frozenset(item["address"].lower() for item in summary["from"])
    recipients = frozenset(item["address"].lower() for item in (*summary["to"], *summary["cc"]))
    return _Unreferenced(fold(base), is_answer, received_at_ms, authors, recipients)
