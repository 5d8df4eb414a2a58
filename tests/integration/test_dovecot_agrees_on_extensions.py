"""Extensions of IMAP are answered as Dovecot answers them: QRESYNC, SEARCHRES, WITHIN, PREVIEW, SAVEDATE, STATUS=SIZE.

Of QUOTA only refusals are compared: Dovecot says nothing at all of a root without limits.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.imap_harness import PASSWORD, USER, ImapClient, mail, open_imap_harness
from tests.integration.test_dovecot_agrees_on_order import fill, session
from tests.servers.dovecot import Dovecot
from tests.servers.process import started
from tests.servers.tls import TlsFiles

QUOTA = """
mail_plugins = quota
plugin {
  quota = count:User quota
  quota_vsizes = yes
}
protocol imap {
  mail_plugins = quota imap_quota
}
"""
MAIL = [("5-Jan-2021 10:00:00 +0000", mail(f"m{number}", "x" * number * 10 + "\r\n")) for number in range(1, 9)]


@dataclass(frozen=True, slots=True)
class Server:
    """Two sessions of one user; Box with eight messages is selected in both."""

    first: ImapClient
    second: ImapClient


@pytest.fixture
async def servers(tmp_path: Path, tls: TlsFiles) -> AsyncIterator[tuple[Server, Server]]:
    """Ours and theirs."""
    with started(Dovecot(tls, tmp_path / "dovecot.log", more=QUOTA)) as dovecot:
        user = dovecot.add_user()
        async with AsyncExitStack() as stack:
            imap = await stack.enter_async_context(open_imap_harness(tmp_path))
            logins = [
                ("127.0.0.1", imap.port, USER, PASSWORD),
                (dovecot.host, dovecot.imap_port, user.name, user.password),
            ]
            found = []
            for login in logins:
                clients = [await stack.enter_async_context(session(*login)) for _ in range(2)]
                await fill(clients[0], "Box", MAIL)
                await clients[1].ok("SELECT Box")
                found.append(Server(*clients))
            yield found[0], found[1]


_TOLD = re.compile(r"\* (\d+ (FETCH|EXPUNGE)|VANISHED|SEARCH|ESEARCH|STATUS|QUOTA|ENABLED)")
_SAME = [
    (re.compile(r"MODSEQ \(\d+\)"), "MODSEQ"),
    (re.compile(r'SAVEDATE "( ?\d+-\w+-\d+) [^"]*"'), r"SAVEDATE \1"),
    (re.compile(r' ?\\Recent|"'), ""),
    (re.compile(r"\((MESSAGES \d+) (SIZE \d+)\)"), r"(\2 \1)"),
]


def meaning(answers: list[bytes]) -> list[str]:
    """What the answers say, without what either server may choose: MODSEQs, an order, the time of a day."""
    *lines, done = (line.decode("latin-1").rstrip() for line in answers)
    told = [line for line in lines if _TOLD.match(line)]
    for pattern, text in _SAME:
        told = [pattern.sub(text, line) for line in told]
    return [*sorted(told), done.split(" ", 1)[0]]


PLAIN = [
    *("SEARCH RETURN (SAVE) SUBJECT m3", "FETCH $ UID", "SEARCH $", "SEARCH NOT $", "UID SEARCH UID $"),
    *("SEARCH RETURN (SAVE MIN) 3:5", "SEARCH $", "SEARCH RETURN (SAVE MIN MAX) 3:5", "SEARCH $"),
    *("SEARCH RETURN (SAVE COUNT) 2:4", "UID FETCH $ FLAGS", "SEARCH RETURN (SAVE) NOT ALL", "FETCH $ UID", "SEARCH $"),
    *("SEARCH OLDER 100", "SEARCH YOUNGER 100", "SEARCH YOUNGER 999999999", "SEARCH OLDER 0", "SEARCH YOUNGER x"),
    *(
        "FETCH 1:* SAVEDATE",
        "SEARCH SAVEDBEFORE 1-Jan-2022",
        "SEARCH SAVEDSINCE 1-Jan-2022",
        "SEARCH SAVEDATESUPPORTED",
    ),
    *("STATUS Box (SIZE)", "STATUS Box (SIZE MESSAGES)", "STATUS INBOX (SIZE)"),
    *("FETCH 1:3 PREVIEW", "FETCH 1:3 (PREVIEW (LAZY))", "FETCH 1 (PREVIEW (EAGER))"),
    *("GETQUOTA none", "GETQUOTA"),
]


async def test_each_command_is_answered_as_dovecot_answers_it(servers: tuple[Server, Server]) -> None:
    ours, theirs = servers
    for command in PLAIN:
        mine, other = await ours.first.command(command), await theirs.first.command(command)
        assert meaning(mine) == meaning(other), (command, mine, other)


AWAY = [
    *("STORE 2:3,7 +FLAGS (\\Deleted)", "EXPUNGE", "STORE 1 +FLAGS (\\Flagged)", "CREATE Other", "MOVE 4 Other"),
]


async def resynchronised(server: Server) -> list[tuple[str, list[str]]]:
    """QRESYNC of a client that was away while messages were flagged, expunged and moved."""
    client, other = server.first, server.second
    found: list[tuple[str, list[str]]] = []

    async def tell(command: str) -> bytes:
        answers = await client.command(command)
        found.append((re.sub(r"\d{3,}", "n", command), meaning(answers)))
        return b"\r\n".join(answers)

    await client.ok("UNSELECT")
    await tell("SELECT Box (QRESYNC (1 1))")
    await tell("ENABLE QRESYNC")
    opened = await tell("SELECT Box")
    validity, modseq = (number_in(opened, name) for name in (b"UIDVALIDITY", b"HIGHESTMODSEQ"))
    await client.ok("UNSELECT")
    for command in AWAY:
        await other.ok(command)
    for known in ("", " 1:4", " 5:*", " 5:9", " 1:8 (1,4 1,4)"):
        answers = await client.command(f"SELECT Box (QRESYNC ({validity} {modseq}{known}))")
        found.append((known, meaning(answers)))
    for uids in ("1:*", "1:5", "7"):
        answers = await client.command(f"UID FETCH {uids} (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
        found.append((uids, meaning(answers)))
    await client.ok("STORE 1:2 +FLAGS.SILENT (\\Deleted)")
    await tell("UID EXPUNGE 1:4")
    await other.ok("NOOP")
    await other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await other.ok("EXPUNGE")
    await tell("NOOP")
    return found


def number_in(answer: bytes, name: bytes) -> int:
    match = re.search(rb"%b (\d+)" % name, answer)
    assert match is not None
    return int(match[1])


async def test_a_client_that_comes_back_hears_the_same_as_from_dovecot(servers: tuple[Server, Server]) -> None:
    ours, theirs = servers

    assert await resynchronised(ours) == await resynchronised(theirs)
