"""QRESYNC (RFC 7162 §3.2): a client that comes back hears what changed, and UIDs of what is gone."""

from __future__ import annotations

import re

import pytest
from app.servers.imap import vanished
from app.servers.imap.vanished import gaps
from app.wire.imap.sets import SequenceSet
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import Harness
from tests.imap_harness import mail
from tests.unit.servers.imap.talk import Talk
from tests.unit.servers.imap.test_messages import with_mail

SIX = [mail(f"m{number}") for number in range(1, 7)]


async def selected(harness: Harness, command: str = "SELECT INBOX") -> tuple[Talk, int, int]:
    """A session with QRESYNC and the mailbox of six messages selected, its UIDVALIDITY and HIGHESTMODSEQ."""
    await with_mail(harness, *SIX)
    talk = await Talk.logged_in(harness, "ENABLE QRESYNC")
    answers = await talk.say(command)
    return talk, number_in(answers, "UIDVALIDITY"), number_in(answers, "HIGHESTMODSEQ")


def number_in(answers: list[bytes], name: str) -> int:
    """The number that follows a name in the answers."""
    match = re.search(rf"\b{name} (\d+)".encode(), b"\r\n".join(answers))
    assert match is not None
    return int(match[1])


def about_messages(answers: list[bytes]) -> list[bytes]:
    """VANISHED and FETCH answers, MODSEQs left out."""
    told = [line for line in answers if re.match(rb"\* (VANISHED|\d+ FETCH)", line)]
    return [re.sub(rb" MODSEQ \(\d+\)", b"", line) for line in told]


async def test_qresync_must_be_enabled_first(harness: Harness) -> None:
    talk = await with_mail(harness, *SIX)

    assert (await talk.say("SELECT INBOX (QRESYNC (1 1))"))[-1].startswith(b"a BAD")
    await talk.say("SELECT INBOX")
    assert (await talk.say("UID FETCH 1:* FLAGS (CHANGEDSINCE 1 VANISHED)"))[-1].startswith(b"a BAD")
    answers = await talk.say("ENABLE QRESYNC X-OTHER")
    assert b"* ENABLED QRESYNC" in answers
    assert any(b"[HIGHESTMODSEQ" in line for line in answers)


async def test_expunged_messages_are_told_by_uid_once_qresync_is_enabled(harness: Harness) -> None:
    talk, _, _ = await selected(harness)
    await talk.say("STORE 2:3,5 +FLAGS.SILENT (\\Deleted)")

    *answers, done = await talk.say("EXPUNGE")

    assert [line for line in answers if b"VANISHED" in line or b"EXPUNGE" in line] == [b"* VANISHED 2:3,5"]
    highest = number_in(await talk.say("STATUS INBOX (HIGHESTMODSEQ)"), "HIGHESTMODSEQ")
    assert done == b"a OK [HIGHESTMODSEQ %d] EXPUNGE completed" % highest
    assert (await talk.say("FETCH 1:* UID"))[:-1] == [b"* 1 FETCH (UID 1)", b"* 2 FETCH (UID 4)", b"* 3 FETCH (UID 6)"]
    assert (await talk.say("EXPUNGE")) == [b"a OK EXPUNGE completed"]


async def test_another_session_hears_vanished_or_expunge_as_it_asked(harness: Harness) -> None:
    talk, _, _ = await selected(harness)
    plain = await Talk.logged_in(harness, "SELECT INBOX")
    await talk.say("STORE 2:3 +FLAGS.SILENT (\\Deleted)")
    await talk.say("EXPUNGE")

    assert [line for line in await plain.say("NOOP") if b"EXPUNGE" in line] == [b"* 2 EXPUNGE", b"* 2 EXPUNGE"]
    assert not any(b"VANISHED" in line for line in await talk.say("NOOP"))


async def change(harness: Harness, *commands: str) -> None:
    await Talk.logged_in(harness, "SELECT INBOX", *commands)


