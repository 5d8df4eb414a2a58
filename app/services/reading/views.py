"""The parts of a message in an answer: its view, single fields of it, and further data to include."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import orjson

from app.errors import InvalidRequest
from app.mail.filter import All, Filter
from app.mail.nearest import unknown
from app.mail.storable import json_bytes
from app.mail.summaries import shown_summary
from app.mail.types import AccountId, Message
from app.mailstore.reader import MailReader
from app.mailstore.reading.lists import Listed
from app.mime.sanitise import Images, Look, Quotes
from app.services.access.callers import Caller
from app.services.access.links import Links
from app.services.access.visibility import seen_summary
from app.services.reading.concurrency import together
from app.services.reading.content import Content
from app.services.reading.highlights import Highlights
from app.services.reading.rendering import PLAIN_LOOK

ViewName = Literal["ids", "summary", "full"]
ImagesName = Literal["block", "inline", "proxy"]
QuotesName = Literal["keep", "fold"]

FULL_LIMIT = 100
"""The most messages of one answer with their bodies."""
ACCOUNTS_AT_A_TIME = 16
FULL_AT_A_TIME = 4
INCLUDES_LIMIT = 20
FIELDS_LIMIT = 100

_ADDRESS: dict[str, Any] = {"name": None, "address": None}
_SUMMARY: dict[str, Any] = {
    **dict.fromkeys(("view", "id", "account_id", "mailbox_ids", "thread_id", "subject")),
    **dict.fromkeys(("from", "to", "cc", "reply_to"), _ADDRESS),
    **dict.fromkeys(("date", "received_at", "preview", "keywords", "size_bytes", "has_attachments")),
    **dict.fromkeys(("message_id_header", "in_reply_to", "references", "on_server")),
}
_ATTACHMENT = dict.fromkeys(("id", "part", "filename", "content_type", "size_bytes", "disposition", "content_id"))
_INVITATION: dict[str, Any] = {
    **dict.fromkeys(("method", "uid", "sequence", "status", "summary", "description", "location")),
    **dict.fromkeys(("starts_at", "ends_at", "is_all_day", "time_zone", "recurrence")),
    "organizer": _ADDRESS,
    "attendees": dict.fromkeys(("name", "address", "status", "is_optional")),
}
_FULL: dict[str, Any] = {
    **_SUMMARY,
    "bcc": _ADDRESS,
    **dict.fromkeys(("text", "html")),
    "invitation": _INVITATION,
    "attachments": _ATTACHMENT,
    "locations": dict.fromkeys(("mailbox_id", "uid", "uid_validity")),
    "problems": None,
}
_FIELDS: dict[str, dict[str, Any]] = {"ids": {"view": None, "id": None}, "summary": _SUMMARY, "full": _FULL}
_ADDED_BY_FULL = _FULL.keys() - _SUMMARY.keys()
_READ_FOR = frozenset({"text", "html", "invitation", "problems"})
"""Fields for which the text of a message is read."""
_INCLUSIONS = ("thread", "highlights", "headers:Name")
_HEADER_NAME = re.compile(r"[!-9;-~]{1,76}")


@dataclass(frozen=True, slots=True)
class View:
    """What an answer shows. `fields` None means the whole view; `headers` are names of header fields to include.

    `look` is how HTML is shown.
    """

    name: ViewName = "summary"
    fields: tuple[tuple[str, ...], ...] | None = None
    headers: tuple[str, ...] = ()
    has_thread: bool = False
    has_highlights: bool = False
    """Added by a search, which knows the terms."""
    look: Look = PLAIN_LOOK

    @property
    def is_prepared(self) -> bool:
        """Whether the summaries of the index are the answer, unchanged."""
        return self.name == "summary" and self.fields is None and not (self.headers or self.has_thread)

    @property
    def needs_full(self) -> bool:
        return self.name == "full" and (self.fields is None or any(field[0] in _ADDED_BY_FULL for field in self.fields))

    @property
    def is_full(self) -> bool:
        """Whether it is the whole full view and nothing else."""
        return self.name == "full" and self.fields is None and not (self.headers or self.has_thread)

    @property
    def is_limited(self) -> bool:
        """Whether an answer shows at most FULL_LIMIT messages."""
        return self.needs_full or bool(self.headers)

    @property
    def needs_body(self) -> bool:
        return self.fields is None or any(field[0] in _READ_FOR for field in self.fields)


SUMMARY = View()
ALL = All(())


@lru_cache(maxsize=256)
def view_of(
    name: ViewName,
    fields: str | None = None,
    include: str | None = None,
    images: ImagesName = "block",
    quotes: QuotesName = "keep",
) -> View:
    """Parse a view from its query parameters. Raises InvalidRequest for an unknown field or inclusion."""
    headers, others = _included(include)
    paths = None if fields is None else _fields(name, fields)
    return View(name, paths, headers, "thread" in others, "highlights" in others, Look(Images(images), Quotes(quotes)))


def _fields(name: ViewName, text: str) -> tuple[tuple[str, ...], ...]:
    paths = [tuple(item.strip().split(".")) for item in text.split(",") if item.strip()]
    if len(paths) > FIELDS_LIMIT:
        raise InvalidRequest.parameter("fields", f"At most {FIELDS_LIMIT} fields are allowed")
    for path in paths:
        known: dict[str, Any] | None = _FIELDS[name]
        for step in path:
            if known is None or step not in known:
                raise InvalidRequest.parameter("fields", unknown("field", ".".join(path), _paths(_FIELDS[name])))
            known = known[step]
    return tuple(paths)


def _paths(tree: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the dotted paths of all fields."""
    for name, below in tree.items():
        yield above + name
        yield from _paths(below or {}, f"{above}{name}.")


