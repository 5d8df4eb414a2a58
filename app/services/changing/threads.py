"""Threads: list them by their newest messages, read one with its messages, and change all messages of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from app.errors import InvalidRequest, ThreadNotFound
from app.mail import filter as f
from app.mail.summaries import iso, shown_summary, thread_id_in
from app.mail.types import AccountId, ThreadId
from app.mailstore.conversations import Conversations, Member
from app.mailstore.reader import MailReader
from app.mailstore.reading.lists import NEWEST_FIRST, Listed
from app.services.access.callers import Caller
from app.services.access.visibility import seen_summary
from app.services.changing.bulk import Bulk, BulkResult, Deletion
from app.services.changing.messages import MessageChange
from app.services.reading.listing import Listing, ListPage, PreparedList, limited_to
from app.services.reading.texts import Texts

MEMBERS_LIMIT = 500
"""The most messages of a thread that are read: its newest."""
CHANGED_LIMIT = 10_000
"""The most messages of a thread that are changed at once."""
_SEARCHED_AT_ONCE = 200
_READ_AT_ONCE = 50
"""Threads whose messages are in memory at a time."""
_SUMMED_UP = ("mailbox_ids", "keywords")


@dataclass(frozen=True, slots=True)
class ThreadView:
    """A thread as JSON, and the summaries of its messages, oldest first."""

    content: bytes
    messages: list[bytes]


class Threads:
    """Reads and changes threads, limited to the messages that the caller sees."""

    def __init__(
        self, reader: MailReader, conversations: Conversations, listing: Listing, texts: Texts, bulk: Bulk
    ) -> None:
        self._reader = reader
        self._conversations = conversations
        self._listing = listing
        self._texts = texts
        self._bulk = bulk

    async def page(self, prepared: PreparedList) -> tuple[ListPage, list[bytes]]:
        """Return the threads of a page: those with a message that matches, by the newest such message.

        Raises InvalidRequest for an order other than newest first.
        """
        order, caller = prepared.order, prepared.caller
        if order.sort != NEWEST_FIRST:
            raise InvalidRequest.parameter("sort", "Threads can only be sorted by -received_at")
        tree = (await self._texts.answered(prepared.account_id, caller, limited_to(prepared.tree, caller))).tree
        total = None if order.count is None else await self._conversations.count(prepared.account_id, tree)
        page = self._listing.cut(prepared, await self._heads(prepared, tree), total)
        ids = [thread_id_in(message.summary) for message in page.items]
        contents: list[bytes] = []
        for begin in range(0, len(ids), _READ_AT_ONCE):
            threads = await self._read(prepared.account_id, caller, ids[begin : begin + _READ_AT_ONCE])
            contents += [thread.content for thread in threads]
        return page, contents

    async def thread(self, account_id: AccountId, caller: Caller, thread_id: str) -> ThreadView:
        """Return one thread, also by the id of a thread that was merged into it. Raises ThreadNotFound."""
        resolved = await self._conversations.resolve(account_id, thread_id)
        threads = await self._read(account_id, caller, [resolved])
        if not threads:
            raise ThreadNotFound
        return threads[0]

    async def change(self, account_id: AccountId, caller: Caller, thread_id: str, change: MessageChange) -> BulkResult:
        """Change every message of a thread. Raises ThreadNotFound, MailboxNotFound, Conflict."""
        return await self._bulk.change(account_id, caller, await self._ids(account_id, caller, thread_id), change)

    async def remove(self, account_id: AccountId, caller: Caller, thread_id: str, how: Deletion) -> BulkResult:
        """Move every message of a thread to Trash, or delete it permanently. Raises ThreadNotFound."""
        return await self._bulk.remove(account_id, caller, await self._ids(account_id, caller, thread_id), how)

    async def _heads(self, prepared: PreparedList, tree: f.Filter) -> list[Listed]:
        """Return the newest matching message of each thread: one more than shown, from the page's start."""
        limit, is_before = prepared.order.limit + 1, prepared.place.is_before
        anchor = prepared.place.anchor
        heads: list[Listed] = []
        newest: dict[str, str] = {}
        while len(heads) < limit:
            before, after = (anchor, None) if is_before else (None, anchor)
            listed = await self._reader.lists.search(
                prepared.account_id, tree, limit=_SEARCHED_AT_ONCE, after=after, before=before
            )
            unknown = {thread_id_in(message.summary) for message in listed} - newest.keys()
            newest |= await self._conversations.newest(prepared.account_id, tree, unknown)
            newest_listed = [
                message for message in listed if newest.get(thread_id_in(message.summary)) == message.anchor.id
            ]
            heads = [*newest_listed, *heads] if is_before else [*heads, *newest_listed]
            if len(listed) < _SEARCHED_AT_ONCE:
                break
            anchor = listed[0].anchor if is_before else listed[-1].anchor
        return heads[-limit:] if is_before else heads[:limit]

    async def _read(self, account_id: AccountId, caller: Caller, thread_ids: Sequence[ThreadId]) -> list[ThreadView]:
        tree = limited_to(f.All(()), caller)
        members = await self._conversations.members(account_id, tree, thread_ids, limit=MEMBERS_LIMIT)
        return [
            _thread(account_id, members[thread_id][::-1], caller) for thread_id in thread_ids if thread_id in members
        ]

    async def _ids(self, account_id: AccountId, caller: Caller, thread_id: str) -> list[str]:
        resolved = await self._conversations.resolve(account_id, thread_id)
        tree = limited_to(f.All(()), caller)
        members = await self._conversations.members(account_id, tree, [resolved], limit=CHANGED_LIMIT)
        if resolved not in members:
            raise ThreadNotFound
        return [member.id for member in members[resolved]]


def _thread(account_id: AccountId, members: Sequence[Member], caller: Caller) -> ThreadView:
    """Build a thread of its messages, oldest first."""
    summaries = [seen_summary(member.summary, caller.mailbox_ids) for member in members]
    messages = [orjson.loads(piece) for piece in summaries]
    unions = {name: sorted({value for item in messages for value in item[name]}) for name in _SUMMED_UP}
    participants = {address["address"].lower(): address for message in messages[::-1] for address in message["from"]}
    oldest, newest = members[0], members[-1]
    content = {
        "id": newest.thread_id,
        "account_id": account_id,
        "subject": messages[0]["subject"],
        "participants": list(participants.values())[::-1],
        "message_ids": [member.id for member in members],
        "message_count": newest.count,
        "unread_count": newest.unread,
        "mailbox_ids": unions["mailbox_ids"],
        "keywords": unions["keywords"],
        "has_attachments": any(item["has_attachments"] for item in messages),
        "preview": messages[-1]["preview"],
        "oldest_received_at": iso(oldest.received_at_ms),
        "newest_received_at": iso(newest.received_at_ms),
    }
    return ThreadView(orjson.dumps(content), [shown_summary(piece) for piece in summaries])
