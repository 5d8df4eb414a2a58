"""The difference since a state, from rows: right whatever happened, whether or not the log is kept."""

from __future__ import annotations

import random

import pytest
from app.db import retention
from app.db.session import Transaction
from app.errors import StateExpired
from app.mail.types import AccountKind, Position
from app.mailstore.differences import Differences
from app.services.following import changes as module
from app.services.following.changes import ChangesSince
from app.services.following.events import Events
from app.services.following.states import StatePosition

from tests.access import NoSubmissions
from tests.contract.changes_model import Client, Origin, fresh
from tests.contract.stores import Stores

ROUNDS, CHANGES_A_ROUND = 8, 20


def source_on(stores: Stores) -> ChangesSince:
    events = Events(stores.log, stores.reader, stores.bus, NoSubmissions())
    return ChangesSince(Differences(stores.database), stores.log, events)


async def client_of(origin: Origin, chance: random.Random) -> Client:
    """One that knows everything there is now; every other one sees some mailboxes alone."""
    stores, account_id = origin.stores, origin.account_id
    position = (await stores.reader.mailboxes.standing(account_id)).position
    mailboxes = [one.id for one in await stores.reader.mailboxes.mailboxes(account_id)]
    visible = frozenset(chance.sample(mailboxes, len(mailboxes) // 2)) if chance.random() < 0.5 else None
    messages, shown = await fresh(stores, account_id, visible)
    return Client(stores, account_id, StatePosition(position, position.seq), visible, messages, shown)


async def trim(stores: Stores, origin: Origin, chance: random.Random, *, tombstones: bool) -> None:
    """Let go of some of the oldest events, and of tombstones if so."""
    span = await stores.log.span(origin.account_id)
    assert span is not None
    to_seq = chance.randint(span.first.seq, span.last.seq)
    at_ms = await stores.log.at_ms(origin.account_id, to_seq)

    async def work(transaction: Transaction) -> None:
        if at_ms is not None:
            await retention.trim_events(transaction, origin.account_id, to_seq, at_ms)
        if tombstones:
            await retention.trim_tombstones(transaction, origin.account_id, 2**50, chance.randint(1, 40))

    await stores.database.write(work)


@pytest.mark.parametrize("is_shared", [False, True], ids=["one mailbox each", "several mailboxes"])
@pytest.mark.parametrize("limit", [3, 2_000])
async def test_any_difference_leads_to_what_a_fresh_read_shows(
    stores: Stores, is_shared: bool, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHANGES_LIMIT", limit)
    chance = random.Random(limit + is_shared)
    account_id = await stores.add_account(AccountKind.IMAP)
    origin, source = Origin(stores, account_id, chance, is_shared), source_on(stores)
    clients = [await client_of(origin, chance)]
    for number in range(ROUNDS):
        for _ in range(CHANGES_A_ROUND):
            await origin.change()
        await trim(stores, origin, chance, tombstones=number > ROUNDS // 2)
        clients.append(await client_of(origin, chance))
        for client in chance.sample(clients, min(3, len(clients))):
            while await client.page(source) and chance.random() < 0.8:
                await origin.change()  # while it reads on
        if number % 4 == 3:
            for client in clients:
                while await client.page(source):
                    pass
                messages, mailboxes = await fresh(stores, account_id, client.visible)
                assert client.seen() == messages
                assert client.mailboxes == mailboxes
    assert any(client.resets for client in clients)


async def test_a_state_of_a_log_that_was_lost_names_every_mailbox(stores: Stores) -> None:
    account_id = await stores.add_account()
    source = source_on(stores)
    position = (await stores.reader.mailboxes.standing(account_id)).position
    ids = {one.id for one in await stores.reader.mailboxes.mailboxes(account_id)}

    for lost in (Position(position.seq + 5, position.at_ms), Position(position.seq, position.at_ms + 1)):
        since = StatePosition(lost, lost.seq)
        with pytest.raises(StateExpired) as told:
            await source.read(account_id, since)
        changes = await source.read(account_id, since, None, told.value.mailbox_ids)

        assert set(told.value.mailbox_ids) == ids
        assert (changes.position, changes.base_seq, set(changes.mailboxes_updated)) == (position, None, ids)
