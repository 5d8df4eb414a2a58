from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from app.backends.imap import appending
from app.errors import MailboxNotFound, ServerRefused, TooLarge

from tests.unit.backends.imap.scripted import scripted_session

NONE: frozenset[str] = frozenset()


async def content(data: bytes = b"x") -> AsyncIterator[bytes]:
    yield data


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("$ NO [TRYCREATE] no such mailbox\r\n", MailboxNotFound),
        ("$ NO [NONEXISTENT] gone\r\n", MailboxNotFound),
        ("$ NO [OVERQUOTA] full\r\n", ServerRefused),
        ("$ NO [TOOBIG] too big\r\n", TooLarge),
    ],
)
async def test_a_refused_append_says_why(answer: str, error: type[Exception]) -> None:
    session, _ = scripted_session({"APPEND": answer}, capabilities="IMAP4rev1 UIDPLUS")

    with pytest.raises(error):
        await appending.append(session, "Archive", content(), 1, NONE, None)


async def test_a_message_beyond_the_servers_limit_is_not_sent() -> None:
    session, server = scripted_session(capabilities="IMAP4rev1 APPENDLIMIT=10")

    with pytest.raises(TooLarge):
        await appending.append(session, "INBOX", content(), 11, NONE, None)

    assert server.told == []


async def test_without_uidplus_the_appended_message_is_found_among_the_new_ones() -> None:
    session, _ = scripted_session(
        {
            "APPEND": "$ OK done\r\n",
            "UID FETCH": "* 3 FETCH (UID 9 RFC822.SIZE 1)\r\n* 4 FETCH (UID 10 RFC822.SIZE 2)\r\n"
            "* 5 FETCH (UID 11 RFC822.SIZE 1)\r\n* 6 FETCH (UID 12 RFC822.SIZE 3)\r\n$ OK done\r\n",
        },
        capabilities="IMAP4rev1 LITERAL+",
    )
    assert await appending.append(session, "INBOX", content(), 1, NONE, None) == 11


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (["Subject: Grü", "ße\r\n\r\nx"], 'APPEND "Archive" UTF8 (~{21+}\r\nSubject: Grüße\r\n\r\nx)'),
        (["Subject: s\r\n", "\r\nü"], 'APPEND "Archive" {16+}\r\nSubject: s\r\n\r\nü'),
    ],
)
async def test_raw_utf8_in_a_header_is_announced_where_the_server_wants_it(message: list[str], sent: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in message:
            yield piece.encode()

    session, server = scripted_session(
        {"APPEND": "$ OK [APPENDUID 4 9] done\r\n"}, capabilities="IMAP4rev1 UIDPLUS LITERAL+", enabled=["UTF8=ACCEPT"]
    )

    uid = await appending.append(session, "Archive", pieces(), len("".join(message).encode()), NONE, None)

    assert uid == 9
    assert sent in server.sent.decode()
