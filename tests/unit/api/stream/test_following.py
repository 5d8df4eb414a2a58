"""Subscribers of one account: what they are sent, what it takes, and in how many turns of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import orjson
import pytest
from app.api.stream import following as module
from app.api.stream import frames
from app.api.stream.following import SLICE_EVENTS, Following
from app.api.stream.socket import StreamSocket, encoded
from app.api.stream.turns import Turns
from app.cluster.bus import listening
from app.errors import Unavailable
from app.mail.delta import Delta, Note
from app.mail.event_log import Event
from app.mail.events import AccountResync
from app.mail.types import AccountId, Position
from app.mailstore.log import EventLog
from app.services.access.callers import Scope
from app.services.following import counts as counting
from app.services.following.counts import CountsNews
from app.services.following.events import Events
from app.services.following.states import States
from app.services.following.subscriptions import Subscription
from pydantic import BaseModel

from tests.access import ADMIN, NoSubmissions, caller
from tests.gateway import Gateway

SOCKETS = 60
Types = frozenset[str] | None
EVENTS_ALONE: Types = frozenset({"account.*", "message.*"})


class RecordingSocket:
    """Takes every frame at once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def send(self, frame: BaseModel | str) -> None:
        self.texts.append(frame if isinstance(frame, str) else encoded(frame))

    async def send_frame(self, frame: bytes) -> None:
        self.texts.append(frames.text_of(frame))

    @property
    def frames(self) -> list[dict[str, Any]]:
        return [orjson.loads(text) for text in self.texts]


@dataclass
class Follower:
    socket: RecordingSocket
    following: Following


class FailingLog(EventLog):
    """An EventLog of a database that does not answer the next `failures` times."""

    failures = 0

    async def starting_at(self, account_id: AccountId, seq: int, limit: int) -> Any:
        if self.failures:
            self.failures -= 1
            raise Unavailable
        return await EventLog.starting_at(self, account_id, seq, limit)


@dataclass
class Streams:
    """Streams of one account in one gateway."""

    gateway: Gateway
    account_id: AccountId
    log: FailingLog
    events: Events
    turns: Turns

    @asynccontextmanager
    async def follower(
        self, after: Position | None = None, sub_id: str = "s", view: str = "summary", types: Types = EVENTS_ALONE
    ) -> AsyncIterator[Follower]:
        """A stream with one subscription, whose task runs during the block."""
        services = self.gateway.services
        socket = RecordingSocket()
        following = Following(
            cast("StreamSocket", socket),
            self.events,
            services.states,
            services.accounts,
            self.turns,
            services.counts,
        )
        position = after or await self.events.position(self.account_id)
        await following.add(Subscription(sub_id, False, {self.account_id: position}, view=view, types=types))
        following.set_caller(ADMIN)
        task = asyncio.create_task(following.run())
        try:
            yield Follower(socket, following)
        finally:
            task.cancel()
            following.close()

    async def add(self, count: int) -> None:
        notes = tuple(Note(AccountResync([], {}), self.account_id) for _ in range(count))
        await self.gateway.harness.index.apply(self.account_id, Delta(notes=notes))


@pytest.fixture
async def streams(gateway: Gateway) -> Streams:
    harness = gateway.harness
    account_id = await harness.add_account("me@demo.test")
    log = FailingLog(harness.database)
    return Streams(gateway, account_id, log, Events(log, harness.reader, harness.bus, NoSubmissions()), Turns())


async def turns_until(follower: Follower, count: int) -> list[int]:
    """How many frames there are after each turn of the event loop, until there are `count`."""
    sent = [0]
    while sent[-1] < count and len(sent) < 10_000:
        await asyncio.sleep(0)
        sent.append(len(follower.socket.texts))
    return sent


