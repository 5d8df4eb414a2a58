"""What one who sees only some mailboxes is told: what goes out of sight has ended, what comes into it begins.

Nothing names a mailbox that is not seen, not even where a message is in it and in one that is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from app.errors import MailboxNotFound
from app.mail.types import Message
from app.mailstore.index import Index
from app.mailstore.log import Event
from app.mailstore.rows import patched


async def as_seen(index: Index, event: Event, visible: Collection[str] | None) -> Event | None:
    """The event for one who sees the mailboxes `visible` (None: all); None where it is not for them.

    A move out of sight is `message.deleted` with reason `moved`, one into sight is `message.created`. What has left
    sight again meanwhile is not told of as having come.
    """
    if visible is not None and event.type == "thread.updated":
        return event if await _is_thread_seen(index, event, visible) else None
    if visible is None or event.mailbox_id is None:
        return event
    if event.type == "message.moved":
        return await _moved(index, event, visible)
    if event.type == "message.updated" and event.mailbox_id not in visible:
        return _updated(event, visible)
    return event if event.mailbox_id in visible else None


def mailboxes_of(event: Event) -> set[str]:
    """Every mailbox that an event of a message is about."""
    data = _data(event)
    named = (*data.get("from", ()), *data.get("to", ()), *data.get("mailbox_ids", ()), event.mailbox_id)
    return {id_ for id_ in named if id_ is not None}


def seen_summary(summary: bytes, visible: Collection[str] | None) -> bytes:
    """A prepared summary without the mailboxes that are not seen."""
    if visible is None:
        return summary
    mailbox_ids = orjson.loads(summary)["mailbox_ids"]
    seen = [id_ for id_ in mailbox_ids if id_ in visible]
    return summary if seen == mailbox_ids else patched(summary, mailbox_ids=seen)


async def seen_among(index: Index, messages: Sequence[Message], visible: Collection[str] | None) -> list[Message]:
    """Those of the messages that are seen, each at a place where it is."""
    if visible is None:
        return list(messages)
    found = [await _at_seen_place(index, one, visible) for one in messages]
    return [one for one in found if one is not None]


async def _at_seen_place(index: Index, message: Message, visible: Collection[str]) -> Message | None:
    for place, modseq in await index.places(message):
        if place.mailbox_id in visible:
            summary = seen_summary(message.summary, visible) if message.further else message.summary
            return replace(message, mailbox_id=place.mailbox_id, uid=place.uid, modseq=modseq, summary=summary)
    return None


async def _moved(index: Index, event: Event, visible: Collection[str]) -> Event | None:
    data = _data(event)
    before = [id_ for id_ in data["from"] if id_ in visible]
    after = [id_ for id_ in data["to"] if id_ in visible]
    if before == after:
        return None
    if not after:
        return await _left(index, event, before[0])
    if not before:
        return await _entered(index, event, after[0], visible)
    if (before, after) == (data["from"], data["to"]):
        return event
    return _retold(event, "message.moved", {"message_id": event.subject, "from": before, "to": after})


async def _is_thread_seen(index: Index, event: Event, visible: Collection[str]) -> bool:
    members = (await index.threads(event.account_id, [event.subject]))[event.subject]
    return any(mailbox_id in visible for _, mailbox_ids in members for mailbox_id in mailbox_ids)


def _updated(event: Event, visible: Collection[str]) -> Event | None:
    data = _data(event)
    seen = [id_ for id_ in data.pop("mailbox_ids", ()) if id_ in visible]
    if not seen:
        return None
    told = replace(event, mailbox_id=seen[0], uid=None)
    return _retold(told, event.type, data | {"mailbox_id": seen[0], "mailbox_ids": seen})


async def _left(index: Index, event: Event, mailbox_id: str) -> Event | None:
    try:
        mailbox = await index.mailbox(event.account_id, mailbox_id)
    except MailboxNotFound:
        return None  # it has ended with all that was in it
    uid = event.uid if event.mailbox_id == mailbox_id else None
    facts = {
        "message_id": event.subject,
        "mailbox_id": mailbox.id,
        "uid": uid,
        "uid_validity": mailbox.uid_validity,
        "reason": "moved",
    }
    told = replace(event, mailbox_id=mailbox_id, uid=uid, target_mailbox_id=None, target_uid=None)
    return _retold(told, "message.deleted", facts)


async def _entered(index: Index, event: Event, mailbox_id: str, visible: Collection[str]) -> Event | None:
    found = await seen_among(index, await index.find(event.account_id, [event.subject]), visible)
    if not found:
        return None
    facts = {"mailbox_id": mailbox_id, "message": orjson.Fragment(found[0].summary)}
    uid = event.target_uid if event.target_mailbox_id == mailbox_id else None
    told = replace(event, mailbox_id=mailbox_id, uid=uid, target_mailbox_id=None, target_uid=None)
    return _retold(told, "message.created", facts)


def _data(event: Event) -> dict[str, Any]:
    data: dict[str, Any] = orjson.loads(event.body)["data"]
    return data


def _retold(event: Event, type_: str, facts: Mapping[str, object]) -> Event:
    body = orjson.loads(event.body) | {"type": type_, "data": {"account_id": event.account_id, **facts}}
    return replace(event, type=type_, body=orjson.dumps(body))
