from __future__ import annotations

import asyncio
from itertools import islice

import pytest
from app.backends.imap.pool import LIMITED_SECONDS, Pool
from app.backends.imap.session import ClientSession
from app.errors import RateLimited, ServerProtocolError, Throttled, TimedOut, Unreachable
from app.mail.backoff import reconnect_delays
from app.wire.imap import commands

from tests.unit.backends.imap.scripted import ScriptedServer, scripted_session


class Opener:
    """Opens scripted sessions and remembers them."""

    def __init__(self) -> None:
        self.servers: list[ScriptedServer] = []

    async def __call__(self) -> ClientSession:
        session, server = scripted_session()
        self.servers.append(server)
        return session


async def test_a_connection_is_used_again() -> None:
    opener = Opener()
    pool = Pool(opener)

    async with pool.session() as first:
        pass
    async with pool.session() as second:
        pass

    assert first is second
    await pool.close()


async def test_the_connection_with_the_wanted_mailbox_is_preferred() -> None:
    pool = Pool(Opener())
    async with pool.session() as one, pool.session() as other:
        await one.select("Archive")
        await other.select("INBOX")

    async with pool.session("Archive") as chosen:
        assert chosen is one
    async with pool.session("INBOX") as chosen:
        assert chosen is other
    await pool.close()


async def test_no_more_connections_are_opened_than_the_budget_and_the_next_user_waits() -> None:
    opener = Opener()
    pool = Pool(opener, limit=2)
    used = 0

    async def use() -> None:
        nonlocal used
        async with pool.session():
            used += 1
            assert used <= 2
            await asyncio.sleep(0)
            used -= 1

    await asyncio.gather(*[use() for _ in range(20)])

    assert len(opener.servers) == 2
    await pool.close()


async def test_who_waits_too_long_is_told_to_come_later() -> None:
    pool = Pool(Opener(), limit=1, wait_seconds=0)

    async with pool.session():
        with pytest.raises(RateLimited):
            async with pool.session():
                pass
    await pool.close()


async def test_who_stops_waiting_takes_no_turn_from_the_next() -> None:
    pool = Pool(Opener(), limit=1)
    async with pool.session():
        quitter = asyncio.ensure_future(pool.session().__aenter__())
        await asyncio.sleep(0)
        stayer = asyncio.ensure_future(pool.session().__aenter__())
        await asyncio.sleep(0)
        quitter.cancel()

    assert isinstance(await stayer, ClientSession)


async def test_a_failed_connect_frees_its_place() -> None:
    calls = 0

    async def failing_once() -> ClientSession:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Unreachable
        return scripted_session()[0]

    pool = Pool(failing_once, limit=1)
    with pytest.raises(Unreachable):
        async with pool.session():
            pass

    async with pool.session():
        pass
    await pool.close()


class Strict:
    """A server that lets in so many connections of an account and refuses the next by `refusal`."""

    def __init__(self, allowed: int, refusal: Exception) -> None:
        self.allowed, self.refusal = allowed, refusal
        self.inside = self.refused = 0

    async def __call__(self) -> ClientSession:
        if self.inside >= self.allowed:
            self.refused += 1
            raise self.refusal
        self.inside += 1
        session, _ = scripted_session()
        session.on_closed(self._leave)
        return session

    def _leave(self) -> None:
        self.inside -= 1


REFUSALS = [Throttled("too many"), Unreachable("closed without a word")]


@pytest.mark.parametrize("refusal", REFUSALS, ids=["told", "untold"])
async def test_where_the_server_lets_in_fewer_those_inside_are_shared(refusal: Exception) -> None:
    server = Strict(3, refusal)
    pool = Pool(server, limit=5)
    watching = await pool.open_apart(server)
    served = 0

    async def use() -> None:
        nonlocal served
        async with pool.session():
            await asyncio.sleep(0)
            served += 1

    await asyncio.gather(*[use() for _ in range(20)])

    assert served == 20
    assert server.refused == 1
    watching.close()
    await pool.close()


async def test_a_watch_takes_the_place_of_an_unused_connection() -> None:
    server = Strict(1, Throttled("too many"))
    pool = Pool(server, limit=5)
    async with pool.session():
        pass

    watching = await pool.open_apart(server)

    assert server.inside == 1
    watching.close()
    await pool.close()


@pytest.mark.parametrize("refusal", REFUSALS, ids=["told", "untold"])
async def test_a_refusal_is_told_where_no_connection_could_be_shared(refusal: Exception) -> None:
    server = Strict(1, refusal)
    pool = Pool(server)
    watching = await pool.open_apart(server)

    with pytest.raises(type(refusal)):
        async with pool.session():
            pass
    watching.close()
    await pool.close()


async def test_a_refusal_while_the_watch_is_being_opened_limits_nothing() -> None:
    server = Opener()
    is_restarted = asyncio.Event()

    async def open_slowly() -> ClientSession:
        await is_restarted.wait()
        return await server()

    async def refuse_at_first() -> ClientSession:
        if not is_restarted.is_set():
            raise Unreachable
        return await server()

    pool = Pool(refuse_at_first, wait_seconds=0.05)
    watching = asyncio.ensure_future(pool.open_apart(open_slowly))
    await asyncio.sleep(0)
    with pytest.raises(Unreachable):
        async with pool.session():
            pass
    is_restarted.set()
    await watching

    async with pool.session():
        assert len(server.servers) == 2
    watching.result().close()
    await pool.close()