@pytest.mark.parametrize("log_limit", [vanished.LOG_LIMIT, 1], ids=["by the log", "by the numbers in use"])
async def test_a_client_that_comes_back_hears_what_left_and_what_changed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, log_limit: int
) -> None:
    monkeypatch.setattr(vanished, "LOG_LIMIT", log_limit)
    talk, validity, modseq = await selected(harness)
    await talk.say("UNSELECT")
    await change(harness, "STORE 2:3,6 +FLAGS (\\Deleted)", "EXPUNGE", "STORE 1 +FLAGS (\\Flagged)")

    answers = await talk.say(f"SELECT INBOX (QRESYNC ({validity} {modseq}))")
    assert about_messages(answers) == [b"* VANISHED (EARLIER) 2:3,6", b"* 1 FETCH (UID 1 FLAGS (\\Flagged))"]
    assert b"* 3 EXISTS" in b"\r\n".join(answers)

    answers = await talk.say(f"SELECT INBOX (QRESYNC ({validity} {modseq} 3:5 (1,3 1,3)))")
    assert about_messages(answers) == [b"* VANISHED (EARLIER) 3"]


async def test_nothing_is_told_to_a_client_that_knows_all_or_another_mailbox(harness: Harness) -> None:
    talk, validity, _ = await selected(harness)
    await change(harness, "STORE 2 +FLAGS (\\Deleted)", "EXPUNGE", "CREATE Box", "CREATE Box/Sub")
    highest = number_in(await talk.say("STATUS INBOX (HIGHESTMODSEQ)"), "HIGHESTMODSEQ")

    assert about_messages(await talk.say(f"SELECT INBOX (QRESYNC ({validity} {highest}))")) == []
    assert about_messages(await talk.say(f"SELECT INBOX (QRESYNC ({validity + 1} 1))")) == []
    assert about_messages(await talk.say(f"SELECT INBOX (QRESYNC ({validity} {highest + 99}))")) == []


async def test_uid_fetch_tells_what_left_of_the_set(harness: Harness) -> None:
    talk, _, modseq = await selected(harness)
    await change(harness, "STORE 2,5:6 +FLAGS (\\Deleted)", "EXPUNGE", "STORE 3 +FLAGS (\\Flagged)")
    await talk.say("NOOP")

    answers = await talk.say(f"UID FETCH 1:5 (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
    assert about_messages(answers) == [b"* VANISHED (EARLIER) 2,5", b"* 3 FETCH (UID 4 FLAGS (\\Flagged))"]

    answers = await talk.say(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")
    assert about_messages(answers)[0] == b"* VANISHED (EARLIER) 2,5:6"


async def test_a_message_that_comes_meanwhile_has_not_vanished(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vanished, "LOG_LIMIT", 1)
    talk, _, modseq = await selected(harness)
    await with_mail(harness, mail("seventh"))
    await change(harness, "STORE 2 +FLAGS (\\Deleted)", "EXPUNGE")

    answers = await talk.say(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")

    assert b"* VANISHED (EARLIER) 2" not in answers  # its number is in use until VANISHED without EARLIER
    assert b"* VANISHED 2" in answers
    assert b"* 6 EXISTS" in b"\r\n".join(answers)


async def test_a_move_tells_vanished_and_where_the_mailbox_stands(harness: Harness) -> None:
    talk, _, _ = await selected(harness)
    await talk.say("CREATE Box")

    copied, gone, done = await talk.say("UID MOVE 2,4 Box")

    highest = number_in(await talk.say("STATUS INBOX (HIGHESTMODSEQ)"), "HIGHESTMODSEQ")
    assert b"COPYUID" in copied
    assert (gone, done) == (b"* VANISHED 2,4", b"a OK [HIGHESTMODSEQ %d] MOVE completed" % highest)
    assert await talk.say("UID MOVE 2 Box") == [b"a OK MOVE completed"]


async def test_close_says_where_the_mailbox_stands(harness: Harness) -> None:
    talk, _, _ = await selected(harness)
    await talk.say("STORE 1 +FLAGS.SILENT (\\Deleted)")

    (done,) = await talk.say("CLOSE")

    highest = number_in(await talk.say("STATUS INBOX (HIGHESTMODSEQ)"), "HIGHESTMODSEQ")
    assert done == b"a OK [HIGHESTMODSEQ %d] CLOSE completed" % highest


@given(st.sets(st.integers(1, 40)), st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1))
def test_gaps_are_the_numbers_of_a_set_that_are_not_in_use(present: set[int], pairs: list[tuple[int, int]]) -> None:
    known = SequenceSet.of_ranges((min(pair), max(pair)) for pair in pairs)

    found = [number for low, high in gaps(sorted(present), known) for number in range(low, high + 1)]

    assert found == [number for number in known.numbers(40) if number not in present]