def _included(text: str | None) -> tuple[tuple[str, ...], set[str]]:
    headers: list[str] = []
    others: set[str] = set()
    for item in (text or "").split(","):
        kind, _, name = item.strip().partition(":")
        if kind == "headers" and _HEADER_NAME.fullmatch(name):
            headers.append(name)
        elif item.strip() in ("thread", "highlights"):
            others.add(item.strip())
        elif item.strip():
            raise InvalidRequest.parameter("include", unknown("inclusion", item.strip(), _INCLUSIONS))
    if len(headers) > INCLUDES_LIMIT:
        raise InvalidRequest.parameter("include", f"At most {INCLUDES_LIMIT} headers are allowed")
    return tuple(headers), others


class Views:
    """Renders messages as JSON objects."""

    def __init__(self, reader: MailReader, content: Content, links: Links, highlights: Highlights) -> None:
        self._reader = reader
        self._content = content
        self._links = links
        self._highlights = highlights

    async def listed(
        self,
        account_id: AccountId,
        caller: Caller,
        found: Sequence[Listed],
        view: View,
        tree: Filter = ALL,
    ) -> list[bytes]:
        """Return the objects of a list, in its order, omitting messages removed meanwhile.

        `tree`: the list's filter.
        """
        if view.is_prepared:
            items = [shown_summary(seen_summary(message.summary, caller.mailbox_ids)) for message in found]
        elif view.name == "ids" and not (view.headers or view.has_thread):
            items = [b'{"view":"ids","id":"' + message.anchor.id.encode() + b'"}' for message in found]
        elif not (view.needs_full or view.headers or view.has_thread):
            summaries = [shown_summary(seen_summary(message.summary, caller.mailbox_ids)) for message in found]
            items = [json_bytes(_projected(orjson.loads(piece), view)) for piece in summaries]
        else:
            messages = await self._content.messages(account_id, caller, [message.anchor.id for message in found])
            existing = {message.id for message in messages}
            found = [message for message in found if message.anchor.id in existing]
            items = await self.rendered(account_id, caller, messages, view)
        return await self._highlights.added(items, account_id, found, tree) if view.has_highlights else items

    async def listed_across(
        self, caller: Caller, found: Sequence[tuple[AccountId, Listed]], view: View, tree: Filter
    ) -> list[bytes]:
        """Like `listed`, for messages of several accounts."""
        by_account: dict[AccountId, list[Listed]] = {}
        for account_id, message in found:
            by_account.setdefault(account_id, []).append(message)
        rendered = await together(
            (self.listed(id_, caller, messages, view, tree) for id_, messages in by_account.items()),
            ACCOUNTS_AT_A_TIME,
        )
        items_of = {id_: iter(items) for id_, items in zip(by_account, rendered, strict=True)}
        return [item for account_id, _ in found if (item := next(items_of[account_id], None)) is not None]

    async def rendered(
        self, account_id: AccountId, caller: Caller, messages: Sequence[Message], view: View
    ) -> list[bytes]:
        """Return the objects of these messages, in order. Raises InvalidRequest for too many with their bodies."""
        if view.is_prepared:
            return [shown_summary(message.summary) for message in messages]
        if view.is_limited and len(messages) > FULL_LIMIT:
            raise InvalidRequest.parameter("limit", f"With bodies or headers it must be at most {FULL_LIMIT}")
        objects = await together((self._object(message, caller, view) for message in messages), FULL_AT_A_TIME)
        if view.has_thread:
            await self._add_threads(account_id, caller, messages, objects)
        return [json_bytes(object_) for object_ in objects]

    async def one(self, message: Message, caller: Caller, view: View) -> bytes:
        """Return the object of one message. The full view is assembled from prepared JSON.

        With `images=inline`, the HTML contains the pictures of the message; those of several messages would be too
        large.
        """
        if view.is_full:
            added = await self._full(message, caller, view, has_pictures=view.look.images is Images.INLINE)
            locations = json_bytes(await self._content.locations(message, caller))
            summary = shown_summary(message.summary, b"full")[:-1]
            return b"".join((summary, b",", added, b',"locations":', locations, b"}"))
        return (await self.rendered(message.account_id, caller, [message], view))[0]

    async def _full(self, message: Message, caller: Caller, view: View, *, has_pictures: bool = False) -> bytes:
        """Return what the full view adds, with links to the message's pictures for this caller."""
        added = await self._content.full(message, view.look, has_body=view.needs_body, has_pictures=has_pictures)
        return self._links.filled(added, message.account_id, message.id, caller)

    async def _object(self, message: Message, caller: Caller, view: View) -> dict[str, Any]:
        object_: dict[str, Any] = orjson.loads(shown_summary(message.summary))
        if view.needs_full:
            added = await self._full(message, caller, view)
            object_ |= orjson.loads(b"{" + added + b"}")
            object_["locations"] = await self._content.locations(message, caller)
            object_["view"] = "full"
        object_ = _projected(object_, view)
        if view.headers:
            object_["headers"] = await self._content.values(message, view.headers)
        return object_

    async def _add_threads(
        self, account_id: AccountId, caller: Caller, messages: Sequence[Message], objects: Sequence[dict[str, Any]]
    ) -> None:
        threads = await self._reader.messages.threads(account_id, {item.thread_id for item in messages})
        for message, object_ in zip(messages, objects, strict=True):
            members = [id_ for id_, places in threads[message.thread_id] if any(map(caller.sees_mailbox, places))]
            object_["thread"] = {"id": message.thread_id, "message_ids": members}


def _projected(object_: dict[str, Any], view: View) -> dict[str, Any]:
    if view.name == "ids":
        return {"view": "ids", "id": object_["id"]}
    if view.fields is None:
        return object_
    tree: dict[str, Any] = {}
    for path in view.fields:
        _plant(tree, path)
    tree.pop("view", None)
    return {"view": "partial"} | {name: _picked(object_[name], tree[name]) for name in object_ if name in tree}


def _plant(tree: dict[str, Any], path: Sequence[str]) -> None:
    """Add a path to a tree of wanted fields; an empty branch includes everything below it."""
    for number, step in enumerate(path):
        is_known = step in tree
        branch = tree.setdefault(step, {})
        if is_known and not branch:
            return
        if number == len(path) - 1:
            branch.clear()
        tree = branch


def _picked(value: Any, tree: Mapping[str, Any]) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_picked(item, tree) for item in value]
    if isinstance(value, dict):
        return {name: _picked(member, tree[name]) for name, member in value.items() if name in tree}
    return value