async def test_after_a_while_one_connection_more_is_tried_again() -> None:
    now = 0.0
    server = Strict(2, Throttled("too many"))
    pool = Pool(server, limit=5, clock=lambda: now)
    async with pool.session(), pool.session():
        waiting = asyncio.ensure_future(pool.session().__aenter__())
        await asyncio.sleep(0)
        assert server.refused == 1
    await waiting
    server.allowed, now = 3, LIMITED_SECONDS

    async with pool.session(), pool.session():
        assert server.inside == 3
    await pool.close()


async def test_where_one_connection_fell_silent_no_unused_one_is_waited_for() -> None:
    opener = Opener()
    pool = Pool(opener)
    watching = await pool.open_apart(opener)
    async with pool.session() as unused:
        pass

    watching.protocol.drop(TimedOut())

    async with pool.session() as fresh:
        assert fresh is not unused
    await pool.close()


async def test_an_unused_connection_is_closed_after_a_while() -> None:
    opener = Opener()
    pool = Pool(opener, idle_seconds=0)
    async with pool.session() as session:
        pass

    await session.protocol.wait_closed()

    assert opener.servers[0].told == ["LOGOUT"]


async def test_a_lost_connection_is_not_handed_out_again() -> None:
    opener = Opener()
    pool = Pool(opener)
    async with pool.session():
        pass
    opener.servers[0].say("* BYE gone\r\n")

    async with pool.session():
        assert len(opener.servers) == 2
    await pool.close()


async def test_reading_is_tried_again_where_a_used_connection_proves_lost() -> None:
    opener = Opener()
    pool = Pool(opener, limit=1)
    async with pool.session():
        pass
    opener.servers[0].script["NOOP"] = "* BYE gone\r\n"

    async def read(session: ClientSession) -> str:
        await session.do(commands.noop())
        return "read"

    assert await pool.read(None, read) == "read"
    await pool.close()


async def test_reading_on_a_new_connection_is_tried_once() -> None:
    pool = Pool(Opener())

    async def read(session: ClientSession) -> None:
        raise Unreachable

    with pytest.raises(Unreachable):
        await pool.read(None, read)
    await pool.close()


async def test_a_connection_with_an_abandoned_command_comes_back_when_that_has_ended() -> None:
    opener = Opener()
    pool = Pool(opener, limit=1)
    async with pool.session() as session:
        opener.servers[0].script["SELECT"] = ""
        waiting = asyncio.ensure_future(session.select("INBOX"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    coming = asyncio.ensure_future(pool.session().__aenter__())
    await asyncio.sleep(0)
    assert not coming.done()

    tag = opener.servers[0].sent.split()[-3].decode()
    opener.servers[0].say(f"{tag} OK late\r\n")

    assert await coming is session


async def test_closing_ends_a_connection_with_an_abandoned_command_too() -> None:
    opener = Opener()
    pool = Pool(opener)
    async with pool.session() as session:
        opener.servers[0].script["SELECT"] = ""
        waiting = asyncio.ensure_future(session.select("INBOX"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert session.protocol.lost is None

    await pool.close()

    assert session.protocol.lost is not None


def test_reconnects_wait_longer_and_longer_but_never_more_than_half_a_minute() -> None:
    assert list(islice(reconnect_delays(lambda low, high: 1.0), 9)) == [0, 1, 2, 4, 8, 16, 30, 30, 30]
    spread = list(islice(reconnect_delays(), 7))
    assert 24 <= spread[6] <= 36


async def test_a_spare_connection_is_closed_as_soon_as_its_place_is_wanted() -> None:
    server = Strict(3, Throttled("too many"))
    pool = Pool(server, limit=3)
    watching, spare = await pool.open_apart(server), await pool.open_spare(server)

    async with pool.session(), pool.session():
        assert spare.protocol.lost is not None
        with pytest.raises(RateLimited):
            await pool.open_spare(server)
    assert (server.refused, server.inside) == (0, 3)
    watching.close()
    await pool.close()


@pytest.mark.parametrize("refusal", REFUSALS, ids=["told", "untold"])
async def test_a_spare_connection_makes_room_where_the_server_lets_in_fewer(refusal: Exception) -> None:
    server = Strict(2, refusal)
    pool = Pool(server, limit=5)
    watching, spare = await pool.open_apart(server), await pool.open_spare(server)

    async with pool.session():
        assert spare.protocol.lost is not None
    assert server.refused == 1
    watching.close()
    await pool.close()


async def test_a_spare_connection_that_is_refused_takes_no_place() -> None:
    server = Strict(2, Throttled("too many"))
    pool = Pool(server, limit=5)
    watching = await pool.open_apart(server)
    async with pool.session():
        with pytest.raises(Throttled):
            await pool.open_spare(server)

    async with pool.session():
        assert server.inside == 2
    watching.close()
    await pool.close()


async def test_what_ends_two_connections_in_one_mailbox_is_a_fault_of_that_mailbox() -> None:
    pool = Pool(Opener())

    async def read(session: ClientSession) -> None:
        raise Unreachable

    with pytest.raises(ServerProtocolError):
        await pool.read("Bad", read)
    await pool.close()


async def test_what_is_not_answered_in_one_mailbox_is_asked_once_and_a_fault_of_that_mailbox() -> None:
    pool = Pool(Opener())
    asked = []

    async def read(session: ClientSession) -> None:
        asked.append(session)
        raise TimedOut

    with pytest.raises(ServerProtocolError):
        await pool.read("Bad", read)
    assert len(asked) == 1
    await pool.close()
