"""The second connection of a watch: it hears of the mailboxes beside INBOX while somebody follows the account."""

from __future__ import annotations

import pytest
from app.backends.imap.watching import inbox as inbox_module
from app.backends.imap.watching import other_mailboxes as module
from app.backends.imap.watching.sweeping import SWEEP_SECONDS, UNFOLLOWED_SWEEP_SECONDS
from app.errors import RateLimited, Unreachable
from app.mail.backend import SyncMode

from tests.unit.backends.imap.watching.watched import (
    ALL,
    KNOWN,
    Watched,
    listed,
    mailbox,
    started_with_second,
    status,
)

EVENTS = "(MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange)"
NOTIFY = f"NOTIFY SET STATUS (personal {EVENTS})"


def notifies(watched: Watched) -> list[str]:
    return [line for line in watched.second.told if line.startswith("NOTIFY")]


async def test_inbox_is_idled_on_while_notify_watches_all_mailboxes_with_none_selected() -> None:
    watched = await started_with_second(ALL)
    await watched.pass_by()

    assert watched.watch.mode is SyncMode.NOTIFY
    assert watched.server.told == ['SELECT "INBOX"', "IDLE"]
    assert watched.second.told[0] == NOTIFY
    assert not any(line.startswith("SELECT") for line in watched.second.told)


async def test_what_notify_tells_is_a_signal_with_its_numbers() -> None:
    watched = await started_with_second(ALL)
    await watched.pass_by()

    watched.second.say(status("Work", uid_next=5, total=4))

    [signal] = await watched.pass_by()
    assert signal.origin_names == {"Work"}
    assert [(one.origin_name, one.uid_next, one.total) for one in signal.status] == [("Work", 5, 4)]


async def test_a_server_without_notify_is_swept_on_the_second_connection_so_that_idle_goes_on() -> None:
    watched = await started_with_second("IMAP4rev1 IDLE LIST-EXTENDED LIST-STATUS")
    await watched.pass_by()

    watched.second.script["LIST"] = listed("INBOX", "Work", uid_next=8)

    assert "Work" in await watched.names_after(SWEEP_SECONDS[1])
    assert watched.watch.mode is SyncMode.IDLE
    assert watched.server.told == ['SELECT "INBOX"', "IDLE"]


async def test_what_notify_does_not_tell_is_found_by_a_sweep_within_five_seconds() -> None:
    watched = await started_with_second(ALL)
    await watched.pass_by()

    watched.second.script["LIST"] = listed("INBOX", "Work", uid_next=8)

    assert "Work" in await watched.names_after(SWEEP_SECONDS[1])
    assert SWEEP_SECONDS[1] < 5


async def test_notify_that_does_not_tell_what_a_sweep_found_is_ended_and_asked_for_again() -> None:
    """A second NOTIFY SET alone makes Dovecot 2.3 deaf: its old watch of the log takes the new one away."""
    watched = await started_with_second(ALL)
    await watched.pass_by()
    for uid_next in (8, 9):
        watched.second.script["LIST"] = listed("INBOX", "Work", uid_next=uid_next)
        assert "Work" in await watched.names_after(SWEEP_SECONDS[1])

    assert notifies(watched) == [NOTIFY, "NOTIFY NONE", NOTIFY]


async def test_an_idle_that_stays_silent_about_inbox_is_begun_again() -> None:
    """Dovecot watches the log that there was when IDLE began, and hears nothing once it has been rotated."""
    watched = await started_with_second(ALL)
    await watched.pass_by()
    for uid_next in (8, 9):
        watched.second.script["LIST"] = listed("INBOX", "Work", uid_next=uid_next)
        assert "INBOX" in await watched.names_after(SWEEP_SECONDS[1])

    assert watched.server.told == ['SELECT "INBOX"', "IDLE", "DONE", "IDLE"]


async def test_an_idle_that_tells_what_the_sweeps_find_goes_on() -> None:
    watched = await started_with_second(ALL)
    await watched.pass_by()
    for uid_next in range(8, 20):
        watched.second.script["LIST"] = listed("INBOX", "Work", uid_next=uid_next)
        assert "INBOX" in await watched.names_after(SWEEP_SECONDS[1])
        watched.server.say(f"* {uid_next} EXISTS\r\n")

    assert watched.server.told == ['SELECT "INBOX"', "IDLE"]


async def test_notify_is_asked_for_once_as_long_as_it_tells_what_the_sweeps_find() -> None:
    watched = await started_with_second(ALL)
    await watched.pass_by()
    for uid_next in range(8, 20):
        watched.second.script["LIST"] = listed("INBOX", "Work", uid_next=uid_next)
        assert "Work" in await watched.names_after(SWEEP_SECONDS[1])
        watched.second.say(status("Work", uid_next, total=3))

    assert notifies(watched) == [NOTIFY]


async def test_an_idle_goes_on_as_long_as_the_server_talks_and_is_begun_again_after_a_silence() -> None:
    watched = await started_with_second(ALL)
    await watched.pass_by()
    for number in range(4, 9):
        watched.server.say(f"* {number} EXISTS\r\n")
        assert "INBOX" in await watched.names_after(inbox_module.SILENCE_SECONDS - 1)
    assert watched.server.told == ['SELECT "INBOX"', "IDLE"]

    await watched.pass_by(inbox_module.SILENCE_SECONDS * 1.5)

    assert watched.server.told == ['SELECT "INBOX"', "IDLE", "DONE", "IDLE"]


