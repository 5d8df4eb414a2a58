"""Our IMAP server answers as Dovecot does: the same commands, on the same mail, one after another.

Left out is what either may do (RFC 9051): the order of items, untagged OK, \\Recent, \\Marked, response codes, EXPUNGEs
from below or from above, NIL or "" for a section that is not there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.imap_harness import PASSWORD, USER, ImapClient, open_imap_harness
from tests.servers.dovecot import Dovecot

CORPUS = Path(__file__).parents[1] / "corpus" / "mime"
DIFFERENT = {"no-boundary.eml", "latin1-headers.eml", "bare-lf.eml"}
"""Dovecot repairs these as they come, or reads them in another way."""
SECTIONS = [
    *("HEADER", "TEXT", "1.MIME", "2", "2.MIME", "2.HEADER", "2.TEXT", "3", "3.HEADER", "3.TEXT", "9"),
    *("HEADER.FIELDS (Subject From)", "HEADER.FIELDS.NOT (Received Subject)", "HEADER.FIELDS (X-None)", ""),
]
READING = [
    "NOOP",
    "CHECK",
    *(f"FETCH 1:* BODY.PEEK[{section}]" for section in SECTIONS),
    *(f"FETCH 1:* BODY.PEEK[{section}]" for section in ("]<0.100>", "]<50.20>", "]<1000000.5>", "TEXT]<0.10>")),
    *("FETCH 1:* FAST", "FETCH 1:* (UID FLAGS)", "FETCH 1:* RFC822.HEADER", "FETCH 1:* RFC822.SIZE"),
    *("UID FETCH 1:3 FLAGS", "UID FETCH 1000:* FLAGS", "UID FETCH * UID", "FETCH 3:1 UID", "FETCH 1,1,2 UID"),
    *("FETCH 0 UID", "FETCH 9999 UID", "FETCH 1 NOSUCH", "FETCH 1", "UID FETCH 9999 UID"),
]
CRITERIA = [
    *(
        "ALL",
        "1:3",
        "*",
        "UID 1:4",
        "2:4 NOT 3",
        "SUBJECT re",
        "FROM a",
        "TO example",
        "CC a",
        "BCC a",
        "(ALL) (NOT ALL)",
    ),
    *("BODY the", "TEXT example.com", 'HEADER Message-ID ""', 'HEADER References ""', "HEADER Received localhost"),
    *(
        "LARGER 1000",
        "SMALLER 800",
        "SENTSINCE 1-Jan-2015",
        "SENTON 9-Mar-2024",
        "SENTBEFORE 8-Mar-2024 SENTSINCE 1990",
    ),
    *("BEFORE 1-Jan-2021", "SINCE 1-Jan-2021", "ON 5-Jan-2021", "UNSEEN", "SEEN", "OLD", "ANSWERED", "UNDELETED"),
    *("DRAFT", "KEYWORD Work", "UNKEYWORD Work", "OR SUBJECT re SMALLER 800", "NOT (SUBJECT re SMALLER 2000)"),
    *("BOGUS", "", "SINCE 99-Foo-2020", "RETURN (MIN MAX COUNT) ALL", "RETURN () 1:4", "RETURN (COUNT) 1000"),
    *("CHARSET UTF-8 SUBJECT \u00fcbersicht", "CHARSET X-NONE SUBJECT a"),
]
CHANGING = [
    *("STORE 1 FLAGS (\\Seen)", "STORE 1 +FLAGS (\\Flagged Work)", "STORE 1 +FLAGS \\Answered"),
    *("STORE 1 -FLAGS (\\Flagged)", "STORE 2:4 +FLAGS.SILENT (\\Deleted)", "STORE 1 FLAGS ()"),
    *("STORE 1 +FLAGS (\\Bogus)", "STORE 9999 +FLAGS (\\Seen)", "UID STORE 5 +FLAGS (\\Draft)"),
    *("UID STORE 9999 +FLAGS (\\Seen)", "FETCH 1:5 FLAGS", "FETCH 6 BODY[]<0.5>", "FETCH 6 FLAGS", "SEARCH SEEN"),
    *("COPY 1:2 Archive", "COPY 1 Nowhere", "COPY 9999 Archive", "UID COPY 9999 Archive", "UID COPY 1,3 Archive"),
    *("STATUS Archive (MESSAGES UIDNEXT UNSEEN)", "STATUS Nowhere (MESSAGES)", "STATUS Archive (BOGUS)"),
    *("UID EXPUNGE 2", "EXPUNGE", "EXPUNGE", "FETCH 1:3 (UID FLAGS)", "MOVE 1 Archive", "UID MOVE 9999 Archive"),
    *("UID MOVE 6 Archive", "MOVE 1 Nowhere", "STATUS Archive (MESSAGES UIDNEXT UNSEEN)", "SEARCH ALL"),
    *("CLOSE", "FETCH 1 UID", "EXAMINE Work", "FETCH 1:* FLAGS", "FETCH 1 BODY[]<0.5>", "FETCH 1 FLAGS"),
    *("UNSELECT", "UNSELECT"),
]
NAMING = [
    *('LIST "" *', 'LIST "" %', 'LIST "" ""', 'LIST "" Wor%', 'LIST "" inbox', 'LIST "" "A*e"', "NAMESPACE", "BOGUS"),
    *("CREATE Work", "CREATE Work/Sub", 'CREATE ""', 'LIST "" Work*', 'LIST "" W%', 'LSUB "" Work*'),
    *("SUBSCRIBE Work/Sub", 'LSUB "" W%', 'LSUB "" Work/%', 'LSUB "" W*', "DELETE Nowhere", "DELETE INBOX"),
    *("RENAME Work Jobs", 'LIST "" Work*', 'LIST "" Jobs*', "RENAME Nowhere x", "RENAME Jobs Jobs"),
    *("UNSUBSCRIBE Nowhere", "SELECT Nowhere", "DELETE Jobs/Sub", "DELETE Jobs", 'LIST "" Jobs*'),
]

Session = tuple[ImapClient, ImapClient]
"""Ours and theirs."""


@asynccontextmanager
async def _session(host: str, port: int, user: str, password: str) -> AsyncIterator[ImapClient]:
    """With the corpus in Work, which is selected."""
    reader, writer = await asyncio.open_connection(host, port)
    client = ImapClient(reader, writer)
    try:
        await _prepare(client, user, password)
        yield client
    finally:
        writer.close()
        await writer.wait_closed()


async def _prepare(client: ImapClient, user: str, password: str) -> None:
    client.greeting = await client.response()
    await client.ok(f"LOGIN {user} {password}")
    await client.ok("CREATE Work")
    for number, path in enumerate(sorted(path for path in CORPUS.glob("*.eml") if path.name not in DIFFERENT)):
        content = path.read_bytes()
        date = f"{number % 28 + 1:02}-Jan-20{20 + number % 3} 10:00:00 +0000"
        await client.ok(f'APPEND Work "{date}" {{{len(content)}+}}\r\n'.encode() + content)
    await client.ok("SELECT Work")


@pytest.fixture
async def sessions(tmp_path: Path, dovecot: Dovecot) -> AsyncIterator[Session]:
    user = dovecot.add_user()
    async with (
        open_imap_harness(tmp_path) as imap,
        _session("127.0.0.1", imap.port, USER, PASSWORD) as ours,
        _session(dovecot.host, dovecot.imap_port, user.name, user.password) as theirs,
    ):
        yield ours, theirs


def _meaning(answers: list[bytes]) -> list[str]:
    """The answers to a command, spelled in one way."""
    *untagged, done = answers
    told = [_spelled(line) for line in untagged if not re.match(rb"\* (OK|FLAGS|\d+ RECENT)", line)]
    expunged = sum(line.endswith("EXPUNGE") for line in told)
    kept = [line for line in told if not line.endswith("EXPUNGE")]
    if not any(line.startswith("* SEARCH") for line in kept):
        kept.sort()
    return [*kept, f"{expunged} expunged", done.split(b" ", 1)[0].decode()]


def _spelled(line: bytes) -> str:
    text = line.decode("latin-1").replace('* STATUS "Archive"', "* STATUS Archive").replace('"/" "', '"/" ')
    text = re.sub(r'"\s(\d)-', r'"0\1-', text)  # INTERNALDATE
    text = text.replace("] NIL", "] {0}\r\n")
    text = re.sub(r"( ?\\(Recent|Marked|UnMarked)\b)", "", text, flags=re.IGNORECASE)
    if "BODY[" in text:
        text = re.sub(r"(?<=\()FLAGS \(\\Seen\) | FLAGS \(\\Seen\)(?=\))", "", text)
    text = re.sub(r"FETCH \(UID \d+ FLAGS", "FETCH (FLAGS", text)
    return re.sub(r"\(([\\\w ]*)\)", lambda found: f"({' '.join(sorted(found[1].split()))})", text).rstrip('"')


@pytest.mark.parametrize(
    "commands",
    [READING, [f"SEARCH {one}".rstrip() for one in CRITERIA], [f"UID SEARCH {one}" for one in CRITERIA[:20]], CHANGING],
    ids=["reading", "search", "uid search", "changing"],
)
async def test_dovecot_answers_the_same_of_messages(sessions: Session, commands: list[str]) -> None:
    await _compare(sessions, commands)


async def test_dovecot_answers_the_same_of_mailboxes(sessions: Session) -> None:
    await _compare(sessions, NAMING)


async def _compare(sessions: Session, commands: list[str]) -> None:
    ours, theirs = sessions
    for command in commands:
        answers = await ours.command(command), await theirs.command(command)
        assert _meaning(answers[0]) == _meaning(answers[1]), (command, answers)
