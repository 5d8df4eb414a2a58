"""Rewrites events for tokens limited to some mailboxes: a move out of them is a deletion, a move in a creation.

Nothing names a mailbox that is not seen, not even where a message is in it and in one that is.
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
"""Members of an event's data that are ids or lists of ids."""


async def as_seen(reader: MailReader, submissions: Submissions, event: Event, caller: Caller) -> Event | None:
    """The event as a caller may see it; None where it may not see it at all.

    Without `mail.read` a caller gets ids and types. A limited token gets events of its mailboxes and senders.
    """
    if caller.sees_whole_account:
        seen: Event | None = event
    elif _is_of_submission(event):
        seen = event if await submissions.is_seen(event.account_id, event.subject, caller) else None
    else:
        seen = await _within(reader, event, caller.mailbox_ids)
    if seen is None or Scope.MAIL_READ in caller.scopes:
        return seen
    return _without_content(seen)


def _is_of_submission(event: Event) -> bool:
    kind = EVENTS.get(event.type)
    return kind is not None and kind.audience is Audience.SUBMISSION


def _without_content(event: Event) -> Event:
    data = _data(event)
    facts: dict[str, object] = {name: value for name, value in data.items() if name in _ID_FIELDS}
    if "message" in data:
        facts["message"] = {"view": "ids", "id": data["message"]["id"]}
    return _retold(event, event.type, facts)


async def _within(reader: MailReader, event: Event, visible: Collection[str] | None) -> Event | None:
    """The event for a caller that sees the mailboxes `visible` (None: all); None where it is not for that caller.

    A move out of sight is `message.deleted` with reason `moved`, one into sight is `message.created`, unless the
    message has left sight again since.
    """
    if visible is None:
        return event
    kind = EVENTS.get(event.type)
    show = _SHOWN_TO.get(kind.audience) if kind is not None else None
    return None if show is None else await show(reader, event, visible)


class Submissions(Protocol):
    """Knows whose a submission is."""

    async def is_seen(self, account_id: AccountId, submission_id: str, caller: Caller) -> bool: ...


def seen_mailboxes(mailboxes: Sequence[Mailbox], visible: Collection[str] | None) -> list[Mailbox]:
    """Those of an account's mailboxes that are seen. Their paths begin below the nearest one that is not."""
    if visible is None:
        return list(mailboxes)
    paths: dict[str, str] = {}
    for mailbox in sorted(mailboxes, key=lambda one: one.path.count(LEVEL)):
        if mailbox.id in visible:
            parent = paths.get(mailbox.parent_id or "")
            paths[mailbox.id] = mailbox.name if parent is None else parent + LEVEL + mailbox.name
    return [
        replace(item, path=paths[item.id], parent_id=item.parent_id if item.parent_id in paths else None)
        for item in mailboxes
        if item.id in paths
    ]


async def _mailbox_event(reader: MailReader, event: Event, visible: Collection[str]) -> Event | None:
    """With the path as it is seen; by its name alone where the mailbox is gone."""
    if event.mailbox_id not in visible:
        return None
    data = _data(event)
    seen = seen_mailboxes(await reader.mailboxes.mailboxes(event.account_id), visible)
    path = next(
        (mailbox.path for mailbox in seen if mailbox.id == event.mailbox_id and mailbox.name == data["name"]),
        data["name"],
    )
    return _retold(event, event.type, data | {"path": path})


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


async def seen_among(reader: MailReader, messages: Sequence[Message], visible: Collection[str] | None) -> list[Message]:
    """Those of the messages that are seen, each at a place where it is."""
    if visible is None:
        return list(messages)
    found = [await _at_seen_place(reader, message, visible) for message in messages]
    return [item for item in found if item is not None]


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
    seen = [id_ for id_ in _data(event).get("mailbox_ids", ()) if id_ in visible]
    return _retold(event, event.type, {"mailbox_ids": seen}) if seen else None


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
    return _retold(event, "message.moved", {"message_id": event.subject, "from": before, "to": after})


async def _is_thread_seen(reader: MailReader, event: Event, visible: Collection[str]) -> bool:
    members = (await reader.messages.threads(event.account_id, [event.subject]))[event.subject]
    return any(mailbox_id in visible for _, mailbox_ids in members for mailbox_id in mailbox_ids)


def _updated(event: Event, visible: Collection[str]) -> Event | None:
    data = _data(event)
    seen = [id_ for id_ in data.pop("mailbox_ids", ()) if id_ in visible]
    if not seen:
        return None
    told = replace(event, mailbox_id=seen[0], uid=None)
    return _retold(told, event.type, data | {"mailbox_id": seen[0], "mailbox_ids": seen})


async def _left(reader: MailReader, event: Event, mailbox_id: str) -> Event | None:
    try:
        mailbox = await reader.mailboxes.mailbox(event.account_id, mailbox_id)
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


async def _entered(reader: MailReader, event: Event, mailbox_id: str, visible: Collection[str]) -> Event | None:
    found = await seen_among(reader, await reader.messages.find(event.account_id, [event.subject]), visible)
    if not found:
        return None
    facts = {"mailbox_id": mailbox_id, "message": orjson.Fragment(shown_summary(found[0].summary))}
    uid = event.target_uid if event.target_mailbox_id == mailbox_id else None
    told = replace(event, mailbox_id=mailbox_id, uid=uid, target_mailbox_id=None, target_uid=None)
    return _retold(told, "message.created", facts)


def _data(event: Event) -> dict[str, Any]:
    data: dict[str, Any] = orjson.loads(event.body)["data"]
    return data


def _retold(event: Event, type_: str, facts: Mapping[str, object]) -> Event:
    body = orjson.loads(event.body)
    cause = {name: value for name, value in body["data"].items() if name == "caused_by"}
    body |= {"type": type_, "data": {"account_id": event.account_id, **facts, **cause}}
    return replace(event, type=type_, body=orjson.dumps(body))


_SHOWN_TO: dict[Audience, Callable[[MailReader, Event, Collection[str]], Awaitable[Event | None]]] = {
    Audience.MAILBOX: _of_mailbox,
    Audience.MAILBOX_PATH: _mailbox_event,
    Audience.MAILBOX_SUBJECT: _of_subject,
    Audience.MAILBOXES: _of_mailboxes,
    Audience.MOVE: _moved,
    Audience.SEVERAL: _of_several,
    Audience.THREAD: _of_thread,
    Audience.ACCOUNT: _always,
}
"""How an event is shown to callers that see some mailboxes; any other audience sees nothing of it."""