async def test_an_event_is_encoded_once_for_all_sockets_that_are_sent_the_same(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    encode = frames._encoded

    def counted(states: States, event: Event, view: str, sub_ids: Sequence[str]) -> bytes:
        made.append(sub_ids)
        return encode(states, event, view, sub_ids)

    monkeypatch.setattr(frames, "_encoded", counted)
    async with AsyncExitStack() as stack:
        followers = [await stack.enter_async_context(streams.follower()) for _ in range(SOCKETS)]
        other = await stack.enter_async_context(streams.follower(sub_id="t"))
        for _ in range(10):  # each compares its position with the log first
            await asyncio.sleep(0)
        await streams.add(1)
        for follower in (*followers, other):
            await turns_until(follower, 1)

    assert len(made) == 2
    assert len({follower.socket.texts[0] for follower in followers}) == 1
    assert followers[0].socket.frames[0]["sub_ids"] == ["s"]
    assert other.socket.frames[0]["sub_ids"] == ["t"]


async def test_a_subscriber_that_catches_up_sends_a_slice_in_a_turn(streams: Streams) -> None:
    begin = await streams.events.position(streams.account_id)
    for _ in range(5):
        await streams.add(200)
    async with streams.follower(begin) as follower:
        sent = await turns_until(follower, 1_000)

    assert max(after - before for before, after in pairwise(sent)) <= SLICE_EVENTS
    numbers = [frame["seq"] for frame in follower.socket.frames]
    assert numbers == list(range(begin.seq + 1, begin.seq + 1_001))


async def test_many_subscribers_that_catch_up_share_the_turns(streams: Streams) -> None:
    begin = await streams.events.position(streams.account_id)
    await streams.add(200)
    async with AsyncExitStack() as stack:
        followers = [await stack.enter_async_context(streams.follower(begin)) for _ in range(20)]
        total, most = 0, 0
        await asyncio.sleep(0)
        for _ in range(2_000):
            before = total
            await asyncio.sleep(0)
            total = sum(len(follower.socket.texts) for follower in followers)
            most = max(most, total - before) if before >= 20 * SLICE_EVENTS else 0

    assert total == 20 * 200
    assert most <= 4 * SLICE_EVENTS


async def test_a_subscriber_too_far_behind_is_sent_the_newest_state(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OVERLOAD_EVENTS", 50)
    begin = await streams.events.position(streams.account_id)
    await streams.add(51)
    async with streams.follower(begin) as follower:
        await turns_until(follower, 1)
        await streams.add(1)
        await turns_until(follower, 2)

    state, event = follower.socket.frames
    assert list(state["states"]) == [streams.account_id]
    assert (event["type"], event["seq"]) == ("event", begin.seq + 52)


async def test_a_subscriber_is_told_of_a_gap_where_events_are_not_kept_any_more(streams: Streams) -> None:
    last = await streams.events.position(streams.account_id)
    async with streams.follower(Position(last.seq, last.at_ms + 1)) as follower:
        await turns_until(follower, 1)
        await streams.add(1)
        await turns_until(follower, 2)

    gap, event = follower.socket.frames
    assert (gap["type"], gap["account_id"]) == ("gap", streams.account_id)
    assert (event["type"], event["seq"]) == ("event", last.seq + 1)


async def test_a_subscriber_stays_while_the_database_does_not_answer(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)
    async with streams.follower() as follower:
        await asyncio.sleep(0)
        streams.log.failures = 3
        await streams.add(1)
        await turns_until(follower, 1)

    assert [frame["type"] for frame in follower.socket.frames] == ["event"]
    assert streams.log.failures == 0


async def test_a_subscriber_reads_on_where_memory_ends_before_the_log_does(streams: Streams) -> None:
    begin = await streams.events.position(streams.account_id)
    with listening(streams.gateway.harness.bus, streams.account_id):
        await streams.add(1)
        await streams.events.after(streams.account_id, begin)  # what is read stays in memory
        await streams.add(1)
        async with streams.follower(begin) as follower:
            await turns_until(follower, 2)

    assert [frame["seq"] for frame in follower.socket.frames] == [begin.seq + 1, begin.seq + 2]


@pytest.mark.parametrize(("seq", "at_ms"), [(0, 1), (5, 0)])
async def test_a_position_of_a_lost_log_is_a_gap_though_others_have_heard_all(
    streams: Streams, seq: int, at_ms: int
) -> None:
    async with streams.follower():
        await streams.add(1)
        last = await streams.events.position(streams.account_id)
        async with streams.follower(Position(last.seq + seq, last.at_ms + at_ms)) as follower:
            await turns_until(follower, 1)

    assert [frame["type"] for frame in follower.socket.frames] == ["gap"]


async def test_a_view_of_ids_has_no_summary(streams: Streams) -> None:
    harness = streams.gateway.harness
    mailbox = await harness.mailbox(streams.account_id)
    async with streams.follower(view="ids") as follower, streams.follower() as other:
        stored = await harness.store.keep(b"Subject: Plans\r\n\r\nText\r\n")
        applied = await harness.store.add(streams.account_id, mailbox.id, [(stored, frozenset(), None)])
        for one in (follower, other):
            await turns_until(one, 1)

    (id_,) = applied.message_ids.values()
    assert follower.socket.frames[0]["event"]["data"]["message"] == {"view": "ids", "id": id_}
    assert other.socket.frames[0]["event"]["data"]["message"]["subject"] == "Plans"


async def _counts_after(follower: Follower, frames: int) -> list[dict[str, Any]]:
    """The `counts` frames, once there are this many frames of all kinds."""
    await turns_until(follower, frames)
    return [frame for frame in follower.socket.frames if frame["type"] == "counts"]


async def test_a_subscription_begins_with_the_counts_of_all_its_mailboxes(streams: Streams) -> None:
    inbox = await streams.gateway.harness.mailbox(streams.account_id)
    async with streams.follower(types=None) as follower:
        [counts] = await _counts_after(follower, 1)

    assert set(counts) == {"type", "account_id", "mailboxes"}
    assert counts["account_id"] == streams.account_id
    assert {"mailbox_id": inbox.id, "unread": 0, "total": 0} in counts["mailboxes"]
    assert len(counts["mailboxes"]) == len(await streams.gateway.harness.reader.mailboxes.mailboxes(streams.account_id))


async def test_a_mailbox_whose_counts_changed_is_sent_alone(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MERGE_SECONDS", 0.0)
    harness = streams.gateway.harness
    inbox = await harness.mailbox(streams.account_id)
    async with streams.follower(types=None) as follower:
        await _counts_after(follower, 1)
        await harness.store.add(streams.account_id, inbox.id, [(await harness.store.keep(b"\r\n"), frozenset(), None)])
        found = await _counts_after(follower, 3)

    assert found[1]["mailboxes"] == [{"mailbox_id": inbox.id, "unread": 1, "total": 1}]


@pytest.mark.parametrize(("types", "is_counted"), [({"message.*"}, False), ({"message.*", "counts"}, True)])
async def test_a_subscription_that_names_types_gets_counts_if_it_names_them(
    streams: Streams, types: set[str], is_counted: bool
) -> None:
    async with streams.follower(types=frozenset(types)):
        assert bool(streams.gateway.services.counts.news.heard()) is is_counted


async def test_counts_are_of_the_mailboxes_that_the_subscriptions_name(streams: Streams) -> None:
    inbox, sent = [await streams.gateway.harness.mailbox(streams.account_id, path) for path in ("INBOX", "Sent")]
    position = {streams.account_id: await streams.events.position(streams.account_id)}
    async with streams.follower() as follower:
        await follower.following.add(Subscription("a", False, dict(position), frozenset({inbox.id})))
        await follower.following.add(Subscription("b", False, dict(position), roles=frozenset({"sent"})))
        [counts] = await _counts_after(follower, 1)

    assert [one["mailbox_id"] for one in counts["mailboxes"]] == [inbox.id, sent.id]


async def test_another_token_is_sent_the_counts_that_it_sees_and_no_others(streams: Streams) -> None:
    inbox = await streams.gateway.harness.mailbox(streams.account_id)
    async with streams.follower(types=None) as follower:
        await _counts_after(follower, 1)
        follower.following.set_caller(caller(mailbox_ids=frozenset({inbox.id})))
        found = await _counts_after(follower, 2)
        follower.following.set_caller(caller(scopes=frozenset({Scope.PUSH})))
        for _ in range(20):
            await asyncio.sleep(0)

    assert [one["mailbox_id"] for one in found[1]["mailboxes"]] == [inbox.id]
    assert len(follower.socket.texts) == 2


async def test_counts_are_encoded_once_for_all_sockets_of_an_account(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    encode = frames._counts_text

    def counted(news: CountsNews) -> bytes:
        made.append(news)
        return encode(news)

    monkeypatch.setattr(frames, "_counts_text", counted)
    async with AsyncExitStack() as stack:
        followers = [await stack.enter_async_context(streams.follower(types=None)) for _ in range(SOCKETS)]
        for follower in followers:
            await turns_until(follower, 1)

    assert len(made) == 1
    assert len({follower.socket.texts[0] for follower in followers}) == 1


async def test_a_stream_that_ends_is_not_counted_any_more(streams: Streams) -> None:
    async with streams.follower(types=None) as follower:
        await turns_until(follower, 1)

    assert streams.gateway.services.counts.news.heard() == {}
