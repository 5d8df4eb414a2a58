"""Many sessions at once over real sockets, and what a crash leaves."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest
from app.servers.imap.conversation import GUEST_LIMITS

from tests.imap_harness import PASSWORD, USER, ImapClient, ImapHarness, mail, open_imap_harness

SESSIONS = 10
COMMANDS = 60
"""Commands of each session."""
SEED = 20240501


Known = tuple[int | None, frozenset[bytes] | None]


class Follower:
    """A client that keeps the mailbox as the answers tell it: UID and flags, where it has heard of them, by number."""

    def __init__(self, client: ImapClient) -> None:
        self._client = client
        self.messages: list[Known] = []

    async def select(self) -> None:
        self._take(await self._client.ok("SELECT INBOX"))
        await self.command("FETCH 1:* (UID FLAGS)")

    async def command(self, text: str | bytes) -> bytes:
        """Do a command and follow its answers; the tagged one."""
        *answers, done = await self._client.command(text)
        is_by_number = re.match(rb"(FETCH|STORE|SEARCH) ", text.encode() if isinstance(text, str) else text)
        assert not (is_by_number and any(answer.endswith(b"EXPUNGE") for answer in answers)), (text, answers)
        self._apply_silent(text)
        self._take(answers)
        return done

    async def ask_for_what_it_never_heard(self) -> None:
        """Flags of messages that came are not told unasked; all others it must have heard of by now."""
        for number, (uid, flags) in enumerate(list(self.messages), 1):
            if flags is None:
                await self.command(f"FETCH {number} (UID FLAGS)")
            elif uid is None:
                await self.command(f"FETCH {number} (UID)")

    def _apply_silent(self, text: str | bytes) -> None:
        """What a STORE.SILENT did is for the client to know."""
        found = re.match(r"STORE 1:(\d+) ([+-])FLAGS.SILENT \((.*)\)", text if isinstance(text, str) else "")
        if found is None:
            return
        flag = frozenset((found[3].encode(),))
        for place, (uid, flags) in enumerate(self.messages[: int(found[1])]):
            if flags is not None:
                self.messages[place] = (uid, flags | flag if found[2] == "+" else flags - flag)

    def _take(self, answers: list[bytes]) -> None:
        for answer in answers:
            match = re.match(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH)(.*)", answer, re.DOTALL)
            if match is None:
                continue
            number = int(match[1])
            if match[2] == b"EXISTS":
                assert number >= len(self.messages), "EXISTS takes no message away"
                self.messages += [(None, None)] * (number - len(self.messages))
            elif match[2] == b"EXPUNGE":
                del self.messages[number - 1]
            else:
                self._take_fetch(number, match[3])

    def _take_fetch(self, number: int, items: bytes) -> None:
        uid, flags = self.messages[number - 1]
        told_uid = re.search(rb"UID (\d+)", items)
        told_flags = re.search(rb"FLAGS \(([^)]*)\)", items)
        if told_uid:
            assert uid in (None, int(told_uid[1])), "a sequence number names one message"
            uid = int(told_uid[1])
        if told_flags:
            flags = frozenset(told_flags[1].split()) - {b"\\Recent"}
        self.messages[number - 1] = (uid, flags)


async def _work_at_random(follower: Follower, chance: random.Random, subject: str) -> None:
    for turn in range(COMMANDS):
        count = len(follower.messages)
        number = chance.randint(1, count) if count else 0
        flag = chance.choice(["\\Seen", "\\Flagged", "\\Deleted", "Work"])
        choices = ["NOOP", "CHECK", "UID SEARCH ALL", "SEARCH UNSEEN", "EXPUNGE", "append"]
        if count:
            sign = chance.choice("+-")
            choices += [f"STORE {number} {sign}FLAGS ({flag})", f"STORE 1:{number} {sign}FLAGS.SILENT ({flag})"]
            choices += [f"FETCH {number}:* (UID)", "UID FETCH 1:* UID", f"COPY {number} INBOX", "append"]
            choices += [f"UID STORE {number} +FLAGS (\\Answered)", f"FETCH {number} (UID BODY[TEXT])"]
        command: str | bytes = chance.choice(choices)
        if command == "append":
            content = mail(f"{subject} {turn}")
            command = b"APPEND INBOX {%d+}\r\n%b" % (len(content), content)
        done = await follower.command(command)
        assert done.startswith(b"OK"), (command, done)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_many_sessions_on_one_mailbox_agree(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """Each follows what it is told; when all is quiet, each has what a fresh session reads."""
    url = request.getfixturevalue("postgres_url") if database == "postgresql" else None
    async with open_imap_harness(tmp_path, database_url=url) as imap, asyncio.timeout(60):
        await imap.deliver(mail("First"))
        quiet = asyncio.Barrier(SESSIONS)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_live(imap, quiet, number)) for number in range(SESSIONS)]
        async with imap.client() as client:
            fresh = Follower(client)
            await fresh.select()

        assert [task.result() for task in tasks] == [fresh.messages] * SESSIONS


async def _live(imap: ImapHarness, quiet: asyncio.Barrier, number: int) -> list[Known]:
    """A session at its random work, until all are quiet; what it knows then."""
    async with imap.client() as client:
        follower = Follower(client)
        await follower.select()
        await _work_at_random(follower, random.Random(SEED + number), f"Session {number}")
        await quiet.wait()
        await follower.command("NOOP")
        await follower.ask_for_what_it_never_heard()
        return follower.messages


async def test_idle_is_told_of_new_mail(tmp_path: Path) -> None:
    async with open_imap_harness(tmp_path) as imap, imap.client() as client:
        await client.ok("SELECT INBOX")
        client.send(b"i IDLE\r\n")
        assert (await client.response()).startswith(b"+")
        content = await imap.harness.store.keep(mail("Now"))
        inbox = await imap.harness.mailbox(imap.account_id)

        await imap.harness.store.add(imap.account_id, inbox.id, [(content, frozenset(), None)])

        assert await client.response() == b"* 1 EXISTS"
        client.send(b"DONE\r\n")
        assert (await client.until(b"i"))[-1].startswith(b"OK")


async def test_a_client_that_never_ends_its_line_holds_little_memory(tmp_path: Path) -> None:
    async with open_imap_harness(tmp_path) as imap, imap.client(is_logged_in=False) as client:
        client.send(b"a NOOP " + b"(" * GUEST_LIMITS.line_bytes * 4)

        assert (await client.response()).startswith(b"a NO [TOOBIG]")


async def test_a_session_of_nobody_ends_with_the_server(tmp_path: Path) -> None:
    async with open_imap_harness(tmp_path) as imap:
        async with imap.client() as client:
            await client.ok("SELECT INBOX")
        async with imap.client() as other:
            assert await other.ok("NOOP") == []


CRASH = """
import asyncio, sys
from pathlib import Path
from tests.imap_harness import open_imap_harness

async def serve(folder):
    async with open_imap_harness(Path(folder)) as imap:
        print(imap.port, flush=True)
        await asyncio.sleep(60)

asyncio.run(serve(sys.argv[1]))
"""


@pytest.mark.parametrize("point", ["blob.synced", "blob.placed", "index.before_commit:2", "index.committed:2"])
async def test_an_append_survives_a_crash_or_was_not_acknowledged(tmp_path: Path, point: str) -> None:
    """kill -9 at each step: after it the message is there once, or it was never said to be."""
    content = mail("Kept", "x" * 100_000 + "\r\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CRASH, str(tmp_path), stdout=PIPE,
        env={"POSTGATE_FAULT_POINT": point, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert process.stdout is not None
    port = int(await process.stdout.readline())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = ImapClient(reader, writer)
    await client.response()
    await client.ok(f"LOGIN {USER} {PASSWORD}")

    answers = await client.command(b"APPEND INBOX {%d+}\r\n%b" % (len(content), content))
    writer.close()

    assert await process.wait() == -9
    async with open_imap_harness(tmp_path, is_new=False) as imap:
        kept = await imap.harness.contents(imap.account_id)
    assert kept in ([], [content])
    assert kept == [content] or not answers[-1].startswith(b"OK")
