"""Reading an account's log for those who follow it: how many statements, and what a position may ask for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from app.cluster.bus import LocalBus, listening
from app.db.session import Database, Row, Statement, Transaction
from app.db.tables import EVENT
from app.errors import AccountNotFound, StateExpired
from app.mail.delta import Delta, Note
from app.mail.events import AccountResync
from app.mail.types import AccountId, Position
from app.mailstore.index import Index
from app.mailstore.log import EventLog
from app.services.following import feed as module
from app.services.following.events import Events
from sqlalchemy import bindparam, delete

from tests.access import NoSubmissions, unguarded
from tests.contract.stores import Stores

_REMOVE: Statement = delete(EVENT).where(EVENT.c.account_id == bindparam("account_id"), EVENT.c.seq == bindparam("seq"))


@dataclass
class CountingLog(EventLog):
    """An EventLog that counts its statements."""

    database: Database
    statements: int = 0
    _database: Database = field(init=False)

    def __post_init__(self) -> None:
        self._database = self  # type: ignore[assignment] # only its reads are used

    async def rows(self, statement: Statement, *, is_long: bool = False, **values: object) -> Sequence[Row]:
        self.statements += 1
        return await self.database.rows(statement, is_long=is_long, **values)

    async def row(self, statement: Statement, **values: object) -> Row | None:
        self.statements += 1
        return await self.database.row(statement, **values)


@dataclass
class Followed:
    """An account, its events, and the statements that reading them took."""

    stores: Stores
    account_id: AccountId
    log: CountingLog
    events: Events

    async def add(self, count: int) -> None:
        notes = tuple(Note(AccountResync([], {}), self.account_id) for _ in range(count))
        await self.stores.index.apply(self.account_id, Delta(notes=notes))


@pytest.fixture
async def followed(stores: Stores) -> AsyncIterator[Followed]:
    account_id = await stores.add_account()
    log = CountingLog(stores.database)
    with listening(stores.bus, account_id):
        yield Followed(stores, account_id, log, Events(log, stores.reader, stores.bus, NoSubmissions()))


async def test_an_event_is_read_by_one_statement_for_all_who_follow(followed: Followed) -> None:
    position = await followed.events.position(followed.account_id)
    await followed.add(1)
    followed.log.statements = 0

    batches = await asyncio.gather(*(followed.events.next(followed.account_id, position) for _ in range(100)))
    batches.append(await followed.events.next(followed.account_id, position))

    assert followed.log.statements == 1
    assert {batch.events[0].seq for batch in batches} == {position.seq + 1}
    assert len({id(batch.events[0]) for batch in batches}) == 1


async def test_a_follower_that_has_heard_all_reads_nothing(followed: Followed) -> None:
    await followed.add(3)
    last = await followed.events.position(followed.account_id)
    followed.log.statements = 0

    assert not followed.events.is_behind(followed.account_id, last)
    assert followed.events.is_behind(followed.account_id, Position(last.seq - 1, 0))
    assert await followed.events.wait(followed.account_id, last, 10, 0, unguarded) == []
    assert followed.log.statements == 1  # a wait begins with a read, as nobody may have listened before


async def test_a_batch_says_whether_it_is_the_last(followed: Followed) -> None:
    position = await followed.events.position(followed.account_id)
    await followed.add(5)

    first = await followed.events.after(followed.account_id, position, 3)
    second = await followed.events.after(followed.account_id, first.events[-1].position, 3)

    assert [len(first.events), len(second.events)] == [3, 2]
    assert [first.is_last, second.is_last] == [False, True]


async def test_a_tail_in_memory_is_bounded_and_what_is_before_it_is_read(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TAIL_EVENTS", 4)
    positions = [await followed.events.position(followed.account_id)]
    for _ in range(6):
        await followed.add(1)
        positions += [one.position for one in (await followed.events.next(followed.account_id, positions[-1])).events]
    followed.log.statements = 0

    in_memory = [await followed.events.next(followed.account_id, position) for position in positions[2:-1]]
    statements = followed.log.statements
    before = await followed.events.next(followed.account_id, positions[1])

    assert [len(batch.events) for batch in in_memory] == [4, 3, 2, 1]
    assert (statements, followed.log.statements) == (0, 1)
    assert len(before.events) == 5


async def test_who_asks_for_events_is_answered_what_the_log_holds_and_not_what_is_in_memory(followed: Followed) -> None:
    account_id, stores = followed.account_id, followed.stores
    position = await followed.events.position(account_id)
    await followed.add(1)
    await followed.events.next(account_id, position)
    elsewhere = Index(stores.database, LocalBus())
    await elsewhere.apply(account_id, Delta(notes=(Note(AccountResync([], {}), account_id),)))

    assert len((await followed.events.after(account_id, position)).events) == 2


async def test_memory_that_lacks_the_last_event_is_not_used(followed: Followed) -> None:
    position = await followed.events.position(followed.account_id)
    await followed.add(1)
    await followed.events.next(followed.account_id, position)
    await followed.add(1)

    assert len((await followed.events.next(followed.account_id, position)).events) == 2


async def test_a_position_of_another_log_is_refused_in_memory_as_in_the_database(followed: Followed) -> None:
    position = await followed.events.position(followed.account_id)
    await followed.add(2)
    batch = await followed.events.after(followed.account_id, position)
    other = Position(batch.events[0].seq, batch.events[0].at_ms + 1)

    with pytest.raises(StateExpired):
        await followed.events.after(followed.account_id, other)


async def test_a_position_beyond_the_log_is_refused(followed: Followed) -> None:
    last = await followed.events.position(followed.account_id)

    with pytest.raises(StateExpired):
        await followed.events.after(followed.account_id, Position(last.seq + 1, last.at_ms))


async def test_an_event_that_is_missing_at_the_edge_of_what_is_kept_is_a_gap_not_a_silent_loss(
    followed: Followed,
) -> None:
    account_id, stores = followed.account_id, followed.stores
    first = await followed.events.earliest(account_id)
    await followed.add(3)

    async def lose_the_second(transaction: Transaction) -> None:
        await transaction.execute(_REMOVE, account_id=account_id, seq=first.seq + 1)

    await stores.database.write(lose_the_second)

    with pytest.raises(StateExpired):
        await followed.events.after(account_id, first)


async def test_there_are_no_events_of_an_account_that_is_gone(followed: Followed) -> None:
    with pytest.raises(AccountNotFound):
        await followed.events.after(AccountId("acc_gone"), Position(0, 0))


async def test_the_last_numbers_of_many_accounts_are_one_statement(followed: Followed) -> None:
    last = await followed.events.position(followed.account_id)
    followed.log.statements = 0

    numbers = await followed.log.last_numbers([followed.account_id, "acc_gone"])

    assert (numbers, followed.log.statements) == ({followed.account_id: last.seq}, 1)
