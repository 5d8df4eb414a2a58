"""Changes since a state, and events by long poll or Server-Sent Events."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import Header, Query, Response
from fastapi.responses import StreamingResponse

from app.api.deps import CurrentCaller, EventsAccount, ReadableAccount
from app.api.problems import problems
from app.api.routes.messages import ORIGIN
from app.api.routing import Router
from app.api.schemas.events import ChangesAnswer, EventsAnswer
from app.api.schemas.mailboxes import Mailbox
from app.api.schemas.message_requests import IMAGES, QUOTES
from app.api.services import (
    AccessService,
    AccountStanding,
    ChangesService,
    ContentService,
    EventsService,
    EventStream,
    MailboxesService,
    ViewsService,
)
from app.api.standing import Standing
from app.errors import InvalidRequest, StateExpired
from app.mail import types as mail
from app.mail.summaries import shown_summary
from app.mail.types import AccountId, Position
from app.security.secrets import SECRET_LIMIT_CHARS
from app.services.access.callers import Caller
from app.services.access.visibility import seen_summary
from app.services.following.changes import CHANGES_LIMIT, Changes
from app.services.following.events import BATCH_EVENTS, Events
from app.services.reading.content import Content
from app.services.reading.views import FULL_LIMIT, ImagesName, QuotesName, View, ViewName, Views, view_of

router = Router(prefix="/v1/accounts/{account_id}", tags=["events"])

WAIT_LIMIT_SECONDS = 60
EXCEPT_LIMIT_CHARS = 16_000
_SERVER_SENT = {
    "schema": {
        "type": "string",
        "description": "`event` is the type of an `Event`, which is the `data`, and `id` its cursor. `counts` has no "
        "`id`; its data is as in the `counts` frame of the stream. `error` has a `Problem` and is the last.",
    },
    "example": 'event: counts\ndata: {"type":"counts","account_id":"acc_1","mailboxes":'
    '[{"mailbox_id":"mbx_1","unread":3,"total":120}]}\n\n',
}
_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
StateText = Annotated[str, Query(max_length=200)]


@router.get("/changes", operation_id="listChanges", responses=problems(StateExpired, InvalidRequest, *ORIGIN))
async def list_changes(
    account_id: ReadableAccount,
    caller: CurrentCaller,
    since: Annotated[StateText, Query(description="A state or cursor from any answer or event")],
    freshness: MailboxesService,
    changes: ChangesService,
    events: EventsService,
    content: ContentService,
    views: ViewsService,
    standing: AccountStanding,
    view: Annotated[
        ViewName, Query(description="The view of messages in `created`; with `full` an answer has fewer changes")
    ] = "ids",
    images: Annotated[ImagesName, Query(description=IMAGES)] = "block",
    quotes: Annotated[QuotesName, Query(description=QUOTES)] = "keep",
    excepted: Annotated[
        str,
        Query(
            alias="except",
            max_length=EXCEPT_LIMIT_CHARS,
            description="Mailboxes to skip because you list them again, separated by commas; `*` for all",
        ),
    ] = "",
) -> ChangesAnswer:
    """List the changes since a state. While `has_more` is true, repeat the call with `new_state`.

    If Postgate no longer has the changes of some mailboxes, `state_expired` (410) lists them in `mailbox_ids`. Repeat
    the call with these in `except` while `has_more` is true, and then list their messages again.
    """
    position = standing.since(since)
    await freshness.refresh(account_id)
    difference = await changes.read(
        account_id,
        position,
        caller.mailbox_ids,
        frozenset(filter(None, excepted.split(","))),
        FULL_LIMIT if view == "full" else CHANGES_LIMIT,
    )
    message_view = view_of(view, images=images, quotes=quotes)
    created = await _created(content, views, account_id, caller, difference, message_view)
    mailbox_ids = {*difference.mailboxes_created, *difference.mailboxes_updated}
    mailboxes = await events.mailboxes(account_id, caller, mailbox_ids) if mailbox_ids else []
    answer = _changes_answer(difference, created, mailboxes, standing.at(difference.position, difference.base_seq))
    return Response(orjson.dumps(answer), media_type="application/json")  # type: ignore[return-value]


async def _created(
    content: Content, views: Views, account_id: AccountId, caller: Caller, changes: Changes, view: View
) -> list[dict[str, str] | orjson.Fragment]:
    """Return the created messages in the view. The full view omits messages deleted since."""
    if view.name == "ids":
        return [{"view": "ids", "id": id_} for id_ in changes.created]
    if view.name == "summary":
        return [
            orjson.Fragment(shown_summary(seen_summary(piece, caller.mailbox_ids)))
            for piece in changes.created.values()
        ]
    rendered: list[bytes] = []
    ids = list(changes.created)
    for begin in range(0, len(ids), FULL_LIMIT):
        messages = await content.messages(account_id, caller, ids[begin : begin + FULL_LIMIT])
        rendered += await views.rendered(account_id, caller, messages, view)
    return [orjson.Fragment(piece) for piece in rendered]


def _changes_answer(
    changes: Changes,
    created: Sequence[dict[str, str] | orjson.Fragment],
    mailboxes: Sequence[mail.Mailbox],
    new_state: str,
) -> dict[str, Any]:
    """Return a ChangesAnswer."""
    mailbox_objects: dict[str, Any] = {mailbox.id: Mailbox.of(mailbox).model_dump(mode="json") for mailbox in mailboxes}
    return {
        "created": created,
        "updated": [
            {"id": id_, "changed": update.changed, "keywords": update.keywords}
            for id_, update in changes.updated.items()
        ],
        "moved": [{"id": id_, "from": source, "to": target} for id_, (source, target) in changes.moved.items()],
        "removed": [{"id": id_, "reason": reason} for id_, reason in changes.removed.items()],
        "mailboxes": {
            "created": [mailbox_objects[id_] for id_ in changes.mailboxes_created if id_ in mailbox_objects],
            "updated": [mailbox_objects[id_] for id_ in changes.mailboxes_updated if id_ in mailbox_objects],
            "removed": [{"id": id_} for id_ in changes.mailboxes_removed],
        },
        "new_state": new_state,
        "has_more": changes.base_seq is not None,
    }


@router.get(
    "/events",
    operation_id="listEvents",
    response_model=EventsAnswer,
    responses={**problems(StateExpired, InvalidRequest), 200: {"content": {"text/event-stream": _SERVER_SENT}}},
)
async def list_events(
    account_id: EventsAccount,
    caller: CurrentCaller,
    events: EventsService,
    access: AccessService,
    server_sent: EventStream,
    standing: AccountStanding,
    after: Annotated[
        StateText | None,
        Query(description="Exclusive. Default: now for an event stream, otherwise the oldest stored event"),
    ] = None,
    wait: Annotated[int, Query(ge=0, le=WAIT_LIMIT_SECONDS, description="Seconds to wait for the first event")] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = BATCH_EVENTS,
    ticket: Annotated[  # noqa: ARG001 - read by `EventsAccount` before the body
        str | None,
        Query(
            max_length=SECRET_LIMIT_CHARS,
            description="A stream ticket instead of the header, for EventSource; works once",
        ),
    ] = None,
    accept: Annotated[str | None, Header()] = None,
    last_event_id: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """List the events after a cursor: as JSON (long poll of up to `wait` seconds), or as an endless event stream.

    Send `Accept: text/event-stream` for the event stream. A token with `push` but without `mail.read` gets ids and
    types. When the token ends, a stream ends with an event `error` whose data is a problem, and a long poll with 401.

    An event stream also has `counts` of unread and total messages, like the WebSocket stream. The JSON has none.
    """
    position = last_event_id or after
    if "text/event-stream" in (accept or ""):
        begin = await _begin(events, standing, account_id, position, "now")
        await events.after(account_id, begin, 1)  # an expired position gives a problem, not a broken stream
        stream = server_sent.stream(account_id, caller, begin)
        return StreamingResponse(stream, media_type="text/event-stream", headers=_STREAM_HEADERS)
    begin = await _begin(events, standing, account_id, position, "earliest")
    batch = await events.wait(account_id, begin, limit, wait, partial(access.guard, caller))
    last = batch[-1].position if batch else begin
    visible = [await events.seen(event, caller) for event in batch]
    answer = {
        "items": [orjson.Fragment(event.body) for event in visible if event is not None],
        "cursor": standing.at(last),
        "has_more": len(batch) == limit,
    }
    return Response(orjson.dumps(answer), media_type="application/json")


async def _begin(
    events: Events, standing: Standing, account_id: AccountId, position: str | None, default: str
) -> Position:
    match position or default:
        case "now":
            return await events.position(account_id)
        case "earliest":
            return await events.earliest(account_id)
        case text:
            return standing.since(text, "after").position
