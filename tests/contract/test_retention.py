"""What is old is let go of, and a log that was trimmed says so."""

from __future__ import annotations

import os
import time

import pytest
from app.db import retention, submissions
from app.db.session import Database, Transaction
from app.db.submissions import Submission
from app.errors import StateExpired
from app.mail.delta import Delta, Note
from app.mail.event_log import Span
from app.mail.events import AccountResync
from app.mail.identifiers import now_ms
from app.mail.types import AccountId
from app.mailstore.blobs import GRACE_SECONDS, BlobMissing
from app.mailstore.differences import Differences
from app.services.following.changes import ChangesSince
from app.services.following.events import Events
from app.services.following.states import StatePosition
from app.settings import Settings
from app.workers import retention as module
from app.workers.retention import DAY_MS, SUBMISSION_DAYS, RetentionWorker

from tests.access import NoSubmissions
from tests.contract.stores import Stores, message


async def keep(stores: Stores, count: int = 1000, days: int = 7) -> None:
    """One round with these settings."""
    settings = Settings(event_retention_count=count, event_retention_days=days)
    await RetentionWorker(settings, stores.database, stores.reader, stores.store.blobs).round()


async def add_events(stores: Stores, account_id: AccountId, count: int) -> None:
    notes = tuple(Note(AccountResync([], {}), account_id) for _ in range(count))
    await stores.index.apply(account_id, Delta(notes=notes))


async def test_a_log_keeps_as_many_events_as_it_may_and_expires_what_is_before(stores: Stores) -> None:
    account_id = await stores.add_account()
    await add_events(stores, account_id, 2500)
    events = Events(stores.log, stores.reader, stores.bus, NoSubmissions())
    last = await events.position(account_id)
    first, gone = await events.place(account_id, last.seq - 1000), await events.place(account_id, last.seq - 1001)

    await keep(stores)

    assert await stores.log.span(account_id) == Span(first, last)
    assert len((await events.after(account_id, first, 2000)).events) == 1000
    with pytest.raises(StateExpired):
        await events.after(account_id, gone, 10)


async def test_logs_that_are_too_long_are_trimmed_between_the_rounds_and_no_others_are_read(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, short = await stores.add_account(), await stores.add_account()
    await add_events(stores, long, 1500)
    await add_events(stores, short, 500)
    read: list[str] = []
    oldest_events = retention.oldest_events

    async def noted(database: Database, account_id: str, after_seq: int, limit: int) -> list[retention.EventTime]:
        read.append(account_id)
        return await oldest_events(database, account_id, after_seq, limit)

    monkeypatch.setattr(retention, "oldest_events", noted)
    settings = Settings(event_retention_count=1000)
    await RetentionWorker(settings, stores.database, stores.reader, stores.store.blobs).trim_long_logs()

    spans = {account_id: await stores.log.span(account_id) for account_id in (long, short)}
    assert {id_: span and span.last.seq - span.first.seq for id_, span in spans.items()} == {long: 1000, short: 506}
    assert set(read) == {long}


async def test_a_log_lets_go_of_events_by_age(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    account_id = await stores.add_account()
    await add_events(stores, account_id, 10)
    monkeypatch.setattr(module, "now_ms", lambda: now_ms() + 8 * DAY_MS)

    await keep(stores)

    span = await stores.log.span(account_id)
    assert span is not None
    assert span.first == span.last


async def test_tombstones_are_let_go_of_by_age_and_their_mailboxes_say_so(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    account_id = await stores.add_account()
    inbox, trash = await stores.mailbox(account_id, "INBOX"), await stores.mailbox(account_id, "Trash")
    for number in (1, 2):
        kept = await stores.store.keep(message(number))
        await stores.store.add(account_id, inbox.id, [(kept, frozenset(), None)])
    before = (await stores.reader.mailboxes.standing(account_id)).position
    await stores.store.expunge(account_id, inbox.id, [1], only_deleted=False)
    source = ChangesSince(
        Differences(stores.database), stores.log, Events(stores.log, stores.reader, stores.bus, NoSubmissions())
    )

    monkeypatch.setattr(module, "now_ms", lambda: now_ms() + 89 * DAY_MS)
    await keep(stores)
    changes = await source.read(account_id, StatePosition(before, before.seq))
    monkeypatch.setattr(module, "now_ms", lambda: now_ms() + 91 * DAY_MS)
    await keep(stores)

    assert list(changes.removed.values()) == ["expunged"]
    with pytest.raises(StateExpired) as told:
        await source.read(account_id, StatePosition(before, before.seq))
    assert told.value.mailbox_ids == (inbox.id,)
    assert (
        trash.id
        not in (await source.read(account_id, StatePosition(before, before.seq), None, [inbox.id])).mailboxes_updated
    )


async def test_bytes_that_no_message_needs_are_swept_after_a_while(stores: Stores) -> None:
    account_id = await stores.add_account()
    inbox = await stores.mailbox(account_id, "INBOX")
    kept = await stores.store.keep(message(1))
    await stores.store.add(account_id, inbox.id, [(kept, frozenset(), None)])
    unused, fresh = await stores.store.keep(message(2)), await stores.store.keep(message(3))
    root = stores.store.blobs._root
    for name in (kept.blob, unused.blob):
        old = time.time() - GRACE_SECONDS - 60
        os.utime(root / name[:2] / name[2:], (old, old))

    await keep(stores)

    assert await stores.store.blobs.get(kept.blob) == message(1)
    assert await stores.store.blobs.get(fresh.blob) == message(3)
    with pytest.raises(BlobMissing):
        await stores.store.blobs.get(unused.blob)


@pytest.mark.parametrize(
    ("status", "phase", "is_kept"), [("sent", "done", False), ("failed", "done", False), ("deferred", "", True)]
)
async def test_submissions_that_are_long_over_are_removed(
    stores: Stores, status: str, phase: str, is_kept: bool
) -> None:
    account_id = await stores.add_account()
    old = now_ms() - (SUBMISSION_DAYS + 1) * DAY_MS
    row = Submission(
        account_id, "sub_1", status, phase, "me@demo.test", "[]", "<1@demo.test>", None, 1, "{}", 1, 0, None, 0, True,
        old, old,
    )  # fmt: skip

    async def work(transaction: Transaction) -> None:
        await submissions.add(transaction, row)

    await stores.database.write(work)
    await keep(stores)

    assert (await submissions.get(stores.database, account_id, "sub_1") is not None) == is_kept
