"""Mail servers that mean harm, followed by the real worker: memory and time stay bounded, and no one else feels it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from app.backends.imap import fatal_messages
from app.backends.imap import session as session_module
from app.backends.imap.backend import ImapBackend
from app.backends.imap.connection import exchange as exchange_module
from app.backends.imap.connection import opening as opening_module
from app.backends.imap.origin import Hosts, Origin
from app.mail.types import ServerLogin, TransportSecurity
from app.security.netguard import NetGuard
from app.workers.sync import account as account_module

from tests.harness import open_harness
from tests.integration.raw_server import raw_server
from tests.servers.hostile_imap import ENVELOPE, PLAIN, Dialog, Harm, HostileImap, row
from tests.sync_harness import Followed, add_remote_account

MIB = 1024 * 1024
MEMORY_BYTES = 320 * MIB
"""What one hostile server may make us hold for a moment: what each of an account's connections may keep."""


def origin_at(port: int) -> Origin:
    login = ServerLogin("127.0.0.1", port, TransportSecurity.NONE, "ann", "secret")
    return Origin(login, NetGuard.of(["127.0.0.0/8"]), ssl.create_default_context(), Hosts())


@asynccontextmanager
async def followed(folder: Path, server: HostileImap) -> AsyncIterator[Followed]:
    """An account at this server, being followed."""
    async with raw_server(server) as port, open_harness(folder) as harness:
        account_id = await add_remote_account(harness, "ann@x.test")
        backend = ImapBackend(account_id, origin_at(port), harness.reader.mailboxes)
        one = Followed(harness, account_id, backend)
        try:
            async with one.following():
                yield one
        finally:
            await backend.close()


def _memory_bytes(name: str) -> int:
    """Of this process now ("VmRSS"), or at its highest since that was cleared ("VmHWM")."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


@pytest.fixture
def memory() -> Iterator[None]:
    """Fails where more was held at once than a hostile server may make us hold."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory_bytes("VmRSS")
    yield
    assert _memory_bytes("VmHWM") - before < MEMORY_BYTES


def saying(data: bytes) -> Harm:
    async def harm(dialog: Dialog, tag: str) -> None:
        await dialog.say(data.replace(b"$", tag.encode()))

    return harm


def flooding(unit: bytes, size_bytes: int, end: bytes = b"") -> Harm:
    async def harm(dialog: Dialog, tag: str) -> None:
        await dialog.flood(unit, size_bytes)
        await dialog.say(end.replace(b"$", tag.encode()))

    return harm


async def leaving(dialog: Dialog, tag: str) -> None:
    await dialog.say(b"* BYE enough\r\n")


async def half_closing(dialog: Dialog, tag: str) -> None:
    """Says no more, and goes on listening."""
    dialog.writer.write_eof()
    await dialog.reader.read()


async def hanging(dialog: Dialog, tag: str) -> None:
    await dialog.reader.read()


def selected(count: bytes) -> bytes:
    return b"* " + count + b" EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 4294967295] x\r\n$ OK\r\n"


# ---- answers that no server should send


@pytest.mark.parametrize(
    ("where", "harm"),
    [
        ("UID FETCH", saying(b"* 1 FETCH (UID 1 BODY[] {4294967295}\r\n")),
        ("LIST", flooding(b"x", 64 * MIB)),
        ("SELECT", flooding(b"* 9 EXISTS\r\n", 12_000_000 * 12)),
        ("LIST", saying(b"ZZ9 OK never asked\r\n$ OK\r\n")),
        ("UID SEARCH", saying(b"* ESEARCH UID ALL 1:4294967295\r\n$ OK\r\n")),
        ("LIST", saying(b"* LIST " + b'{1}\r\n"' * 100_001 + b"\r\n$ OK\r\n")),
        ("LIST", saying(b"* LIST " + b"(" * 100_000 + b"\r\n$ OK\r\n")),
    ],
    ids=[
        "literal of 4 GiB", "endless line", "EXISTS without end", "foreign tag", "set of 4 billion",
        "100,000 literals", "100,000 lists",
    ],
)  # fmt: skip
async def test_a_hostile_answer_costs_its_own_account_its_connection(
    tmp_path: Path, memory: None, monkeypatch: pytest.MonkeyPatch, where: str, harm: Harm
) -> None:
    monkeypatch.setattr(exchange_module, "MAX_KEPT_BYTES", 8 * MIB)  # or it takes 10 s to be passed
    async with followed(tmp_path, HostileImap({where: harm})) as one:
        await one.until(lambda: _fault(one), True)


