"""Whatever a server says, a caller gets a result or an error of ours, and never waits for ever."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from app.backends.imap import (
    appending,
    downloading,
    flagging,
    following,
    listing,
    organising,
    removing,
    searching,
    transferring,
)
from app.backends.imap.previews import previews_of
from app.backends.imap.rows import rows as rows_of
from app.backends.imap.selectable import SelectableMailbox
from app.backends.imap.session import ClientSession
from app.backends.imap.watching import ImapWatch
from app.errors import GatewayError, Unreachable
from app.wire.imap.commands import BodySection, KnownState
from app.wire.imap.search import All
from app.wire.imap.sets import SequenceSet
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.backends.imap.scripted import scripted_session

NONE: frozenset[str] = frozenset()
INBOX = SelectableMailbox("INBOX", 7)
RICH = "IMAP4rev1 UIDPLUS MOVE ESEARCH LIST-EXTENDED LIST-STATUS CONDSTORE IDLE NOTIFY LITERAL+ PREVIEW NAMESPACE ID"


async def content() -> AsyncIterator[bytes]:
    yield b"x"


async def stream(session: ClientSession) -> None:
    [chunk async for chunk in downloading.stream(session, "INBOX", 1, BodySection())]


async def rows(session: ClientSession) -> None:
    [batch async for batch in rows_of(session, "INBOX", [1, 2])]


async def flag(session: ClientSession) -> None:
    await flagging.store_flags(session, INBOX, [1], add=frozenset({"\\Seen"}), remove=NONE, condition=None)


async def append(session: ClientSession) -> None:
    uid = await appending.append(session, "INBOX", content(), 1, NONE, None)
    [batch async for batch in rows_of(session, "INBOX", [uid])]


async def watch(session: ClientSession) -> None:
    await ImapWatch.start(session, [])


JOBS: dict[str, Callable[[ClientSession], Awaitable[object]]] = {
    "agree": lambda session: session.agree(),
    "list": listing.list_mailboxes,
    "search": lambda session: searching.search(session, "INBOX", All()),
    "fetch": lambda session: session.fetch("INBOX", SequenceSet.of([1]), ["UID", BodySection()]),
    "stream": stream,
    "rows": rows,
    "changes": lambda session: following.changes_since(session, "INBOX", KnownState(7, 5)),
    "previews": lambda session: previews_of(session, "INBOX", [1]),
    "flag": flag,
    "move": lambda session: transferring.move(session, INBOX, [1], "Archive"),
    "expunge": lambda session: removing.expunge(session, INBOX, [1]),
    "append": append,
    "create": lambda session: organising.create_mailbox(session, [], "Work", None),
    "watch": watch,
}

_WORDS = (
    "* ", "+ ", "$ ", "OK", "NO", "BAD", "BYE", "[", "]", "(", ")", '"', "\\", "{5}", "{70000}", "~{3}", "\r\n", " ",
    "1", "1:4294967295", "4294967296", "*", "NIL", "FETCH", "UID", "FLAGS", "(\\Seen)", "BODY[]", "BODY[]<0>",
    "ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE", "RFC822.SIZE", "MODSEQ", "EXISTS", "EXPUNGE", "VANISHED (EARLIER) 1:3",
    "SEARCH", "ESEARCH", "ALL 1,2", "COUNT", "LIST", "STATUS", "INBOX", '"/"', "ENABLED QRESYNC", "UIDVALIDITY 7",
    "UIDVALIDITY x", "COPYUID 7 1 2", "COPYUID 7 1:9 2", "APPENDUID 7 9", "APPENDUID", "HIGHESTMODSEQ 5",
    "PERMANENTFLAGS (\\*)", "NAMESPACE", '(("" "/"))', "PREVIEW", "\udcff", "CAPABILITY",
)  # fmt: skip
_LIKELY = (
    "* OK [UIDVALIDITY 7]",
    "* OK [HIGHESTMODSEQ 5]",
    "* OK [UIDNEXT 9]",
    "* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (8) RFC822.SIZE 4)",
    '* 1 FETCH (UID 1 INTERNALDATE " 1-Jul-2025 08:00:00 +0000" RFC822.SIZE 4 FLAGS ())',
    '* 1 FETCH (UID 1 ENVELOPE (NIL "s" ((NIL NIL "a" "b")) NIL NIL NIL NIL NIL NIL "<1@b>") RFC822.SIZE 4)',
    '* 1 FETCH (UID 1 BODYSTRUCTURE ("TEXT" "PLAIN" NIL NIL NIL "7BIT" 4 1) RFC822.SIZE 4)',
    "* 1 FETCH (UID 1 BODY[] {5}\r\nhello)",
    '* 1 FETCH (UID 1 PREVIEW "text")',
    '* LIST (\\Subscribed) "/" INBOX',
    '* LSUB () "/" INBOX',
    "* STATUS INBOX (MESSAGES 1 UIDVALIDITY 7 UIDNEXT 9 UNSEEN 1 HIGHESTMODSEQ 5)",
    "* ESEARCH UID ALL 1:2",
    "* SEARCH 1 2 3",
    "* VANISHED (EARLIER) 1:3",
    "* OK [COPYUID 7 1 2] x",
    "* OK [APPENDUID 7 9] x",
    '* NAMESPACE (("" "/")) NIL NIL',
    "* ENABLED QRESYNC",
)
_NUMBERS = ("0", "-1", "4294967295", "4294967296", "1" * 40, "x", "", "1:4294967295", "*")
_NUMBER = re.compile("[0-9]+")


@st.composite
def spoilt(draw: st.DrawFn) -> str:
    """A likely line, in which one number is another or a piece is cut out."""
    line = draw(st.sampled_from(_LIKELY))
    numbers = list(_NUMBER.finditer(line))
    is_number = draw(st.booleans())
    if numbers and is_number:
        number = numbers[draw(st.integers(0, len(numbers) - 1))]
        return line[: number.start()] + draw(st.sampled_from(_NUMBERS)) + line[number.end() :]
    start = draw(st.integers(0, len(line)))
    return line[:start] + line[start + draw(st.integers(0, 8)) :]


words = st.lists(st.sampled_from(_WORDS), max_size=12)
lines = st.sampled_from(_LIKELY) | spoilt() | words.map(lambda some: "* " + " ".join(some)) | words.map("".join)
answers = st.lists(lines, max_size=6).map(lambda some: "\r\n".join(["* OK [UIDVALIDITY 7]", *some]))


async def attempt(job: Callable[[ClientSession], Awaitable[object]], answer: str, capabilities: str) -> None:
    end = "\r\n$ OK done\r\n"
    said = (answer + end).encode("utf-8", "surrogateescape")
    session, server = scripted_session({"SELECT": said, "": said}, capabilities)
    try:
        async with asyncio.timeout(5):
            await asyncio.wait_for(_run_or_end(job, session), 5)
    except GatewayError:
        pass
    finally:
        server.protocol.drop(Unreachable())
        await asyncio.sleep(0)


async def _run_or_end(job: Callable[[ClientSession], Awaitable[object]], session: ClientSession) -> None:
    """Run a job; where an open literal swallows all answers, the command's deadline would come: end it now."""
    running = asyncio.ensure_future(job(session))
    for _ in range(200):
        if running.done():
            break
        await asyncio.sleep(0)
    else:
        session.protocol.drop(Unreachable())
    await running


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
@given(answer=answers, capabilities=st.sampled_from([RICH, "IMAP4rev1"]))
@settings(max_examples=60, deadline=None)
def test_any_answer_ends_in_a_result_or_an_error_of_ours(
    job: Callable[[ClientSession], Awaitable[object]], answer: str, capabilities: str
) -> None:
    asyncio.run(attempt(job, answer, capabilities))


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
@pytest.mark.parametrize("silent_until", range(4))
async def test_goodbye_at_any_command_is_unreachable(
    job: Callable[[ClientSession], Awaitable[object]], silent_until: int
) -> None:
    """The server says goodbye in place of its nth answer."""
    session, server = scripted_session(capabilities=RICH)
    answered = 0

    def answer(command: str) -> str:
        nonlocal answered
        answered += 1
        if answered > silent_until:
            return "* BYE now\r\n"
        selected = "* OK [UIDVALIDITY 7]\r\n" if command.startswith("SELECT") else ""
        return f"{selected}$ OK done\r\n"

    server.script = {"": answer}
    failure: GatewayError | None = None
    try:
        async with asyncio.timeout(5):
            await job(session)
    except GatewayError as error:
        failure = error

    if answered > silent_until:
        assert isinstance(failure, Unreachable)
        assert server.is_closed
