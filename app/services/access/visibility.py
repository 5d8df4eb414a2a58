"""Rewrites events for tokens limited to some mailboxes: a move out of them is a deletion, a move in a creation.

No event names a mailbox that the caller cannot see, not even if a message is both in that mailbox and in a visible
one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import orjson

from app.errors import MailboxNotFound
from app.mail.event_log import Event
from app.mail.events import EVENTS, Audience
from app.mail.summaries import patched, shown_summary
from app.mail.types import AccountId, Mailbox, Message
from app.mailstore.reader import MailReader
from app.services.access.callers import Caller, Scope

LEVEL = "/"
"""The separator of paths in the API, independent of the mail server's delimiter."""
_ID_FIELDS = frozenset(
    {"account_id", "mailbox_id", "mailbox_ids", "message_id", "from", "to", "thread_id", "merged", "submission_id"}
)
"""Fields of an event's data that are ids or lists of ids."""


async def as_seen(reader: MailReader, submissions: SubmissionReader, event: Event, caller: Caller) -> Event | None:
    """Return the event as a caller may see it; None if it may not see it at all.

    Without `mail.read` a caller gets only ids and types. A limited token gets the events of its mailboxes and
    senders.
    """
    if caller.sees_whole_account:
        visible_event: Event | None = event
    elif _is_of_submission(event):
        visible_event = event if await submissions.is_seen(event.account_id, event.subject, caller) else None
    else:
        visible_event = await _within(reader, event, caller.mailbox_ids)
    if visible_event is None or Scope.MAIL_READ in caller.scopes:
        return visible_event
    return _without_content(visible_event)


def _is_of_submission(event: Event) -> bool:
    kind = EVENTS.get(event.type)
    return kind is not None and kind.audience is Audience.SUBMISSION


def _without_content(event: Event) -> Event:
    data = _data(event)
    facts: dict[str, object] = {name: value for name, value in data.items() if name in _ID_FIELDS}
    if "message" in data:
        facts["message"] = {"view": "ids", "id": data["message"]["id"]}
    return _rewritten(event, event.type, facts)


async def _within(reader: MailReader, event: Event, visible: Collection[str] | None) -> Event | None:
    """Return the event for a caller that sees the mailboxes `visible` (None: all); None if it is not for that caller.

    A move to a hidden mailbox is `message.deleted` with reason `moved`. A move from one is `message.created`, unless
    the message is hidden again by now.
    """
    if visible is None:
        return event
    kind = EVENTS.get(event.type)
    show = _REWRITES.get(kind.audience) if kind is not None else None
    return None if show is None else await show(reader, event, visible)


class SubmissionReader(Protocol):
    """Knows which submissions a caller may see."""

    async def is_seen(self, account_id: AccountId, submission_id: str, caller: Caller) -> bool: ...


def seen_mailboxes(mailboxes: Sequence[Mailbox], visible: Collection[str] | None) -> list[Mailbox]:
    """Return the visible ones of an account's mailboxes. Their paths begin below the nearest hidden parent."""
    if visible is None:
        return list(mailboxes)
    paths: dict[str, str] = {}
    for mailbox in sorted(mailboxes, key=lambda item: item.path.count(LEVEL)):
        if mailbox.id in visible:
            parent = paths.get(mailbox.parent_id or "")
            paths[mailbox.id] = mailbox.name if parent is None else parent + LEVEL + mailbox.name
    return [
        replace(item, path=paths[item.id], parent_id=item.parent_id if item.parent_id in paths else None)
        for item in mailboxes
        if item.id in paths
    ]


async def _mailbox_event(reader: MailReader, event: Event, visible: Collection[str]) -> Event | None:
    """Return the event with the path as the caller sees it; only the name if the mailbox was deleted."""
    if event.mailbox_id not in visible:
        return None
    data = _data(event)
    mailboxes = seen_mailboxes(await reader.mailboxes.mailboxes(event.account_id), visible)
    path = next(
        (mailbox.path for mailbox in mailboxes if mailbox.id == event.mailbox_id and mailbox.name == data["name"]),
        data["name"],
    )
    return _rewritten(event, event.type, data | {"path": path})


def mailboxes_of(event: Event) -> set[str]:
    """Return every mailbox that a message event names."""
    data = _data(event)
    named = (*data.get("from", ()), *data.get("to", ()), *data.get("mailbox_ids", ()), event.mailbox_id)
    return {id_ for id_ in named if id_ is not None}


def seen_summary(summary: bytes, visible: Collection[str] | None) -> bytes:
    """Return a prepared summary without the hidden mailboxes."""
    if visible is None:
        return summary
    mailbox_ids = orjson.loads(summary)["mailbox_ids"]
    visible_ids = [id_ for id_ in mailbox_ids if id_ in visible]
    return summary if visible_ids == mailbox_ids else patched(summary, mailbox_ids=visible_ids)


async def seen_among(reader: MailReader, messages: Sequence[Message], visible: Collection[str] | None) -> list[Message]:
    """Return the visible ones of the messages, each at a visible placement."""
    if visible is None:
        return list(messages)
    placed = [await _at_seen_place(reader, message, visible) for message in messages]
    return [item for item in placed if item is not None]


