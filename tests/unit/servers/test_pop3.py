"""The POP3 conversation, transcript by transcript."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from app.mail.types import AccountId
from app.servers.conversation import Farewell
from app.servers.pop3 import ERRORS_LIMIT, Pop3Conversation, Pop3Site
from app.services.accounts.maildrops import Maildrops

from tests.cpu import at_most_cpu_seconds
from tests.harness import Harness, open_harness
from tests.unit.servers.talk import Talk, local_peer

FIRST = b"Subject: One\r\n\r\nHello\r\n.dot\r\n..\r\n.\r\n"
SECOND = b"Subject: Two\r\n\r\n1\r\n2\r\n3\r\n"
LOGIN = b"USER ann@demo.test\r\nPASS secret\r\n"

Visit = Callable[..., Talk]


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as harness:
        yield harness


@pytest.fixture
async def ann(harness: Harness) -> AccountId:
    """An account with two messages."""
    account_id = await harness.add_account("ann@demo.test")
    for content in (FIRST, SECOND):
        await add(harness, account_id, content)
    return account_id


async def add(harness: Harness, account_id: AccountId, content: bytes) -> None:
    inbox = await harness.mailbox(account_id)
    await harness.store.add(account_id, inbox.id, [(await harness.store.keep(content), frozenset(), None)])


@pytest.fixture
def visit(harness: Harness) -> Visit:
    site = Pop3Site("mail.demo.test", harness.logins, Maildrops(harness.database, harness.store))

    def begin(address: str = "127.0.0.1") -> Talk:
        peer = local_peer(address=address)
        return Talk(Pop3Conversation(peer, site), peer)

    return begin


@pytest.fixture
async def pop3(ann: AccountId, visit: Visit) -> Talk:
    """Ann, logged in."""
    talk = visit()
    assert await talk.say(LOGIN) == b"+OK Send PASS\r\n+OK 2 messages\r\n"
    return talk


async def test_a_session_reads_lists_and_removes(harness: Harness, ann: AccountId, pop3: Talk) -> None:
    assert pop3.greeting == b"+OK mail.demo.test Postgate\r\n"
    assert await pop3.say(b"STAT\r\n") == b"+OK 2 %d\r\n" % (len(FIRST) + len(SECOND))
    assert await pop3.say(b"LIST\r\n") == b"+OK 2 messages\r\n1 %d\r\n2 %d\r\n.\r\n" % (len(FIRST), len(SECOND))
    assert await pop3.say(b"LIST 2\r\n") == b"+OK 2 %d\r\n" % len(SECOND)
    assert await pop3.say(b"RETR 1\r\n") == (
        b"+OK %d octets\r\nSubject: One\r\n\r\nHello\r\n..dot\r\n...\r\n..\r\n.\r\n" % len(FIRST)
    )
    assert await pop3.say(b"TOP 2 1\r\n") == b"+OK %d octets\r\nSubject: Two\r\n\r\n1\r\n.\r\n" % len(SECOND)
    assert await pop3.say(b"DELE 1\r\n") == b"+OK Message 1 marked for deletion\r\n"
    assert await pop3.say(b"RETR 1\r\n") == b"-ERR No such message\r\n"
    assert await pop3.say(b"DELE 1\r\n") == b"-ERR No such message\r\n"
    assert await pop3.say(b"LIST\r\n") == b"+OK 1 messages\r\n2 %d\r\n.\r\n" % len(SECOND)
    assert await pop3.say(b"STAT\r\n") == b"+OK 1 %d\r\n" % len(SECOND)
    assert await pop3.say(b"NOOP\r\n") == b"+OK\r\n"
    assert len(await harness.contents(ann)) == 2
    assert await pop3.say(b"QUIT\r\n") == b"+OK Bye\r\n"
    assert pop3.is_over
    assert await harness.contents(ann) == [SECOND]


async def test_a_whole_session_may_be_pipelined_and_split_anywhere(ann: AccountId, visit: Visit) -> None:
    session = LOGIN + b"STAT\r\nUIDL\r\nRETR 1\r\nTOP 1 0\r\nDELE 2\r\nRSET\r\nLIST\r\nQUIT\r\n"

    assert await visit().say(session) == await visit().say_bytewise(session)


async def test_marks_without_quit_remove_nothing(harness: Harness, ann: AccountId, pop3: Talk, visit: Visit) -> None:
    await pop3.say(b"DELE 1\r\nDELE 2\r\n")

    pop3.conversation.close()

    assert len(await harness.contents(ann)) == 2
    assert await visit().say(LOGIN + b"STAT\r\n") == b"+OK Send PASS\r\n+OK 2 messages\r\n+OK 2 %d\r\n" % (
        len(FIRST) + len(SECOND)
    )


async def test_marks_can_be_taken_back(harness: Harness, ann: AccountId, pop3: Talk) -> None:
    assert await pop3.say(b"DELE 1\r\nRSET\r\nSTAT\r\n") == (
        b"+OK Message 1 marked for deletion\r\n+OK\r\n+OK 2 %d\r\n" % (len(FIRST) + len(SECOND))
    )
    await pop3.say(b"QUIT\r\n")

    assert len(await harness.contents(ann)) == 2


async def test_the_lock_is_exclusive_and_free_before_quit_is_answered(pop3: Talk, visit: Visit) -> None:
    other = visit()

    assert await other.say(LOGIN) == b"+OK Send PASS\r\n-ERR [IN-USE] Another POP3 session has locked this maildrop\r\n"
    await pop3.say(b"QUIT\r\n")
    assert await other.say(LOGIN) == b"+OK Send PASS\r\n+OK 2 messages\r\n"
    pop3.conversation.close()  # of the first session: it no longer holds the lock
    assert b"[IN-USE]" in await visit().say(LOGIN)


async def test_the_list_is_fixed_at_login(harness: Harness, ann: AccountId, pop3: Talk) -> None:
    await add(harness, ann, b"Subject: Three\r\n\r\n")
    inbox = await harness.mailbox(ann)
    await harness.store.expunge(ann, inbox.id, [1], only_deleted=False)

    assert (await pop3.say(b"STAT\r\n")).startswith(b"+OK 2 ")
    assert (await pop3.say(b"RETR 1\r\n")).startswith(b"+OK ")
    assert await pop3.say(b"RETR 3\r\n") == b"-ERR No such message\r\n"
    await pop3.say(b"DELE 1\r\nDELE 2\r\nQUIT\r\n")
    assert await harness.contents(ann) == [b"Subject: Three\r\n\r\n"]


async def test_a_uidl_stays_with_its_message(harness: Harness, ann: AccountId, pop3: Talk, visit: Visit) -> None:
    first, second = (await pop3.say(b"UIDL\r\n")).splitlines()[1:3]
    await pop3.say(b"DELE 1\r\nQUIT\r\n")
    await add(harness, ann, FIRST)

    again = visit()
    await again.say(LOGIN)
    lines = (await again.say(b"UIDL\r\n")).splitlines()[1:3]

    assert lines[0] == b"1 " + second.split()[1]
    assert lines[1].split()[1] not in (first.split()[1], second.split()[1])
    assert await again.say(b"UIDL 1\r\n") == b"+OK " + lines[0] + b"\r\n"


async def test_capabilities(ann: AccountId, visit: Visit) -> None:
    talk = visit()

    assert await talk.say(b"CAPA\r\n") == (
        b"+OK Capabilities follow\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nUTF8\r\n"
        b"EXPIRE NEVER\r\nSTLS\r\nUSER\r\nSASL PLAIN LOGIN\r\nIMPLEMENTATION Postgate\r\n.\r\n"
    )
    await talk.say(LOGIN)
    assert b"STLS" not in await talk.say(b"CAPA\r\n")


@pytest.mark.parametrize("is_later", [False, True])
async def test_sasl_plain(ann: AccountId, visit: Visit, is_later: bool) -> None:
    talk = visit()
    response = base64.b64encode(b"\0ann@demo.test\0secret") + b"\r\n"

    if is_later:
        assert await talk.say(b"AUTH PLAIN\r\n") == b"+ \r\n"
        assert await talk.say(response) == b"+OK 2 messages\r\n"
    else:
        assert await talk.say(b"AUTH PLAIN " + response) == b"+OK 2 messages\r\n"


@pytest.mark.parametrize("response", [b"*\r\n", b"!!!\r\n", b"YQ==\r\n"])
async def test_invalid_base64_and_cancelling_end_that_attempt_alone(
    ann: AccountId, visit: Visit, response: bytes
) -> None:
    talk = visit()
    await talk.say(b"AUTH PLAIN\r\n")

    assert (await talk.say(response)).startswith(b"-ERR ")
    assert (await talk.say(LOGIN)).endswith(b"+OK 2 messages\r\n")


async def test_a_wrong_password_says_so_by_code_and_the_third_ends_the_session(ann: AccountId, visit: Visit) -> None:
    talk = visit()

    for _ in range(2):
        assert b"-ERR [AUTH] " in await talk.say(b"USER ann@demo.test\r\nPASS wrong\r\n")
    assert await talk.say(b"PASS secret\r\n") == b"-ERR Send USER first\r\n"
    await talk.say(b"USER ann@demo.test\r\nPASS wrong\r\n")

    assert talk.is_over


async def test_a_command_after_stls_in_the_same_packet_is_never_answered(ann: AccountId, visit: Visit) -> None:
    talk = visit()
    await talk.say(b"USER ann@demo.test\r\n")

    assert await talk.say(b"STLS\r\nNOOP\r\nPASS secret\r\n") == b"+OK Go ahead\r\n"
    assert await talk.say(b"") == b""
    assert await talk.say(b"PASS secret\r\n") == b"-ERR Send USER first\r\n"
    assert await talk.say(b"STLS\r\n") == b"-ERR STLS not available\r\n"
    assert (await talk.say(LOGIN)).endswith(b"+OK 2 messages\r\n")


async def test_a_password_is_not_taken_in_the_clear_off_loopback(ann: AccountId, visit: Visit) -> None:
    talk = visit("192.0.2.1")

    assert b"USER" not in await talk.say(b"CAPA\r\n")
    assert b"use STLS first" in await talk.say(b"USER ann@demo.test\r\n")
    assert b"use STLS first" in await talk.say(b"AUTH PLAIN\r\n")
    await talk.say(b"STLS\r\n")
    assert (await talk.say(LOGIN)).endswith(b"+OK 2 messages\r\n")


@pytest.mark.parametrize(
    "line",
    [b"RETR\r\n", b"RETR 0\r\n", b"RETR 3\r\n", b"RETR x\r\n", b"TOP 1\r\n", b"TOP 1 x\r\n", b"DELE\r\n", b"LIST 9\r\n",
     b"UIDL -1\r\n", b"LIST 1 2\r\n", b"PASS secret\r\n", b"APOP a b\r\n", b"NOOP\0\r\n", b"\r\n",
     b"RETR 99999999999999\r\n"],
)  # fmt: skip
async def test_what_cannot_be_is_an_error(pop3: Talk, line: bytes) -> None:
    assert (await pop3.say(line)).startswith(b"-ERR ")


@pytest.mark.parametrize("line", [b"STAT\r\n", b"RETR 1\r\n", b"DELE 1\r\n", b"UIDL\r\n"])
async def test_mail_is_out_of_reach_before_login(ann: AccountId, visit: Visit, line: bytes) -> None:
    assert await visit().say(line) == b"-ERR Command not recognized\r\n"


async def test_a_message_whose_bytes_are_lost_is_an_error_of_its_own(harness: Harness, pop3: Talk) -> None:
    for path in harness.store.blobs._root.glob("??/*"):
        path.unlink()

    assert await pop3.say(b"RETR 1\r\n") == b"-ERR [SYS/PERM] The message cannot be read\r\n"
    assert (await pop3.say(b"STAT\r\n")).startswith(b"+OK 2 ")


async def test_a_large_message_comes_in_pieces(harness: Harness, ann: AccountId, visit: Visit) -> None:
    body = b"".join(b".line %d\r\n" % number for number in range(100_000))
    await add(harness, ann, b"Subject: Large\r\n\r\n" + body)
    talk = visit()
    await talk.say(LOGIN)

    answer = await talk.say(b"RETR 3\r\n")

    assert answer.endswith(body.replace(b".line", b"..line") + b".\r\n")
    assert (await talk.say(b"TOP 3 2\r\n")).endswith(b"\r\n\r\n..line 0\r\n..line 1\r\n.\r\n")


async def test_a_long_token_or_a_flood_of_errors_ends_the_session(ann: AccountId, visit: Visit) -> None:
    for prefix in (b"", b"USER ", b"AUTH PLAIN\r\n", LOGIN + b"RETR "):
        talk = visit()
        with at_most_cpu_seconds(1):
            await talk.say(prefix, *[b"(" * 1000] * 50)
        assert talk.is_over
        talk.conversation.close()
    talk = visit()
    assert (await talk.say(b"FOO\r\n" * 100)).count(b"-ERR") == ERRORS_LIMIT
    assert talk.is_over


@pytest.mark.parametrize("reason", list(Farewell))
async def test_every_farewell_is_a_temporary_error(pop3: Talk, reason: Farewell) -> None:
    assert pop3.conversation.farewell(reason).startswith(b"-ERR [SYS/TEMP] ")