async def test_an_account_that_nobody_follows_has_one_connection() -> None:
    watched = await started_with_second(ALL, is_followed=False)
    await watched.pass_by()

    assert (watched.seconds, watched.watch.mode) == ([], SyncMode.IDLE)
    assert any(line.startswith("LIST") for line in watched.server.told)

    watched.followed[0] = True
    await watched.pass_by()

    assert (len(watched.seconds), watched.watch.mode) == (1, SyncMode.NOTIFY)


async def test_an_account_that_somebody_begins_to_follow_is_idled_on_without_a_break() -> None:
    watched = await started_with_second(ALL, is_followed=False)
    await watched.pass_by()
    watched.server.told.clear()
    watched.followed[0] = True

    await watched.pass_by(SWEEP_SECONDS[1])

    assert (watched.server.told, len(watched.seconds)) == ([], 1)


async def test_the_second_connection_ends_when_nobody_follows_any_more_and_the_first_sweeps() -> None:
    watched = await started_with_second(ALL)
    await watched.pass_by()
    watched.followed[0] = False
    await watched.pass_by()

    assert (watched.second.is_closed, watched.watch.mode) == (True, SyncMode.IDLE)
    watched.server.script["LIST"] = listed("INBOX", "Work", uid_next=8)
    assert "Work" in await watched.names_after(UNFOLLOWED_SWEEP_SECONDS)


@pytest.mark.parametrize("error", [RateLimited("too many"), Unreachable("gone")])
async def test_where_the_server_lets_in_one_connection_it_does_all_and_another_is_tried_later(
    error: RateLimited | Unreachable,
) -> None:
    watched = await started_with_second(ALL, refusals=[error])
    await watched.pass_by()
    assert (watched.seconds, watched.watch.mode) == ([], SyncMode.IDLE)
    watched.server.script["LIST"] = listed("INBOX", "Work", uid_next=8)
    assert "Work" in await watched.names_after(SWEEP_SECONDS[1])
    assert watched.seconds == []

    await watched.pass_by(module.RETRY_SECONDS * 1.5)

    assert (len(watched.seconds), watched.watch.mode) == (1, SyncMode.NOTIFY)


async def test_a_second_connection_that_is_lost_ends_no_watch() -> None:
    watched = await started_with_second(ALL)
    await watched.pass_by()

    watched.second.say("* BYE restarting\r\n")
    await watched.pass_by()
    watched.server.script["LIST"] = listed("INBOX", "Work", uid_next=8)

    assert "Work" in await watched.names_after(SWEEP_SECONDS[1])
    assert watched.watch.mode is SyncMode.IDLE


async def test_the_first_connection_that_is_lost_ends_both() -> None:
    watched = await started_with_second(ALL)
    await watched.pass_by()
    watched.server.say("* BYE restarting\r\n")

    with pytest.raises(Unreachable):
        await watched.ended()
    assert watched.second.is_closed


async def test_notify_watches_shared_mailboxes_too_which_are_not_personal() -> None:
    namespaces = '* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared/" "/"))\r\n$ OK done\r\n'
    watched = await started_with_second(
        f"{ALL} NAMESPACE", {"NAMESPACE": namespaces}, known=[*KNOWN, mailbox("Shared/News")]
    )

    assert watched.watch.mode is SyncMode.NOTIFY
    assert notifies(watched) == [f'NOTIFY SET STATUS (personal {EVENTS}) (subtree ("Shared") {EVENTS})']


async def test_where_shared_mailboxes_cannot_be_watched_the_others_are() -> None:
    def refuse_shared(command: str) -> str:
        return "$ NO [BADEVENT (MessageNew)] no\r\n" if "subtree" in command else "$ OK done\r\n"

    namespaces = '* NAMESPACE (("" "/")) NIL (("Shared/" "/"))\r\n$ OK done\r\n'
    watched = await started_with_second(
        f"{ALL} NAMESPACE",
        {"NAMESPACE": namespaces, "NOTIFY": refuse_shared},
        known=[*KNOWN, mailbox("Shared/News")],
    )

    assert (watched.watch.mode, notifies(watched)[-1]) == (SyncMode.NOTIFY, NOTIFY)


@pytest.mark.parametrize("answer", ["$ NO [BADEVENT] no\r\n", "$ BAD what?\r\n"])
async def test_a_refused_notify_is_replaced_by_sweeps(answer: str) -> None:
    watched = await started_with_second("IMAP4rev1 IDLE NOTIFY", {"NOTIFY": answer})

    assert watched.watch.mode is SyncMode.SWEEP


async def test_an_overflow_of_notify_is_looked_at_everywhere_and_the_sweeps_go_on() -> None:
    watched = await started_with_second(ALL)
    await watched.pass_by()

    watched.second.say("* OK [NOTIFICATIONOVERFLOW] too much\r\n")

    assert [signal.origin_names for signal in await watched.pass_by()] == [frozenset()]
    assert watched.watch.mode is SyncMode.IDLE
    watched.second.script["LIST"] = listed("INBOX", "Work", uid_next=8)
    assert "Work" in await watched.names_after(SWEEP_SECONDS[1])


async def test_a_server_without_idle_gets_one_connection() -> None:
    watched = await started_with_second("IMAP4rev1 LIST-EXTENDED LIST-STATUS")
    await watched.pass_by()

    assert (watched.seconds, watched.watch.mode) == ([], SyncMode.POLL)


async def test_a_watch_that_is_closed_closes_both_connections() -> None:
    watched = await started_with_second(ALL)

    await watched.watch.close()

    assert watched.server.is_closed
    assert watched.second.is_closed
