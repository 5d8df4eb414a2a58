"""A database that is away and a disk that is full: each command fails for now, and every session stays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import pytest
from app.errors import DatabaseUnavailable
from app.servers.imap import conversation, news
from app.servers.imap.session import ServerSession
from app.servers.pop3 import Pop3Conversation, Pop3Site
from app.servers.smtp import ListenerRole, SmtpConversation, SmtpSite
from app.services.accounts.maildrops import Maildrops

from tests.harness import Harness, open_harness
from tests.outages import database_away, disk_full
from tests.unit.servers.imap.talk import PASSWORD, USER
from tests.unit.servers.imap.talk import Talk as ImapTalk
from tests.unit.servers.talk import Talk, local_peer

ANN = "ann@demo.test"
MAIL = b"Subject: Hello\r\n\r\nText\r\n"
LITERAL = b"APPEND INBOX {%d+}\r\n%b" % (len(MAIL), MAIL)
ENVELOPE = f"MAIL FROM:<ann@example.org>\r\nRCPT TO:<{ANN}>\r\n".encode()


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path) as opened:
        await opened.add_account(USER, PASSWORD)
        await opened.add_account(ANN, PASSWORD)
        yield opened


def _smtp(harness: Harness, role: ListenerRole) -> Talk:
    peer = local_peer()
    return Talk(
        SmtpConversation(peer, SmtpSite(role, "mail.demo.test", harness.deliveries, harness.logins, 10**6)), peer
    )


# ---- IMAP


@pytest.mark.parametrize(
    "command",
    ["NOOP", "SELECT Drafts", "STATUS INBOX (MESSAGES)", "FETCH 1 FLAGS", "STORE 1 +FLAGS (\\Seen)", "COPY 1 Sent",
     "CREATE New", "SEARCH ALL", "EXPUNGE", "LIST \"\" *"],
)  # fmt: skip
async def test_an_imap_session_outlives_the_database(harness: Harness, command: str) -> None:
    talk = await ImapTalk.logged_in(harness, "SELECT INBOX")
    await talk.say(LITERAL)
    with database_away():
        answer = await talk.say(command)
        assert answer[-1].startswith((b"a NO [UNAVAILABLE]", b"a OK")), answer
    assert not talk.ended
    again = await talk.say(command)
    assert again[-1].startswith(b"a OK"), again


async def test_an_append_is_refused_while_the_database_is_away_or_the_disk_is_full(harness: Harness) -> None:
    talk = await ImapTalk.logged_in(harness)
    with database_away(is_readable=True):
        assert (await talk.say(LITERAL))[-1].startswith(b"a NO [UNAVAILABLE]")
    with disk_full():
        assert (await talk.say(LITERAL))[-1].startswith(b"a NO [OVERQUOTA]")
    assert (await talk.say(LITERAL))[-1].startswith(b"a OK")


async def test_an_imap_login_can_be_tried_again_when_the_database_is_back(harness: Harness) -> None:
    talk = ImapTalk.start(harness)
    with database_away():
        assert (await talk.say(f"LOGIN {USER} {PASSWORD}"))[-1].startswith(b"a NO [UNAVAILABLE]")
    assert (await talk.say(f"LOGIN {USER} {PASSWORD}"))[-1].startswith(b"a OK")


async def test_an_idle_session_hears_what_happened_once_the_database_is_back(harness: Harness) -> None:
    idle = await ImapTalk.logged_in(harness, "SELECT INBOX")
    await idle.say("IDLE")
    other = await ImapTalk.logged_in(harness)
    await other.say(LITERAL)
    with database_away():
        assert await idle.wake() == []
    idle.peer.waiter.poke("again")
    assert b"* 1 EXISTS" in await idle.wake()


async def test_an_append_that_asks_to_go_on_is_refused_while_the_database_is_away(harness: Harness) -> None:
    talk = await ImapTalk.logged_in(harness)
    with database_away():
        assert (await talk.say(f"APPEND INBOX {{{len(MAIL)}}}"))[-1].startswith(b"a NO [UNAVAILABLE]")
    assert not talk.ended
    assert (await talk.say(LITERAL))[-1].startswith(b"a OK")


async def test_a_command_that_the_database_failed_does_not_wait_for_it_again(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = await ImapTalk.logged_in(harness, "SELECT INBOX")
    read: list[ServerSession] = []

    async def catch_up_some(session: ServerSession) -> bool:
        read.append(session)
        return True

    monkeypatch.setattr(conversation, "catch_up_some", catch_up_some)
    with database_away():
        assert (await talk.say("STATUS Drafts (MESSAGES)"))[-1].startswith(b"a NO [UNAVAILABLE]")
    assert read == []
    assert (await talk.say("STATUS Drafts (MESSAGES)"))[-1].startswith(b"a OK")
    assert len(read) == 1


async def test_arrivals_are_told_though_what_is_recent_cannot_be_claimed_while_nothing_can_be_written(
    harness: Harness,
) -> None:
    idle = await ImapTalk.logged_in(harness, "SELECT INBOX")
    await idle.say("IDLE")
    other = await ImapTalk.logged_in(harness)
    await other.say(LITERAL)
    with database_away(is_readable=True):
        assert await idle.wake() == [b"* 1 EXISTS", b"* 0 RECENT"]


@pytest.mark.parametrize(
    "command",
    [
        "UID STORE 1 +FLAGS.SILENT (\\Deleted)",
        "UID EXPUNGE 1",
        "UID MOVE 1 Trash",
        "UID COPY 1 Trash",
        "UID FETCH 1 FLAGS",
    ],
)
async def test_a_uid_that_append_told_is_not_passed_over_because_the_news_could_not_be_read(
    harness: Harness, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = await ImapTalk.logged_in(harness, "SELECT INBOX")
    with monkeypatch.context() as patch:
        patch.setattr(conversation, "catch_up_some", _fail)
        assert b"APPENDUID" in (await talk.say(LITERAL))[-1]
        assert (await talk.say(command))[-1].startswith(b"a NO [UNAVAILABLE]")

    answer = await talk.say(command)
    assert answer[0] == b"* 1 EXISTS"
    assert answer[-1].startswith(b"a OK")


@pytest.mark.parametrize("place", ["INBOX", "Trash"])
async def test_what_is_deleted_right_after_an_append_while_nothing_can_be_written_is_refused_or_gone(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    talk = await ImapTalk.logged_in(harness, f"SELECT {place}")
    with monkeypatch.context() as patch:
        patch.setattr(harness.store, "claim_recent", _fail)
        assert b"APPENDUID" in (await talk.say(LITERAL.replace(b"INBOX", place.encode())))[-1]
    with database_away(is_readable=True):
        assert (await talk.say("UID STORE 1 +FLAGS.SILENT (\\Deleted)"))[-1].startswith(b"a NO [UNAVAILABLE]")

    await talk.say("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert b"* 1 EXPUNGE" in await talk.say("UID EXPUNGE 1")


async def test_flags_are_told_later_where_the_database_fails_after_the_log_was_read(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await ImapTalk.logged_in(harness, "SELECT INBOX")
    await other.say(LITERAL)
    idle = await ImapTalk.logged_in(harness, "SELECT INBOX")
    await idle.say("IDLE")
    await other.say("STORE 1 +FLAGS.SILENT (\\Seen)")
    with monkeypatch.context() as patch:
        patch.setattr(news, "read_rows", _fail)
        assert await idle.wake() == []
    assert not idle.ended
    idle.peer.waiter.poke("again")
    assert [line for line in await idle.wake() if b"FETCH" in line] == [b"* 1 FETCH (UID 1 FLAGS (\\Seen))"]


def _fail(*_: object) -> NoReturn:
    raise DatabaseUnavailable


# ---- SMTP


async def test_mail_is_put_off_while_the_database_is_away(harness: Harness) -> None:
    talk = _smtp(harness, ListenerRole.MX)
    await talk.say(b"EHLO there.example\r\n")
    with database_away():
        assert (await talk.say(ENVELOPE)).endswith(b"451 4.3.0 Temporarily unavailable; try again later\r\n")
    await talk.say(b"RSET\r\n" + ENVELOPE + b"DATA\r\n")
    with database_away():
        assert (await talk.say(MAIL + b".\r\n")).startswith(b"451 4.3.0")
    await talk.say(ENVELOPE + b"DATA\r\n")
    with disk_full():
        assert (await talk.say(MAIL + b".\r\n")).startswith(b"452 4.3.1")
    assert (await talk.say(ENVELOPE + b"DATA\r\n" + MAIL + b".\r\n")).endswith(b"250 2.0.0 Ok\r\n")


async def test_lmtp_puts_off_each_recipient_while_the_database_is_away(harness: Harness) -> None:
    talk = _smtp(harness, ListenerRole.LMTP)
    await talk.say(b"LHLO front.example\r\n" + ENVELOPE + b"RCPT TO:<ann+shop@demo.test>\r\nDATA\r\n")
    with database_away():
        assert (await talk.say(MAIL + b".\r\n")).count(b"451 4.3.0") == 2


async def test_an_smtp_login_is_put_off_and_not_counted_as_wrong(harness: Harness) -> None:
    talk = _smtp(harness, ListenerRole.SUBMISSION)
    await talk.say(b"EHLO laptop.example\r\n")
    login = b"AUTH PLAIN AGFubkBkZW1vLnRlc3QAc2VjcmV0\r\n"
    with database_away():
        for _ in range(5):
            assert (await talk.say(login)).startswith(b"454 4.7.0")
    assert (await talk.say(login)).startswith(b"235")


# ---- POP3


async def test_pop3_answers_for_now_while_the_database_is_away(harness: Harness) -> None:
    account_id = await harness.deliveries.account_of(ANN)
    assert account_id is not None
    inbox = await harness.mailbox(account_id)
    await harness.store.add(account_id, inbox.id, [(await harness.store.keep(MAIL), frozenset(), None)])
    peer = local_peer()
    talk = Talk(
        Pop3Conversation(peer, Pop3Site("pop", harness.logins, Maildrops(harness.database, harness.store))), peer
    )
    login = f"USER {ANN}\r\nPASS {PASSWORD}\r\n".encode()
    with database_away():
        assert (await talk.say(login)).endswith(b"-ERR [SYS/TEMP] The database is unavailable\r\n")
    assert b"+OK 1 messages" in await talk.say(login)
    with database_away():
        assert (await talk.say(b"DELE 1\r\nQUIT\r\n")).endswith(b"-ERR [SYS/TEMP] Some messages were not deleted\r\n")
    assert len(await harness.contents(account_id)) == 1
