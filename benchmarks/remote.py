"""Work on a mailbox of Dovecot: a bare client talks to Dovecot, and a caller of the API to Postgate in front of it."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import messages
from benchmarks.clients import Http, Imap, Smtp
from benchmarks.contest import CONNECTIONS, Aim, Call, Contest, Side
from benchmarks.sink import Sink
from benchmarks.stage import Mirrored, Stage

_SETTLE_SECONDS = 30.0
_STILL_SECONDS = 0.5
_LIST_FETCH = "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)"
"""Less than what an API's list shows: there are no previews and no structures in it."""


@dataclass(slots=True)
class _Work:
    """Both sides' connections and what they name."""

    stage: Stage
    mirrored: Mirrored
    imap: list[Imap]
    http: list[Http]

    def contest(
        self, name: str, bare: Callable[[Imap], Call], ours: Callable[[Http], Call], aim: Aim, **how: Any
    ) -> Contest:
        sides = Side("bare", list(map(bare, self.imap))), Side("postgate", list(map(ours, self.http)))
        return Contest(name, sides, aim, **how)

    def fetch(self, numbers: Iterator[int], items: str) -> Callable[[Imap], Call]:
        """A bare FETCH of the next message, whose UID is one more than its number."""
        return lambda imap: lambda: imap.command(f"UID FETCH {next(numbers) + 1} {items}")

    def get(self, numbers: Iterator[int], suffix: str) -> Callable[[Http], Call]:
        """GET of the next message, or of something below it."""
        account, ids = self.mirrored.account, self.mirrored.ids
        return lambda http: lambda: http.send(http.prepare("GET", f"{account}/messages/{ids[next(numbers)]}{suffix}"))


@asynccontextmanager
async def open_work(stage: Stage, mirrored: Mirrored) -> AsyncIterator[_Work]:
    """Sixteen connections a side."""
    user = stage.bare
    imap = [await Imap.login(stage.dovecot.imap_port, user.name, user.password) for _ in range(CONNECTIONS)]
    http = [await stage.gateway.http() for _ in range(CONNECTIONS)]
    try:
        yield _Work(stage, mirrored, imap, http)
    finally:
        for client in (*imap, *http):
            client.close()


async def listing(work: _Work) -> Contest:
    count = len(work.stage.kinds)
    path = f"{work.mirrored.account}/messages?mailbox_id={work.mirrored.inbox}&limit=50"
    return work.contest(
        "list of 50",
        lambda imap: lambda: imap.command(f"FETCH {max(1, count - 49)}:{count} {_LIST_FETCH}"),
        lambda http: partial(http.send, http.prepare("GET", path)),
        Aim(most_time=0.8, least_rate=0.8),
    )


_FULL_ITEMS = "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[1])"


async def get_cold(work: _Work) -> Contest:
    """Each message once, the newest 100 left for `get_warm`."""
    numbers = (work.stage.numbers("text") + work.stage.numbers("html"))[100:]
    theirs, ours = itertools.cycle(numbers), itertools.cycle(numbers)
    return work.contest(
        "get (full), cold",
        work.fetch(theirs, _FULL_ITEMS),
        work.get(ours, "?view=full"),
        Aim(most_time=8),
        note="each message asked for once",
    )


async def get_warm(work: _Work) -> Contest:
    numbers = (work.stage.numbers("text")[:32] + work.stage.numbers("html")[:18])[:50]
    return work.contest(
        "get (full), warm",
        work.fetch(itertools.cycle(numbers), _FULL_ITEMS),
        work.get(itertools.cycle(numbers), "?view=full"),
        Aim(most_time=4),
        note="50 messages in turn",
    )


async def raw(work: _Work) -> Contest:
    numbers = work.stage.numbers("html")[:200]
    return work.contest(
        "raw",
        work.fetch(itertools.cycle(numbers), "BODY.PEEK[]"),
        work.get(itertools.cycle(numbers), "/raw"),
        Aim(most_time=1.5),
        note="10–50 KB",
    )


async def attachment(work: _Work) -> Contest:
    numbers = work.stage.numbers("large")
    parts = {n: await _attachment_path(work, n) for n in numbers}
    turn = itertools.cycle(numbers)
    return work.contest(
        "attachment of 1 MB",
        work.fetch(itertools.cycle(numbers), "BODY.PEEK[2]"),
        lambda http: lambda: http.send(http.prepare("GET", parts[next(turn)])),
        Aim(most_time=1.5),
        alone=15,
        together=32,
    )


