from __future__ import annotations

import pytest
from app.backends.imap.selected import NO_VALIDITY
from app.backends.imap.session import ClientSession
from app.errors import MailboxNotFound, ServerRefused
from app.wire.imap import commands
from app.wire.imap.commands import KnownState
from app.wire.imap.search import All
from app.wire.imap.sets import SequenceSet

from tests.unit.backends.imap.scripted import SELECTED, ScriptedServer, scripted_session

ONE = SequenceSet.of([1])


async def agreed(script: dict[str, str], capabilities: str) -> tuple[ClientSession, ScriptedServer]:
    session, server = scripted_session(dict(script), capabilities)
    await session.agree()
    return session, server


async def test_only_what_enabled_confirms_is_believed() -> None:
    icloud = "IMAP4rev1 ENABLE CONDSTORE QRESYNC IDLE"
    session, server = await agreed({"ENABLE": "* ENABLED CONDSTORE\r\n$ OK done\r\n"}, icloud)

    assert server.told == ["ENABLE QRESYNC CONDSTORE"]
    assert not session.has("QRESYNC")
    assert session.has("CONDSTORE", "IDLE")
    assert "QRESYNC" not in session.capabilities


async def test_extensions_are_agreed_on_in_one_round_trip() -> None:
    session, server = await agreed(
        {
            "ENABLE": "* ENABLED QRESYNC\r\n$ OK\r\n",
            "ID": "* ID NIL\r\n$ OK\r\n",
            "NAMESPACE": '* NAMESPACE (("INBOX." ".")) NIL NIL\r\n$ OK\r\n',
        },
        "IMAP4rev1 ENABLE QRESYNC ID NAMESPACE",
    )

    assert [line.split()[0] for line in server.told] == ["ENABLE", "ID", "NAMESPACE"]
    assert (session.prefix, session.delimiter) == ("INBOX.", ".")
    assert session.has("QRESYNC")


async def test_a_server_that_refuses_to_agree_is_used_as_it_is() -> None:
    session, _ = await agreed({"ENABLE": "$ BAD what\r\n", "ID": "$ NO\r\n"}, "IMAP4rev1 ENABLE QRESYNC ID")

    assert session.enabled == frozenset()


async def test_select_and_fetch_leave_together_and_the_next_fetch_alone() -> None:
    session, server = scripted_session({"UID FETCH": "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n$ OK done\r\n"})

    await session.fetch("INBOX", ONE, ["UID", "FLAGS"])
    assert server.sent.count(b"\r\n") == 2
    await session.fetch("INBOX", ONE, ["UID", "FLAGS"])

    assert server.told == ['SELECT "INBOX"', "UID FETCH 1 (UID FLAGS)", "UID FETCH 1 (UID FLAGS)"]


async def test_a_message_that_a_selected_mailbox_hides_is_looked_for_anew() -> None:
    session, server = scripted_session()
    await session.select("INBOX")
    fetches = iter(["$ OK done\r\n", "* 1 FETCH (UID 1 FLAGS ())\r\n$ OK done\r\n"])
    server.script["UID FETCH"] = lambda _: next(fetches)

    assert 1 in await session.fetch("INBOX", ONE, ["UID", "FLAGS"])
    assert server.told.count('SELECT "INBOX"') == 2


async def test_a_mailbox_that_is_gone_is_not_found() -> None:
    session, _ = scripted_session({"SELECT": "$ NO [NONEXISTENT] no\r\n", "UID FETCH": "$ BAD none selected\r\n"})

    with pytest.raises(MailboxNotFound):
        await session.fetch("Gone", ONE, ["UID"])
    assert session.selected is None


@pytest.mark.parametrize(
    ("capabilities", "modseq"), [("IMAP4rev1 XYMHIGHESTMODSEQ", 0), ("IMAP4rev1 CONDSTORE", 102784)]
)
async def test_a_modseq_is_believed_only_of_a_server_that_offers_to_keep_it(capabilities: str, modseq: int) -> None:
    """Yahoo's SELECT."""
    session, _ = scripted_session(
        {
            "SELECT": "* 23992 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1] UIDs valid\r\n"
            "* OK [UIDNEXT 333878] Predicted next UID\r\n* OK [HIGHESTMODSEQ 102784]\r\n$ OK [READ-WRITE] done\r\n"
        },
        capabilities,
    )

    selected, _ = await session.select("INBOX")

    assert selected.highest_modseq == modseq


async def test_a_mailbox_that_is_busy_is_not_called_gone() -> None:
    session, _ = scripted_session({"SELECT": "$ NO [INUSE] locked\r\n"})

    with pytest.raises(ServerRefused):
        await session.select("INBOX")


@pytest.mark.parametrize("told", ["", "* OK [UIDVALIDITY 0] zero\r\n", "* OK [UIDVALIDITY x] odd\r\n"])
async def test_a_mailbox_without_uidvalidity_has_one_that_stays(told: str) -> None:
    session, _ = scripted_session({"SELECT": told + "* 3 EXISTS\r\n$ OK selected\r\n"})

    selected, _ = await session.select("INBOX")

    assert (selected.uid_validity, selected.exists) == (NO_VALIDITY, 3)


@pytest.mark.parametrize(
    "lines",
    ["* SEARCH 1 2\r\n* SEARCH 3\r\n", "* SEARCH 1\r\n* SEARCH\r\n* SEARCH 3 2\r\n", "* SEARCH 1 2 x 3\r\n"],
)
async def test_a_search_is_answered_in_as_many_lines_as_the_server_likes(lines: str) -> None:
    session, _ = scripted_session({"UID SEARCH": lines + "$ OK done\r\n"})

    assert str(await session.search("INBOX", All())) == "1:3"