@pytest.mark.parametrize(
    "answer",
    [b"* SEARCH 4294967296 x\r\n$ OK\r\n", b"$ OK\r\n", b"* ESEARCH UID ALL x\r\n$ OK\r\n", b"* SEARCH 0\r\n$ OK\r\n"],
)
async def test_a_search_that_cannot_be_read_hides_no_mail(tmp_path: Path, answer: bytes) -> None:
    async with followed(tmp_path, HostileImap({"UID SEARCH": saying(answer)})) as one:
        await one.until_live()
        await one.until(one.subjects, ["Hello"])


async def _fault(one: Followed) -> bool:
    """Whether the account is past the server's doing: down, or live without what could not be read."""
    return (await one.state())[1] in ("down", "live")


async def test_a_million_exists_are_as_good_as_one(tmp_path: Path, memory: None) -> None:
    """A flood that ends is taken, and none of it is kept."""
    harm = flooding(b"* 1 EXISTS\r\n", 12_000_000)
    server = HostileImap({"IDLE": _then_idle(harm)})

    async with followed(tmp_path, server) as one:
        await one.until(one.state, ("ready", "live"), 60)  # after a flood on each connection
        assert await one.subjects() == ["Hello"]


def _then_idle(harm: Harm) -> Harm:
    async def idle(dialog: Dialog, tag: str) -> None:
        await dialog.say(b"+ idling\r\n")
        await harm(dialog, tag)

    return idle


async def test_sets_of_four_billion_are_never_written_out(tmp_path: Path, memory: None) -> None:
    """VANISHED, ESEARCH, SEARCH and UIDNEXT of a mailbox that was synced before."""
    everything = b"1:4294967295"
    server = HostileImap(capabilities="IMAP4rev1 IDLE ENABLE CONDSTORE QRESYNC ESEARCH LIST-EXTENDED LIST-STATUS")
    async with followed(tmp_path, server) as one:
        await one.until_live()
        server.spoilt = {
            "SELECT": saying(
                b"* VANISHED (EARLIER) " + everything + b"\r\n* OK [HIGHESTMODSEQ 12] x\r\n" + selected(b"4294967295")
            ),
            "UID SEARCH": saying(b"* ESEARCH UID ALL " + everything + b"\r\n$ OK\r\n"),
            "LIST": saying(
                b'* LIST (\\Subscribed) "/" INBOX\r\n* STATUS INBOX (MESSAGES 1 UIDVALIDITY 7 UIDNEXT 4294967295 '
                b"UNSEEN 0 HIGHESTMODSEQ 12)\r\n$ OK\r\n"
            ),
            "IDLE": _then_idle(saying(b"* VANISHED " + everything + b"\r\n* 4294967295 EXISTS\r\n")),
        }
        asked = len(server.asked)
        await one.until(lambda: _count(server, "UID SEARCH", asked), True)

        assert await one.subjects() == ["Hello"]


async def _count(server: HostileImap, command: str, since: int) -> bool:
    return any(line.startswith(command) for line in server.asked[since:])


@pytest.mark.parametrize("harm", [leaving, half_closing], ids=["BYE", "half-closed"])
@pytest.mark.parametrize("where", ["greeting", "LOGIN", "ENABLE", "LIST", "SELECT", "UID SEARCH", "UID FETCH", "IDLE"])
async def test_an_end_at_any_command_is_noticed_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, harm: Harm
) -> None:
    monkeypatch.setattr(account_module, "RETRY_SECONDS", 0.2)
    server = HostileImap({where: harm})
    async with followed(tmp_path, server) as one:
        await one.until(lambda: _is_retried(server), True)
        server.spoilt.clear()

        await one.until_live()
        await one.until(one.subjects, ["Hello"])


async def _is_retried(server: HostileImap) -> bool:
    return server.connections > 3


# ---- servers that are silent or slow


