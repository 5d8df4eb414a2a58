"""Events as told to one who sees only some mailboxes: what goes out of sight has ended, what comes into it begins."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import orjson

from app.errors import MailboxNotFound
from app.mailstore.index import Index
from app.mailstore.log import Event


async def as_seen(index: Index, event: Event, visible: Collection[str] | None) -> Event | None:
    """The event for one who sees the mailboxes `visible` (None: all); None where it is not for them.

    A move out of sight is `message.deleted` with reason `moved`, one into sight is `message.created`: neither names
    the mailbox that is not seen. What has left sight again meanwhile is not told of as having come.
    """
    if visible is None or event.mailbox_id is None:
        return event
    was_seen, is_seen = event.mailbox_id in visible, event.target_mailbox_id in visible
    if event.target_mailbox_id is None or was_seen == is_seen:
        return event if was_seen else None
    return await _left(index, event) if was_seen else await _entered(index, event, visible)


async def _left(index: Index, event: Event) -> Event | None:
    try:
        mailbox = await index.mailbox(event.account_id, str(event.mailbox_id))
    except MailboxNotFound:
        return None  # it has ended with all that was in it
    facts = {
        "message_id": event.subject,
        "mailbox_id": mailbox.id,
        "uid": event.uid,
        "uid_validity": mailbox.uid_validity,
        "reason": "moved",
    }
    told = replace(event, target_mailbox_id=None, target_uid=None)
    return _retold(told, "message.deleted", facts)


async def _entered(index: Index, event: Event, visible: Collection[str]) -> Event | None:
    found = await index.find(event.account_id, [event.subject])
    if not found or found[0].mailbox_id not in visible:
        return None
    facts = {"mailbox_id": event.target_mailbox_id, "message": orjson.Fragment(found[0].summary)}
    told = replace(event, mailbox_id=event.target_mailbox_id, uid=event.target_uid)
    return _retold(replace(told, target_mailbox_id=None, target_uid=None), "message.created", facts)


def _retold(event: Event, type_: str, facts: Mapping[str, object]) -> Event:
    body = orjson.loads(event.body) | {"type": type_, "data": {"account_id": event.account_id, **facts}}
    return replace(event, type=type_, body=orjson.dumps(body))