async def _attachment_path(work: _Work, number: int) -> str:
    path = f"{work.mirrored.account}/messages/{work.mirrored.ids[number]}"
    message = await work.http[0].call("GET", f"{path}?view=full")
    return f"{path}/attachments/{message['attachments'][0]['id']}"


async def flag(work: _Work) -> Contest:
    """Set on one pass over the messages and removed on the next, so that every call changes something."""
    numbers = work.stage.numbers("text")[:200]
    changes = list(itertools.product((True, False), numbers))
    theirs, ours = itertools.cycle(changes), itertools.cycle(changes)
    account, ids = work.mirrored.account, work.mirrored.ids

    def bare(imap: Imap) -> Call:
        def call() -> Awaitable[object]:
            is_set, number = next(theirs)
            return imap.command(f"UID STORE {number + 1} {'+' if is_set else '-'}FLAGS (\\Flagged)")

        return call

    def patch(http: Http) -> Call:
        def call() -> Awaitable[object]:
            is_set, number = next(ours)
            body = {"keywords": {"add" if is_set else "remove": ["$flagged"]}}
            return http.send(http.prepare("PATCH", f"{account}/messages/{ids[number]}", body))

        return call

    return work.contest("set a flag", bare, patch, Aim(most_time=5))


async def move(work: _Work) -> Contest:
    """Each message once, the oldest first, out of a mailbox of thousands."""
    theirs, ours = itertools.count(), itertools.count()
    path, archive, ids = f"{work.mirrored.account}/messages/move", work.mirrored.archive, work.mirrored.ids

    def post(http: Http) -> Call:
        return lambda: http.send(http.prepare("POST", path, {"message_ids": [ids[next(ours)]], "mailbox_id": archive}))

    return work.contest(
        "move",
        lambda imap: lambda: imap.command(f"UID MOVE {next(theirs) + 1} Archive"),
        post,
        Aim(most_time=3),
        alone=20,
        together=64,
    )


def _search(work: _Work, name: str, criterion: tuple[str, str], aim: Aim, **how: Any) -> Contest:
    key, word = criterion
    body = {"filter": {"all": [{"mailbox_id": work.mirrored.inbox}, {key: word}]}, "limit": 50}
    path = f"{work.mirrored.account}/messages/search"
    return work.contest(
        name,
        lambda imap: lambda: imap.command(f'UID SEARCH {key.upper()} "{word}"'),
        lambda http: partial(http.send, http.prepare("POST", path, body)),
        aim,
        **how,
    )


async def search_subject(work: _Work) -> Contest:
    return _search(
        work, "search by subject", ("subject", messages.SUBJECT_WORD), Aim(most_time=0.2), alone=10, together=32
    )


async def search_text(work: _Work) -> Contest:
    return _search(
        work, "search by text", ("text", messages.TEXT_WORD), Aim(most_time=0.05), rounds=2, alone=2, together=0
    )


async def submit(work: _Work) -> Contest:
    """Postgate's answer is its acceptance; what it then hands to the same sink is waited for between the turns."""
    sink, account = work.stage.sink, work.mirrored.account
    content = messages.small(1)
    order = {
        "to": [{"name": "Bob", "address": "bob@elsewhere.test"}],
        "subject": "A small message",
        "text": content.partition(b"\r\n\r\n")[2].decode(),
    }

    async def whole_session() -> None:
        smtp = await Smtp.connect(sink.port)
        await smtp.greet("EHLO")
        await smtp.authenticate(sink.user, sink.password)
        await smtp.send("bare@mail.test", "bob@elsewhere.test", content)
        smtp.close()

    settle = partial(_delivered, sink)
    sides = (
        Side("bare", [whole_session] * CONNECTIONS, settle),
        Side(
            "postgate",
            [partial(http.send, http.prepare("POST", f"{account}/send", order)) for http in work.http],
            settle,
        ),
    )
    return Contest("submit", sides, Aim(most_time=1.5), alone=20, together=64, note="202 against a whole SMTP session")


async def _delivered(sink: Sink) -> None:
    """Return once nothing more reaches the sink. Raises TimeoutError."""
    async with asyncio.timeout(_SETTLE_SECONDS):
        known, count = -1, sink.count()
        while known != count:
            await asyncio.sleep(_STILL_SECONDS)
            known, count = count, sink.count()
