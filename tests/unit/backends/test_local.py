"""Mail of embedded accounts is changed once, in one transaction, and never written again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from app.backends.local import LocalBackend
from app.errors import PreconditionFailed
from app.mail.types import FLAGGED, SEEN, AccountId, Message
from app.mailstore.store import FlagChange

from tests.harness import Harness, open_harness


@dataclass(frozen=True, slots=True)
class Ann:
    harness: Harness
    account_id: AccountId
    backend: LocalBackend

    async def add(self, flags: frozenset[str] = frozenset()) -> Message:
        store, inbox = self.harness.store, await self.harness.mailbox(self.account_id)
        applied = await store.add(self.account_id, inbox.id, [(await store.keep(b"Subject: Hi\r\n\r\n"), flags, None)])
        (id_,) = applied.message_ids.values()
        return await self.harness.reader.messages.message(self.account_id, id_)

    async def last_seq(self) -> int:
        return (await self.harness.reader.mailboxes.standing(self.account_id)).position.seq


@pytest.fixture
async def ann(tmp_path: Path) -> AsyncIterator[Ann]:
    async with open_harness(tmp_path) as harness:
        account_id = await harness.add_account("ann@demo.test")
        yield Ann(
            harness, account_id, LocalBackend(account_id, harness.store, harness.reader, harness.database, harness.bus)
        )


async def test_flags_added_and_removed_are_one_event_and_one_transaction(ann: Ann) -> None:
    message = await ann.add(frozenset({FLAGGED}))
    before = await ann.last_seq()

    confirmed = await ann.backend.store_flags([message], add=frozenset({SEEN}), remove=frozenset({FLAGGED}))
    await ann.harness.index.confirm(ann.account_id, confirmed)

    assert await ann.last_seq() == before + 1
    assert (await ann.harness.reader.messages.message(ann.account_id, message.id)).flags == {SEEN}


async def test_a_condition_holds_for_the_whole_change_of_flags(ann: Ann) -> None:
    message = await ann.add(frozenset({FLAGGED}))
    await ann.backend.store_flags([message], add=frozenset({"$work"}))

    with pytest.raises(PreconditionFailed):
        await ann.backend.store_flags(
            [message], add=frozenset({SEEN}), remove=frozenset({FLAGGED}), unchanged_since=message.modseq
        )
    assert (await ann.harness.reader.messages.message(ann.account_id, message.id)).flags == {FLAGGED, "$work"}


async def test_what_another_client_did_since_is_not_undone_by_confirming_a_change(ann: Ann) -> None:
    mailboxes, index = ann.harness.store.mailboxes, ann.harness.index
    await mailboxes.create(ann.account_id, "X")
    message = await ann.add()
    ours = [
        await ann.backend.rename_mailbox(await ann.harness.mailbox(ann.account_id, "X"), "Y"),
        await ann.backend.set_subscribed(await ann.harness.mailbox(ann.account_id, "Y"), False),
        await ann.backend.store_flags([message], add=frozenset({SEEN})),
    ]
    renamed = await ann.harness.mailbox(ann.account_id, "Y")
    await mailboxes.subscribe(ann.account_id, "Y", is_subscribed=True)
    await mailboxes.rename(ann.account_id, renamed.id, "Z")
    unread = FlagChange(remove=frozenset({SEEN}))
    await ann.harness.store.store_flags(ann.account_id, message.mailbox_id, [message.uid], unread)
    before = await ann.last_seq()

    for confirmed in ours:
        await index.confirm(ann.account_id, confirmed)

    assert await ann.last_seq() == before
    now = await ann.harness.mailbox(ann.account_id, "Z")
    assert (now.id, now.is_subscribed) == (renamed.id, True)
    assert (await ann.harness.reader.messages.message(ann.account_id, message.id)).flags == frozenset()
