"""Counts of mailboxes and causes of events, on each database."""

from __future__ import annotations

import asyncio

import orjson
import pytest
from app.cause import Cause, caused_by
from app.cluster.bus import Waiter
from app.mail.delta import Delta, Flagged, Location
from app.mail.types import SEEN
from app.services.following import counts as module
from app.services.following.counts import Counts

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
