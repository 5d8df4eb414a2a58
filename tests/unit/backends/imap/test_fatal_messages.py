"""Messages over which a mail server ends the connection are told apart from the others."""

from __future__ import annotations

import pytest
from app.backends.imap.fatal_messages import arrivals
from app.backends.imap.pool import ENDED, Pool
from app.backends.imap.rows import NO_MESSAGE
from app.backends.imap.session import ClientSession
from app.errors import ServerProtocolError, Unreachable
from app.mail.delta import Arrived
from app.wire.imap.sets import SequenceSet

from tests.unit.backends.imap.scripted import SELECTED, Answer, scripted_session
from tests.unit.backends.imap.test_rows import row
from tests.unit.backends.imap.watching.watched import mailbox


class PerilousServer:
    """Opens sessions with a server that ends the connection over some messages, or over the mailbox itself."""

    def __init__(self, *fatal: int, is_shut: bool = False) -> None:
        self.fatal = fatal
        self.opened = 0
        self.limit = 1_000
        self._script: dict[str, Answer] = {"UID FETCH": self._fetch, "SELECT": "* BYE no\r\n" if is_shut else SELECTED}

    async def __call__(self) -> ClientSession:
        self.opened += 1
        if self.opened > self.limit:
            raise Unreachable
        session, _ = scripted_session(self._script)
        return session

    def _fetch(self, command: str) -> str:
        asked = list(SequenceSet.parse(command.split()[2]).numbers(10_000))
        if any(uid in self.fatal for uid in asked):
            return "* BYE crashed\r\n"
        return "".join(map(row, asked)) + "$ OK done\r\n"


async def fetched(server: PerilousServer, uids: range) -> list[Arrived]:
    pool = Pool(server)
    found = [one async for batch in arrivals(pool, mailbox("INBOX"), uids) for one in batch]
    await pool.close()
    return found


@pytest.mark.parametrize("fatal", [(1,), (500,), (1000,), (3, 4, 999)])
async def test_a_message_that_ends_the_connection_costs_the_others_nothing(fatal: tuple[int, ...]) -> None:
    server = PerilousServer(*fatal)

    found = await fetched(server, range(1, 1001))

    assert [one.uid for one in found] == list(range(1, 1001))
    assert {one.uid: one.unread for one in found if one.unread} == dict.fromkeys(fatal, f"{NO_MESSAGE}: {ENDED}")
    assert server.opened <= 11 * len(fatal) + 1


async def test_new_mail_that_ends_the_connection_is_a_row_that_says_so() -> None:
    (one,) = await fetched(PerilousServer(7), range(7, 8))

    assert one.unread is not None


async def test_a_mailbox_that_cannot_be_opened_is_refused_and_no_message_is_blamed() -> None:
    with pytest.raises(ServerProtocolError):
        await fetched(PerilousServer(is_shut=True), range(1, 100))


async def test_a_server_that_lets_nobody_in_again_is_unreachable_and_no_message_is_blamed() -> None:
    server = PerilousServer(5)
    server.limit = 2

    with pytest.raises(Unreachable):
        await fetched(server, range(1, 100))


async def test_a_server_that_ends_every_connection_is_given_up() -> None:
    server = PerilousServer(*range(1, 1000))

    with pytest.raises(Unreachable):
        await fetched(server, range(1, 1000))
    assert server.opened < 60
