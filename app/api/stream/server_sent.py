"""Server-Sent Events: the events and counts of one account as `text/event-stream`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial

import orjson

from app.api.problems import problem_of
from app.api.stream.frames import counts_server_sent
from app.cluster.bus import Waiter
from app.errors import NotAuthenticated
from app.mail.event_log import Event
from app.mail.types import AccountId, Position
from app.services.access.callers import Caller
from app.services.access.watch import AccessWatch, Guard
from app.services.following.counts import Counts, CountsWatch, seen_by
from app.services.following.events import Events
from app.services.following.states import States

COMMENT_SECONDS = 15.0
"""The time without events after which a comment keeps proxies from closing the stream."""


@dataclass(frozen=True, slots=True)
class _Session:
    """An open stream."""

    guard: Guard
    counts: CountsWatch

    def check(self) -> None:
        """Raise TokenExpired or TokenRevoked if the token has ended."""
        self.guard.check()


@dataclass(frozen=True, slots=True)
class ServerSentEvents:
    """Streams events to HTTP clients."""

    events: Events
    states: States
    access: AccessWatch
    counts: Counts

    async def stream(self, account_id: AccountId, caller: Caller, begin: Position) -> AsyncGenerator[bytes]:
        """Yield the events after a position, in pieces of text/event-stream.

        The stream ends at shutdown. If the token ends, the last event is `error` with a problem as data.
        """
        yield b": postgate\n\n"
        opened, sight = partial(self._opened, account_id, caller), seen_by(caller, None)
        try:
            async with aclosing(self.events.follow(account_id, begin, COMMENT_SECONDS, opened)) as batches:
                async for session, events in batches:
                    for event in events:
                        visible = await self.events.seen(event, caller)
                        session.check()
                        if visible is not None:
                            yield self._text(visible)
                    session.check()
                    news = session.counts.news(sight)
                    if news is not None:
                        yield counts_server_sent(news)
                    elif not events:
                        yield b":\n\n"
        except NotAuthenticated as error:
            yield b"event: error\ndata: " + orjson.dumps(problem_of(error)) + b"\n\n"

    @contextmanager
    def _opened(self, account_id: AccountId, caller: Caller, waiter: Waiter) -> Iterator[_Session]:
        with self.access.guard(caller, waiter) as guard, self.counts.watching(account_id, waiter) as watch:
            yield _Session(guard, watch)

    def _text(self, event: Event) -> bytes:
        cursor = self.states.issue(event.account_id, event.position).encode()
        return b"id: " + cursor + b"\nevent: " + event.type.encode() + b"\ndata: " + event.body + b"\n\n"