@pytest.mark.parametrize("where", ["greeting", "LOGIN", "LIST", "UID FETCH", "IDLE"])
@pytest.mark.parametrize("is_dripping", [False, True], ids=["silent", "byte by byte"])
async def test_a_server_that_is_slow_meets_a_deadline_for_the_whole_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, is_dripping: bool
) -> None:
    for module, name in (
        (opening_module, "CONNECT_TIMEOUT_SECONDS"),
        (opening_module, "LOGIN_TIMEOUT_SECONDS"),
        (session_module, "IDLE_END_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.4)
    for command_module in (exchange_module, session_module, fatal_messages):
        monkeypatch.setattr(command_module, "COMMAND_TIMEOUT_SECONDS", 0.4)
    monkeypatch.setattr(fatal_messages, "CAREFUL_SECONDS", 0.4)
    monkeypatch.setattr(account_module, "RETRY_SECONDS", 0.2)
    monkeypatch.setattr(exchange_module.Exchange.__init__, "__kwdefaults__", _quick_exchange())

    async def dripping(dialog: Dialog, tag: str) -> None:
        await dialog.drip(b"* 1 FETCH (UID 1 BODY[] {60000}\r\n" + b"x" * 1000, 0.05)

    server = HostileImap({where: dripping if is_dripping else hanging})
    async with followed(tmp_path, server) as one:
        await one.until(lambda: _is_retried(server), True)


def _quick_exchange() -> dict[str, object]:
    return {**(exchange_module.Exchange.__init__.__kwdefaults__ or {}), "timeout_seconds": 0.4}


# ---- structures and answers that are too large


def nested(depth: int) -> bytes:
    return b"(" * depth + PLAIN + b' "MIXED")' * depth


MANY_ADDRESSES = b"(" + b'("A" NIL "a" "b.c")' * 100_000 + b")"
FEWER_ADDRESSES = b"(" + b'("A" NIL "a" "b.c")' * 9_000 + b")"
BOMBS = {
    "10,000 parts": row(structure=b"(" + PLAIN * 10_000 + b' "MIXED")'),
    "nested 5,000 deep": row(structure=nested(5_000)),
    "nested 110 deep": row(structure=nested(110)),
    "100,000 addresses": row(ENVELOPE.replace(b"NIL NIL NIL NIL", b"NIL NIL " + MANY_ADDRESSES + b" NIL", 1)),
    "9,000 addresses": row(ENVELOPE.replace(b"NIL NIL NIL NIL", b"NIL NIL " + FEWER_ADDRESSES + b" NIL", 1)),
    "a subject of 4 MB": row(ENVELOPE.replace(b"Hello", b"=?utf-8?q?x?= " * 300_000)),
    "a name of 1 MB of quotes": row(ENVELOPE.replace(b'"Bob"', b'"' + b'\\"' * 500_000 + b'"')),
    "100,000 pieces of a name": row(
        structure=PLAIN.replace(b"NIL", b"(" + b" ".join(b'"name*%d*" "x"' % n for n in range(100_000)) + b")", 1)
    ),
    "message in message in message": row(
        structure=(b'("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 9 ' + ENVELOPE + b" ") * 100 + PLAIN + b" 1)" * 100
    ),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
async def test_a_bomb_among_messages_is_listed_and_spoils_no_other(tmp_path: Path, memory: None, bomb: bytes) -> None:
    """Of a message that cannot be read its row is kept; those beside it are as they are."""
    server = HostileImap(rows=[row(), bomb, row()])
    async with followed(tmp_path, server) as one:
        await one.until_live()

        found = await one.messages()
        assert [message.uid for message in found] == [1, 2, 3]
        assert all(len(message.summary) < 2 * MIB for message in found)


async def test_an_answer_larger_than_can_be_kept_ends_the_connection(tmp_path: Path, memory: None) -> None:
    big = b"* 1 FETCH (UID 1 " + row(ENVELOPE.replace(b"Hello", b"x" * (7 * MIB))) + b")\r\n"
    server = HostileImap({"UID FETCH": flooding(big, 40 * len(big))})
    async with followed(tmp_path, server) as one:
        await one.until(lambda: _count(server, "UID FETCH", 0), True)
        asked = len(server.asked)
        await one.until(lambda: _count(server, "LOGIN", asked), True)


async def test_one_who_never_answers_does_not_stop_the_loop(tmp_path: Path) -> None:
    """While a server floods, other tasks get their turns."""
    server = HostileImap({"IDLE": _then_idle(flooding(b"* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n", 100 * MIB))})
    async with followed(tmp_path, server) as one:
        await one.until(lambda: _count(server, "IDLE", 0), True)
        turns, end = 0, time.monotonic() + 3
        while time.monotonic() < end:
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 5


async def test_an_account_is_live_without_a_mailbox_whose_answers_are_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange_module, "MAX_KEPT_BYTES", MIB)
    monkeypatch.setattr(account_module, "RETRY_SECONDS", 0.2)
    big = b"* 1 FETCH (UID 1 " + row(ENVELOPE.replace(b"Hello", b"x" * MIB)) + b")\r\n"
    server = HostileImap({"UID FETCH": saying(big * 2 + b"$ OK\r\n")})
    async with followed(tmp_path, server) as one:
        await one.until_live()

        [named] = (await one.harness.reader.incomplete.of([one.account_id]))[one.account_id]
        assert named.path == "INBOX"
        assert named.problem