async def _at_seen_place(reader: MailReader, message: Message, visible: Collection[str]) -> Message | None:
    for place, modseq in await reader.messages.places(message):
        if place.mailbox_id in visible:
            summary = seen_summary(message.summary, visible) if message.further else message.summary
            return replace(message, mailbox_id=place.mailbox_id, uid=place.uid, modseq=modseq, summary=summary)
    return None


async def _always(_: MailReader, event: Event, __: Collection[str]) -> Event:
    return event


async def _of_mailbox(_: MailReader, event: Event, visible: Collection[str]) -> Event | None:
    return event if event.mailbox_id in visible else None


async def _of_subject(_: MailReader, event: Event, visible: Collection[str]) -> Event | None:
    return event if event.subject in visible else None


async def _of_mailboxes(_: MailReader, event: Event, visible: Collection[str]) -> Event | None:
    visible_ids = [id_ for id_ in _data(event).get("mailbox_ids", ()) if id_ in visible]
    return _rewritten(event, event.type, {"mailbox_ids": visible_ids}) if visible_ids else None


async def _of_several(_: MailReader, event: Event, visible: Collection[str]) -> Event | None:
    return event if event.mailbox_id in visible else _updated(event, visible)


async def _of_thread(reader: MailReader, event: Event, visible: Collection[str]) -> Event | None:
    return event if await _is_thread_seen(reader, event, visible) else None


async def _moved(reader: MailReader, event: Event, visible: Collection[str]) -> Event | None:
    data = _data(event)
    before = [id_ for id_ in data["from"] if id_ in visible]
    after = [id_ for id_ in data["to"] if id_ in visible]
    if before == after:
        return None
    if not after:
        return await _left(reader, event, before[0])
    if not before:
        return await _entered(reader, event, after[0], visible)
    if (before, after) == (data["from"], data["to"]):
        return event
    return _rewritten(event, "message.moved", {"message_id": event.subject, "from": before, "to": after})


async def _is_thread_seen(reader: MailReader, event: Event, visible: Collection[str]) -> bool:
    members = (await reader.messages.threads(event.account_id, [event.subject]))[event.subject]
    return any(mailbox_id in visible for _, mailbox_ids in members for mailbox_id in mailbox_ids)


def _updated(event: Event, visible: Collection[str]) -> Event | None:
    data = _data(event)
    visible_ids = [id_ for id_ in data.pop("mailbox_ids", ()) if id_ in visible]
    if not visible_ids:
        return None
    located = replace(event, mailbox_id=visible_ids[0], uid=None)
    return _rewritten(located, event.type, data | {"mailbox_id": visible_ids[0], "mailbox_ids": visible_ids})


async def _left(reader: MailReader, event: Event, mailbox_id: str) -> Event | None:
    try:
        mailbox = await reader.mailboxes.mailbox(event.account_id, mailbox_id)
    except MailboxNotFound:
        return None  # the deletion of the mailbox covers its messages
    uid = event.uid if event.mailbox_id == mailbox_id else None
    facts = {
        "message_id": event.subject,
        "mailbox_id": mailbox.id,
        "uid": uid,
        "uid_validity": mailbox.uid_validity,
        "reason": "moved",
    }
    located = replace(event, mailbox_id=mailbox_id, uid=uid, target_mailbox_id=None, target_uid=None)
    return _rewritten(located, "message.deleted", facts)


async def _entered(reader: MailReader, event: Event, mailbox_id: str, visible: Collection[str]) -> Event | None:
    messages = await seen_among(reader, await reader.messages.find(event.account_id, [event.subject]), visible)
    if not messages:
        return None
    facts = {"mailbox_id": mailbox_id, "message": orjson.Fragment(shown_summary(messages[0].summary))}
    uid = event.target_uid if event.target_mailbox_id == mailbox_id else None
    located = replace(event, mailbox_id=mailbox_id, uid=uid, target_mailbox_id=None, target_uid=None)
    return _rewritten(located, "message.created", facts)


def _data(event: Event) -> dict[str, Any]:
    data: dict[str, Any] = orjson.loads(event.body)["data"]
    return data


def _rewritten(event: Event, type_: str, facts: Mapping[str, object]) -> Event:
    body = orjson.loads(event.body)
    cause = {name: value for name, value in body["data"].items() if name == "caused_by"}
    body |= {"type": type_, "data": {"account_id": event.account_id, **facts, **cause}}
    return replace(event, type=type_, body=orjson.dumps(body))


_REWRITES: dict[Audience, Callable[[MailReader, Event, Collection[str]], Awaitable[Event | None]]] = {
    Audience.MAILBOX: _of_mailbox,
    Audience.MAILBOX_PATH: _mailbox_event,
    Audience.MAILBOX_SUBJECT: _of_subject,
    Audience.MAILBOXES: _of_mailboxes,
    Audience.MOVE: _moved,
    Audience.SEVERAL: _of_several,
    Audience.THREAD: _of_thread,
    Audience.ACCOUNT: _always,
}
"""How an event is rewritten for callers that see some mailboxes; events of other audiences are hidden."""
