"""What one session hears of what another does, and when."""

from __future__ import annotations

from app.db.session import Statement, Transaction
from app.db.tables import EVENT
from app.mail.types import AccountId, Mailbox
from sqlalchemy import delete

from tests.harness import Harness
from tests.imap_harness import mail
from tests.unit.servers.imap.talk import USER, Talk

_FORGET: Statement = delete(EVENT).where(EVENT.c.type != "message.created")


async def account_of(harness: Harness) -> AccountId:
    return (await harness.logins.verify(USER, "secret", address="127.0.0.1")).account_id


async def deliver(harness: Harness, subject: str = "Hello", path: str = "INBOX") -> Mailbox:
    account_id = await account_of(harness)
    mailbox = await harness.mailbox(account_id, path)
    await harness.store.add(account_id, mailbox.id, [(await harness.store.keep(mail(subject)), frozenset(), None)])
    return mailbox


async def two_sessions(harness: Harness, messages: int = 3) -> tuple[Talk, Talk]:
    for number in range(messages):
        await deliver(harness, f"Message {number}")
    return await Talk.logged_in(harness, "SELECT INBOX"), await Talk.logged_in(harness, "SELECT INBOX")


async def test_expunge_is_not_told_during_fetch_store_and_search(harness: Harness) -> None:
    one, other = await two_sessions(harness)
    await one.say("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await one.say("EXPUNGE")

    for command in ("FETCH 2:3 UID", "STORE 3 +FLAGS.SILENT (\\Seen)", "SEARCH ALL"):
        assert not [line for line in await other.say(command) if b"EXPUNGE" in line and line.startswith(b"*")], command
    assert await other.say("FETCH 3 UID") == [b"* 3 FETCH (UID 3)", b"a OK FETCH completed"]

    assert b"* 1 EXPUNGE" in await other.say("NOOP")
    assert await other.say("FETCH 2 UID") == [b"* 2 FETCH (UID 3)", b"a OK FETCH completed"]


async def test_commands_by_uid_may_tell_of_expunges(harness: Harness) -> None:
    one, other = await two_sessions(harness)
    await one.say("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await one.say("EXPUNGE")

    assert b"* 1 EXPUNGE" in await other.say("UID SEARCH ALL")


async def test_a_message_that_another_session_removed_is_passed_over_with_a_hint(harness: Harness) -> None:
    one, other = await two_sessions(harness)
    await one.say("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
    await one.say("EXPUNGE")

    answers = await other.say("FETCH 1:2 (UID)")

    assert answers == [b"* 2 FETCH (UID 2)", b"a OK [EXPUNGEISSUED] Some messages were expunged"]


async def test_a_search_says_when_what_it_should_look_at_is_gone(harness: Harness) -> None:
    one, other = await two_sessions(harness)
    await one.say("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await one.say("EXPUNGE")

    assert await other.say("SEARCH 1:2 UNSEEN") == [b"* SEARCH 2", b"a OK [EXPUNGEISSUED] Some messages were expunged"]
    assert (await other.say("SEARCH 2:3 UNSEEN"))[-1] == b"a OK SEARCH completed"
    await other.say("NOOP")
    assert await other.say("SEARCH UNSEEN") == [b"* SEARCH 1 2", b"a OK SEARCH completed"]


async def test_flags_that_another_session_set_are_told_once(harness: Harness) -> None:
    one, other = await two_sessions(harness)
    await one.say("STORE 2 +FLAGS (\\Flagged $Work)")

    assert await other.say("NOOP") == [
        b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Work)",
        b"* 2 FETCH (UID 2 FLAGS ($Work \\Flagged))",
        b"a OK NOOP completed",
    ]
    assert await other.say("NOOP") == [b"a OK NOOP completed"]


async def test_a_silent_store_hides_only_what_it_did_itself(harness: Harness) -> None:
    one, other = await two_sessions(harness)
    await one.say("STORE 1 +FLAGS (\\Flagged)")

    assert await other.say("STORE 1:2 +FLAGS.SILENT (\\Seen)") == [
        b"* 1 FETCH (UID 1 FLAGS (\\Flagged \\Seen))",
        b"a OK STORE completed",
    ]


async def test_new_mail_is_told_with_any_command(harness: Harness) -> None:
    one, other = await two_sessions(harness, 1)
    await deliver(harness)

    assert await one.say("SEARCH ALL") == [b"* SEARCH 1", b"* 2 EXISTS", b"* 2 RECENT", b"a OK SEARCH completed"]
    assert b"* 2 EXISTS" in await other.say("CHECK")


async def test_a_message_is_recent_to_one_session_alone(harness: Harness) -> None:
    await deliver(harness)
    first = await Talk.logged_in(harness)
    second = await Talk.logged_in(harness)

    assert b"* 1 RECENT" in await first.say("SELECT INBOX")
    assert b"* 0 RECENT" in await second.say("SELECT INBOX")
    assert await first.say("SEARCH RECENT") == [b"* SEARCH 1", b"a OK SEARCH completed"]
    assert await second.say("SEARCH RECENT") == [b"* SEARCH", b"a OK SEARCH completed"]


async def test_examine_leaves_recent_to_others(harness: Harness) -> None:
    await deliver(harness)
    looking = await Talk.logged_in(harness)

    assert b"* 1 RECENT" in await looking.say("EXAMINE INBOX")
    assert b"* 1 RECENT" in await looking.say("SELECT INBOX")


async def test_idle_tells_at_once_and_ends_with_done(harness: Harness) -> None:
    await deliver(harness)
    talk = await Talk.logged_in(harness, "SELECT INBOX")
    assert await talk.say("IDLE") == [b"+ idling"]

    await deliver(harness)
    assert await talk.wake() == [b"* 2 EXISTS", b"* 2 RECENT"]

    other = await Talk.logged_in(harness, "SELECT INBOX")
    await other.say("STORE 1 +FLAGS (\\Deleted)")
    await other.say("EXPUNGE")
    assert await talk.wake() == [b"* 1 EXPUNGE"]
    assert await talk.feed(b"DONE\r\n") == b"a OK IDLE completed\r\n"
    assert await talk.say("NOOP") == [b"a OK NOOP completed"]


async def test_idle_tells_what_happened_before_it(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "SELECT INBOX")
    await deliver(harness)

    assert await talk.say("IDLE") == [b"+ idling", b"* 1 EXISTS", b"* 1 RECENT"]


async def test_anything_but_done_ends_idle_with_an_error(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)
    await talk.say("IDLE")

    assert await talk.feed(b"a NOOP\r\n") == b"a BAD Expected DONE\r\n"
    assert await talk.say("NOOP") == [b"a OK NOOP completed"]


async def test_without_idle_nothing_is_said_unasked(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "SELECT INBOX")
    await deliver(harness)

    assert await talk.wake() == []
    assert b"* 1 EXISTS" in await talk.say("NOOP")


async def test_a_mailbox_deleted_under_a_session_ends_it_with_bye(harness: Harness) -> None:
    one = await Talk.logged_in(harness, "CREATE Work", "SELECT Work")
    other = await Talk.logged_in(harness)
    await other.say("DELETE Work")

    assert await one.say("NOOP") == [b"* BYE The selected mailbox was deleted"]
    assert one.ended


async def test_a_mailbox_deleted_before_idle_ends_the_session_too(harness: Harness) -> None:
    one = await Talk.logged_in(harness, "CREATE Work", "SELECT Work")
    other = await Talk.logged_in(harness, "DELETE Work")

    assert await one.say("IDLE") == [b"+ idling", b"* BYE The selected mailbox was deleted"]
    assert one.ended
    assert not other.ended


async def test_a_renamed_mailbox_stays_selected(harness: Harness) -> None:
    one = await Talk.logged_in(harness, "CREATE Work", "SELECT Work")
    other = await Talk.logged_in(harness, "RENAME Work Jobs")
    await deliver(harness, "Hello", "Jobs")

    assert b"* 1 EXISTS" in await one.say("NOOP")
    assert b"* 1 EXISTS" in await other.say("SELECT Jobs")


async def test_close_removes_what_is_deleted_and_says_nothing_of_it(harness: Harness) -> None:
    one, other = await two_sessions(harness, 2)
    await one.say("STORE 1 +FLAGS.SILENT (\\Deleted)")

    assert await one.say("CLOSE") == [b"a OK CLOSE completed"]
    assert b"* 1 EXPUNGE" in await other.say("NOOP")
    assert (await one.say("FETCH 1 UID"))[0].startswith(b"a BAD")


async def test_unselect_and_examine_remove_nothing(harness: Harness) -> None:
    one, other = await two_sessions(harness, 1)
    await one.say("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await one.say("UNSELECT")
    await one.say("EXAMINE INBOX")
    await one.say("CLOSE")

    assert [line for line in await other.say("NOOP") if b"EXPUNGE" in line] == []


async def test_a_log_that_was_trimmed_is_made_up_for_by_reading_the_mailbox(harness: Harness) -> None:
    one, other = await two_sessions(harness, 3)
    await other.say("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await other.say("STORE 2 +FLAGS.SILENT (\\Flagged)")
    await other.say("EXPUNGE")
    await deliver(harness)

    async def trim(transaction: Transaction) -> int:
        return await transaction.execute(_FORGET)

    await harness.database.write(trim)
    answers = await one.say("NOOP")

    assert answers[0] == b"* 1 EXPUNGE"
    assert b"* 3 EXISTS" in answers
    assert b"* 1 FETCH (UID 2 FLAGS (\\Flagged \\Recent))" in answers


async def test_sessions_of_different_accounts_hear_nothing_of_each_other(harness: Harness) -> None:
    eve = await harness.add_account("eve@example.test", "eves")
    talk = Talk.start(harness)
    await talk.say("LOGIN eve@example.test eves")
    await talk.say("SELECT INBOX")
    await talk.say("IDLE")
    await deliver(harness)

    assert await talk.wake() == []
    assert await harness.contents(eve) == []
