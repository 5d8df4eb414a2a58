"""What changed: the difference since a state, and the events themselves by long poll or Server-Sent Events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import orjson
from fastapi import Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.api.deps import CurrentCaller, EventsAccount, ReadableAccount, Services, services_of
from app.api.problems import problem_of, problems
from app.api.routes.messages import ORIGIN
from app.api.routing import Router
from app.api.schemas.events import ChangesAnswer, EventsAnswer
from app.api.schemas.mailboxes import Mailbox
from app.api.stream.frames import counts_server_sent
from app.cluster.bus import Waiter
from app.errors import InvalidRequest, NotAuthenticated, StateExpired
from app.mail.types import AccountId, Position
from app.mailstore.log import Event
from app.mailstore.rows import shown_summary
from app.security.secrets import SECRET_LIMIT_CHARS
from app.services.access.callers import Caller
from app.services.access.visibility import seen_summary
from app.services.access.watch import Guard
from app.services.following.changes import CHANGES_LIMIT, Changes
from app.services.following.counts import CountsWatch, seen_by
from app.services.following.events import BATCH_EVENTS
from app.services.reading.views import FULL_LIMIT, View, ViewName

router = Router(prefix="/v1/accounts/{account_id}", tags=["events"])

WAIT_LIMIT_SECONDS = 60
SSE_COMMENT_SECONDS = 15.0
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
StateText = Annotated[str, Query(max_length=200)]


@router.get("/changes", operation_id="listChanges", responses=problems(StateExpired, InvalidRequest, *ORIGIN))
async def list_changes(
    request: Request,
    account_id: ReadableAccount,
    caller: CurrentCaller,
    since: Annotated[StateText, Query(description="A state or cursor that any answer or event gave")],
    view: Annotated[ViewName, Query(description="What `created` shows; with `full` an answer tells less")] = "ids",
    excepted: Annotated[
        str,
        Query(
            alias="except",
            max_length=EXCEPT_LIMIT_CHARS,
            description="Mailboxes to leave out, as the caller reads them anew; separated by commas, `*` for all",
        ),
    ] = "",
) -> ChangesAnswer:
    """What changed since a state; again with `new_state` while `has_more`.

    Where some mailboxes can't be answered, `state_expired` (410) names them in `mailbox_ids`. Ask again with these in
    `except`, as long as there is more, and then list their messages anew.
    """
    services = services_of(request)
    position = services.states.since(since, account_id, "since")
    await services.mailboxes.refresh(account_id)
    changes = await services.changes.read(
        account_id,
        position,
        caller.mailbox_ids,
        frozenset(filter(None, excepted.split(","))),
        FULL_LIMIT if view == "full" else CHANGES_LIMIT,
    )
    created = await _created(services, account_id, caller, changes, view)
    answer = await _changes_answer(services, account_id, caller, changes, created)
    return Response(orjson.dumps(answer), media_type="application/json")  # type: ignore[return-value]


async def _created(
    services: Services, account_id: AccountId, caller: Caller, changes: Changes, view: ViewName
) -> list[dict[str, str] | orjson.Fragment]:
    """The objects of what was created; of those in full what left meanwhile is left out."""
    if view == "ids":
        return [{"view": "ids", "id": id_} for id_ in changes.created]
    if view == "summary":
        return [
            orjson.Fragment(shown_summary(seen_summary(one, caller.mailbox_ids))) for one in changes.created.values()
        ]
    shown: list[bytes] = []
    ids = list(changes.created)
    for begin in range(0, len(ids), FULL_LIMIT):
        messages = await services.content.messages(account_id, caller, ids[begin : begin + FULL_LIMIT])
        shown += await services.views.rendered(account_id, caller, messages, View("full"))
    return [orjson.Fragment(one) for one in shown]


async def _changes_answer(
    services: Services,
    account_id: AccountId,
    caller: Caller,
    changes: Changes,
    created: Sequence[dict[str, str] | orjson.Fragment],
) -> dict[str, Any]:
    named = {*changes.mailboxes_created, *changes.mailboxes_updated}
    mailboxes = await services.events.mailboxes(account_id, caller, named) if named else []
    shown: dict[str, Any] = {one.id: Mailbox.of(one).model_dump(mode="json") for one in mailboxes}
    return {
        "created": created,
        "updated": [
            {"id": id_, "changed": one.changed, "keywords": one.keywords} for id_, one in changes.updated.items()
        ],
        "moved": [{"id": id_, "from": source, "to": target} for id_, (source, target) in changes.moved.items()],
        "removed": [{"id": id_, "reason": reason} for id_, reason in changes.removed.items()],
        "mailboxes": {
            "created": [shown[one] for one in changes.mailboxes_created if one in shown],
            "updated": [shown[one] for one in changes.mailboxes_updated if one in shown],
            "removed": [{"id": one} for one in changes.mailboxes_removed],
        },
        "new_state": services.states.issue(account_id, changes.position, changes.base_seq),
        "has_more": changes.base_seq is not None,
    }


@router.get(
    "/events",
    operation_id="listEvents",
    response_model=EventsAnswer,
    responses={**problems(StateExpired, InvalidRequest), 200: {"content": {"text/event-stream": _SERVER_SENT}}},
)
async def list_events(
    request: Request,
    account_id: EventsAccount,
    caller: CurrentCaller,
    after: Annotated[
        StateText | None, Query(description="Exclusive; default: now for SSE, the oldest kept else")
    ] = None,
    wait: Annotated[int, Query(ge=0, le=WAIT_LIMIT_SECONDS, description="Seconds to wait for the first event")] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = BATCH_EVENTS,
    ticket: Annotated[  # noqa: ARG001 - taken before the body is read
        str | None, Query(max_length=SECRET_LIMIT_CHARS, description="In place of the header, once: for EventSource")
    ] = None,
    accept: Annotated[str | None, Header()] = None,
    last_event_id: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """Events after a cursor: as JSON, waiting for up to `wait` seconds; with `Accept: text/event-stream`, for ever.

    A token with `push` but without `mail.read` gets ids and types. A token that ends while this waits ends it too: a
    stream by an event `error` whose data is a problem, a long poll by 401.

    An event stream also has `counts` of unread and of all messages, as the WebSocket stream has; the JSON has not.
    """
    services = services_of(request)
    position = last_event_id or after
    if "text/event-stream" in (accept or ""):
        return await _stream(services, account_id, caller, position)
    begin = await _begin(services, account_id, position, "earliest")
    events = await services.events.wait(account_id, begin, limit, wait, partial(services.access.guard, caller))
    seen = events[-1].position if events else begin
    told = [await services.events.seen(event, caller) for event in events]
    answer = {
        "items": [orjson.Fragment(event.body) for event in told if event is not None],
        "cursor": services.states.issue(account_id, seen),
        "has_more": len(events) == limit,
    }
    return Response(orjson.dumps(answer), media_type="application/json")


async def _stream(services: Services, account_id: AccountId, caller: Caller, position: str | None) -> Response:
    begin = await _begin(services, account_id, position, "now")
    await services.events.after(account_id, begin, 1)  # a position that is gone is a problem, not a broken stream
    return StreamingResponse(
        _server_sent(services, account_id, caller, begin),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _begin(services: Services, account_id: AccountId, position: str | None, default: str) -> Position:
    match position or default:
        case "now":
            return await services.events.position(account_id)
        case "earliest":
            return await services.events.earliest(account_id)
        case text:
            return services.states.read(text, account_id, "after")


@dataclass(frozen=True, slots=True)
class _Session:
    """One open answer of server-sent events."""

    guard: Guard
    counts: CountsWatch

    def check(self) -> None:
        self.guard.check()


@contextmanager
def _opened(services: Services, account_id: AccountId, caller: Caller, waiter: Waiter) -> Iterator[_Session]:
    with services.access.guard(caller, waiter) as guard, services.counts.watching(account_id, waiter) as watch:
        yield _Session(guard, watch)


async def _server_sent(
    services: Services, account_id: AccountId, caller: Caller, begin: Position
) -> AsyncGenerator[bytes]:
    """Events as text/event-stream; a comment now and then keeps proxies from closing it.

    Ends when the server does; once the token is revoked or has expired, with an event `error` whose data is a problem.
    """
    yield b": postgate\n\n"
    opened, sight = partial(_opened, services, account_id, caller), seen_by(caller, None)
    try:
        async with aclosing(services.events.follow(account_id, begin, SSE_COMMENT_SECONDS, opened)) as batches:
            async for session, events in batches:
                for event in events:
                    seen = await services.events.seen(event, caller)
                    session.check()
                    if seen is not None:
                        yield _server_sent_event(services, seen)
                session.check()
                news = session.counts.news(sight)
                if news is not None:
                    yield counts_server_sent(news)
                elif not events:
                    yield b":\n\n"
    except NotAuthenticated as error:
        yield b"event: error\ndata: " + orjson.dumps(problem_of(error)) + b"\n\n"


def _server_sent_event(services: Services, event: Event) -> bytes:
    cursor = services.states.issue(event.account_id, event.position).encode()
    return b"id: " + cursor + b"\nevent: " + event.type.encode() + b"\ndata: " + event.body + b"\n\n"
