"""SORT and THREAD put messages in the order in which Dovecot puts them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from tests.imap_harness import PASSWORD, USER, ImapClient, open_imap_harness
from tests.servers.dovecot import Dovecot

SUBJECTS = [
    *("plum", "Re: plum", "[list] Plum", "Re: [list] PLUM (fwd)", "apple", "Fwd: apple", "[fwd: apple]", "", "Re:"),
    *(
        "=?utf-8?q?=C3=A9clair?=",
        "=?utf-8?b?UmU6IMOJY2xhaXI=?=",
        "=?utf-8?q?Z=C3=BCrich?=",
        "zebra  crossing",
        "[list]",
    ),
]
ADDRESSES = [
    *("ann@a.test", "Bob <bob@b.test>", '"Zoe Q." <ann@z.test>', "BOB@c.test", "=?utf-8?q?=C3=84nne?= <x@y.test>"),
    *("<only@x.test>", "carl@a.test, bob@b.test"),
]
DATES = [
    *("Mon, 1 Jan 2024 10:00:00 +0000", "Mon, 1 Jan 2024 12:00:00 +0300", "Sun, 31 Dec 2023 23:00:00 -0800"),
    *("Tue, 2 Jan 2024 00:00:00 +0000", "Fri, 5 Jan 2024 09:30:15 +0100", "Sat, 6 Jan 2024 09:30:15 +0100"),
]
KEYS = ["ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO"]
COMMANDS = [
    *(f"SORT ({key}) UTF-8 ALL" for key in KEYS),
    *(f"SORT (REVERSE {key}) UTF-8 ALL" for key in KEYS),
    *("SORT (SUBJECT REVERSE DATE) UTF-8 ALL", "SORT (FROM SUBJECT REVERSE SIZE) US-ASCII UNSEEN"),
    *(
        "UID SORT (DATE) UTF-8 SUBJECT plum",
        "SORT (SIZE) UTF-8 SUBJECT none",
        "SORT (BOGUS) UTF-8 ALL",
        "SORT () UTF-8 ALL",
    ),
    *(f"SORT RETURN ({wanted}) (SUBJECT) UTF-8 1:9" for wanted in ("MIN MAX", "COUNT", "ALL", "MIN MAX COUNT ALL")),
    *(f"THREAD {name} UTF-8 ALL" for name in ("REFERENCES", "ORDEREDSUBJECT", "BOGUS")),
    *("UID THREAD REFERENCES UTF-8 SUBJECT plum", "THREAD REFERENCES UTF-8 5:25", "THREAD REFERENCES UTF-8 NOT ALL"),
    *("THREAD ORDEREDSUBJECT UTF-8 5:25", "THREAD REFERENCES UTF-8"),
]


def messages(random: Random, count: int) -> list[tuple[str, bytes]]:
    """INTERNALDATE and content; each names some of the others, of which some are not there."""
    found = []
    for number in range(count):
        names = [f"<{random.randrange(count + 10)}@x.test>" for _ in range(random.choice((0, 0, 1, 1, 2, 4)))]
        fields = [
            f"Message-ID: <{number}@x.test>",
            f"Date: {random.choice(DATES)}",
            f"Subject: {random.choice(SUBJECTS)}",
            f"From: {random.choice(ADDRESSES)}",
            f"To: {random.choice(ADDRESSES)}",
            *([f"Cc: {random.choice(ADDRESSES)}"] if random.random() < 0.5 else []),
            *([f"References: {' '.join(names)}"] if names and random.random() < 0.7 else []),
            *([f"In-Reply-To: {names[0]}"] if names else []),
        ]
        text = "\r\n".join([*fields, "", "x" * random.randrange(5) * 40, ""])
        found.append((f"{random.randint(10, 28)}-Jan-2024 10:00:00 +0000", text.encode()))
    return found


@asynccontextmanager
async def session(host: str, port: int, user: str, password: str) -> AsyncIterator[ImapClient]:
    reader, writer = await asyncio.open_connection(host, port)
    client = ImapClient(reader, writer)
    try:
        client.greeting = await client.response()
        await client.ok(f"LOGIN {user} {password}")
        yield client
    finally:
        writer.close()
        await writer.wait_closed()


async def fill(client: ImapClient, name: str, mail: list[tuple[str, bytes]]) -> None:
    await client.ok(f"CREATE {name}")
    for date, content in mail:
        await client.ok(f'APPEND {name} "{date}" {{{len(content)}+}}\r\n'.encode() + content)
    await client.ok(f"SELECT {name}")


async def answer(client: ImapClient, command: str) -> list[bytes]:
    """The answers, and whether the command was done; Dovecot ends an empty THREAD with a space."""
    *untagged, done = await client.command(command)
    return [*[line.rstrip() for line in untagged], done.split(b" ", 1)[0]]


async def test_dovecot_sorts_and_threads_messages_in_the_same_order(tmp_path: Path, dovecot: Dovecot) -> None:
    user = dovecot.add_user()
    async with (
        open_imap_harness(tmp_path) as imap,
        session("127.0.0.1", imap.port, USER, PASSWORD) as ours,
        session(dovecot.host, dovecot.imap_port, user.name, user.password) as theirs,
    ):
        for seed in range(4):
            mail = messages(Random(seed), 40)
            await fill(ours, f"Box{seed}", mail)
            await fill(theirs, f"Box{seed}", mail)
            for command in COMMANDS:
                mine, other = await answer(ours, command), await answer(theirs, command)
                assert mine == other, command
