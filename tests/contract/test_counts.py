"""Counts of mailboxes and causes of events, on each database."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import orjson
import pytest
from app.cause import Cause, caused_by
from app.cluster.bus import LocalBus, Waiter
from app.mail.delta import Delta, Flagged, Location
from app.mail.types import SEEN
from app.mailstore.index import Index
from app.mailstore.store import MailStore
from app.services.following import counts as module
from app.services.following.counts import Counts, CountsWatch
from app.workers.missed_pokes import MissedPokeCheck

from tests.contract.stores import Stores, message


async def test_counts_follow_what_is_added_read_and_moved(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MERGE_SECONDS", 0.0)
    account_id = await stores.add_account()
    inbox, archive = [await stores.mailbox(account_id, path) for path in ("INBOX", "Archive")]
    waiter = Waiter()
    with Counts(stores.reader.mailboxes, stores.bus).watching(account_id, waiter) as watch:
        found: dict[str, tuple[int, int]] = {}

        async def are(**expected: tuple[int, int]) -> None:
            wanted = {inbox.id: expected["inbox"], archive.id: expected["archive"]}
            async with asyncio.timeout(30):
                while {id_: found.get(id_) for id_ in wanted} != wanted:
                    await waiter.wait()
                    news = watch.news(None)
                    found.update(news.counts() if news is not None else [])

        await are(inbox=(0, 0), archive=(0, 0))
        contents = [(await stores.store.keep(message(number)), frozenset[str](), None) for number in range(3)]
        await stores.store.add(account_id, inbox.id, contents)
        await are(inbox=(3, 3), archive=(0, 0))
        read = Flagged(Location(inbox.id, 1), frozenset({SEEN}), 12)
        await stores.index.apply(account_id, Delta(flagged=(read,)))
        await are(inbox=(2, 3), archive=(0, 0))
        await stores.store.move(account_id, inbox.id, [2], archive.id)
        await are(inbox=(1, 2), archive=(1, 1))


async def test_an_event_keeps_the_request_that_caused_it(stores: Stores) -> None:
    account_id = await stores.add_account()
    inbox = await stores.mailbox(account_id, "INBOX")
    begin = (await stores.reader.mailboxes.standing(account_id)).seq
    with caused_by(Cause("req_1", "tab-1")):
        await stores.store.add(account_id, inbox.id, [(await stores.store.keep(message(1)), frozenset(), None)])
    await stores.store.add(account_id, inbox.id, [(await stores.store.keep(message(2)), frozenset(), None)])

    found = await stores.log.starting_at(account_id, begin + 1, 10)

    assert found is not None
    causes = [orjson.loads(event.body)["data"].get("caused_by") for event in found.events]
    assert causes == [{"request_id": "req_1", "client_id": "tab-1"}, None]


@dataclass
class Process:
    """What follows counts in one process: its own bus and snapshots, on the database that all share."""

    stores: Stores
    bus: LocalBus = field(default_factory=LocalBus)
    found: dict[str, tuple[int, int]] = field(default_factory=dict)

    async def hear(self) -> None:
        """Find what other processes wrote, as each process does all the time."""
        await MissedPokeCheck(self.stores.log, self.bus).round()

    async def until(self, watch: CountsWatch, waiter: Waiter, mailbox_id: str, counted: tuple[int, int]) -> None:
        async with asyncio.timeout(30):
            while self.found.get(mailbox_id) != counted:
                await waiter.wait()
                news = watch.news(None)
                self.found.update(news.counts() if news is not None else [])


async def test_followers_in_every_process_are_sent_the_counts_of_a_change_in_one(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MERGE_SECONDS", 0.0)
    account_id = await stores.add_account()
    inbox = await stores.mailbox(account_id, "INBOX")
    first, second = Process(stores), Process(stores)
    index = Index(stores.database, first.bus)
    store = MailStore(stores.database, index, stores.store.blobs)
    here, there = Waiter(), Waiter()
    with (
        Counts(stores.reader.mailboxes, first.bus).watching(account_id, here) as of_first,
        Counts(stores.reader.mailboxes, second.bus).watching(account_id, there) as of_second,
    ):
        await first.until(of_first, here, inbox.id, (0, 0))
        await second.until(of_second, there, inbox.id, (0, 0))

        await store.add(account_id, inbox.id, [(await store.keep(message(1)), frozenset(), None)])
        await first.until(of_first, here, inbox.id, (1, 1))
        await second.hear()
        await second.until(of_second, there, inbox.id, (1, 1))

        await index.apply(account_id, Delta(flagged=(Flagged(Location(inbox.id, 1), frozenset({SEEN}), 12),)))
        await second.hear()
        await second.until(of_second, there, inbox.id, (0, 1))
        await first.until(of_first, here, inbox.id, (0, 1))