async def test_a_line_that_cannot_be_read_costs_the_others_nothing() -> None:
    odd = '* LIST\r\n* ID ("name\r\n* NAMESPACE NIL\r\n* OK [HIGHESTMODSEQ x] odd\r\n'
    session, _ = scripted_session({"SELECT": odd + SELECTED})

    selected, _ = await session.select("INBOX")

    assert (selected.uid_validity, selected.exists) == (7, 3)


async def test_a_flag_change_told_amid_a_fetch_loses_nothing_that_was_fetched() -> None:
    session, _ = scripted_session(
        {"UID FETCH": "* 1 FETCH (UID 1 FLAGS () RFC822.SIZE 7)\r\n* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n$ OK done\r\n"}
    )

    found = await session.fetch("INBOX", ONE, ["UID", "FLAGS", "RFC822.SIZE"])

    assert (found[1].flags, found[1].size_bytes) == (frozenset({"\\Seen"}), 7)


@pytest.mark.parametrize(
    ("capabilities", "answer", "asked"),
    [
        ("IMAP4rev1", "* SEARCH 2 5 3\r\n", "UID SEARCH ALL"),
        ("IMAP4rev1 ESEARCH", '* ESEARCH (TAG "x") UID ALL 2:3,5\r\n', "UID SEARCH RETURN (ALL) ALL"),
    ],
)
async def test_a_search_reads_both_forms_of_its_answer(capabilities: str, answer: str, asked: str) -> None:
    session, server = scripted_session({"UID SEARCH": answer + "$ OK done\r\n"}, capabilities)

    assert str(await session.search("INBOX", All())) == "2:3,5"
    assert server.told[-1] == asked


async def test_qresync_parameters_are_sent_only_when_confirmed() -> None:
    known = KnownState(7, 5)
    session, server = scripted_session(capabilities="IMAP4rev1 QRESYNC CONDSTORE")
    await session.select("INBOX", known=known)
    assert server.told == ['SELECT "INBOX" (CONDSTORE)']

    session, server = scripted_session(capabilities="IMAP4rev1 QRESYNC CONDSTORE", enabled=["QRESYNC"])
    await session.select("INBOX", known=known)
    assert server.told == ['SELECT "INBOX" (QRESYNC (7 5))']


async def test_leaving_a_mailbox_never_expunges_it() -> None:
    session, server = scripted_session(capabilities="IMAP4rev1")
    await session.select("Work")
    await session.leave_mailbox()
    assert server.told[-1] == 'SELECT "INBOX"'

    session, server = scripted_session(capabilities="IMAP4rev1 UNSELECT")
    await session.select("Work")
    await session.leave_mailbox()
    assert server.told[-1] == "UNSELECT"


async def test_a_mailbox_that_was_opened_with_others_is_left_too() -> None:
    session, server = scripted_session(capabilities="IMAP4rev1")
    await session.open_each(["Sent", "Work"])
    await session.leave_mailbox()
    assert server.told == ['SELECT "Sent"', 'SELECT "Work"', 'SELECT "INBOX"']


async def test_idle_ends_by_done_and_a_refusal_is_told() -> None:
    session, server = scripted_session({"IDLE": "+ idling\r\n"})
    idling = await session.begin_idle(10)
    await session.end_idle(idling)
    assert server.told == ["IDLE", "DONE"]

    session, _ = scripted_session({"IDLE": "$ NO not here\r\n"})
    with pytest.raises(ServerRefused):
        await session.begin_idle(10)


async def test_utf8_names_go_as_they_are_after_enable() -> None:
    session, server = scripted_session(capabilities="IMAP4rev1", enabled=["UTF8=ACCEPT"])
    await session.select("Müll")
    assert server.told == ['SELECT "Müll"']

    session, server = scripted_session()
    await session.select("Müll")
    assert server.told == ['SELECT "M&APw-ll"']


async def test_run_tells_how_each_command_ended() -> None:
    session, _ = scripted_session({"NOOP": "$ NO busy\r\n", "SELECT": SELECTED})

    noop, capability = await session.run(commands.noop(), commands.capability())

    assert (noop.status, capability.status) == ("NO", "OK")


FLAG_NEWS = (
    "* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (7))\r\n"
    "* 2 FETCH (UID 2 MODSEQ (7) FLAGS ())\r\n"
    "* 3 FETCH (FLAGS (a b) UID 3)\r\n"
    "* 4 FETCH (FLAGS (\\Recent))\r\n"
)


@pytest.mark.parametrize("command", ["NOOP", "UID STORE 5 +FLAGS (a)", "UID FETCH 5 (UID FLAGS)"])
async def test_flags_of_messages_that_nobody_asked_about_are_not_kept(command: str) -> None:
    """All messages of a mailbox, where another client changes them all."""
    told = "* 5 FETCH (UID 5 FLAGS (a))\r\n* 9 FETCH (UID 9 PREVIEW NIL)\r\n* 10 EXISTS\r\n"
    session, _ = scripted_session({command.partition(" 5")[0]: FLAG_NEWS + told + "$ OK done\r\n"})
    uids = SequenceSet.of([5])
    asked = {
        "NOOP": commands.noop(),
        "UID STORE 5 +FLAGS (a)": commands.store(uids, ["a"]),
        "UID FETCH 5 (UID FLAGS)": commands.fetch(uids, ("UID", "FLAGS")),
    }[command]

    (completion,) = await session.run(asked)

    kept = [response.text.partition(b" ")[2][:2] for response in completion.responses]
    assert kept == ([b"5 "] if command.startswith("UID") else []) + [b"9 ", b"10"]
