"""SORT and its relatives: which order messages come in (RFC 5256 §3, RFC 5957, RFC 5267)."""

from __future__ import annotations

import asyncio

import pytest
from app.servers.imap import finding, merging, sorting
from app.servers.imap.commands.sort import sort
from app.wire.imap.requests.sort import Sort, SortKey, SortTerm
from app.wire.imap.search import All

from tests.harness import Harness
from tests.imap_harness import mail
from tests.unit.servers.imap.talk import Talk
from tests.unit.servers.imap.test_large import fill, session_of
from tests.unit.servers.imap.test_messages import with_mail

MESSAGES = (
    mail("Re: plum", "x" * 300, From="Zoe <carl@a.test>", Cc="b@x.test", Date="Mon, 1 Jan 2024 10:00:00 +0000"),
    mail("Apple", "x" * 100, From="alice@b.test", To="zed@x.test", Date="Mon, 1 Jan 2024 12:30:00 +0300"),
    mail("[list] plum (fwd)", "x" * 200, From='"Bob" <ALICE@c.test>', Cc="a@x.test", Date="no date"),
    mail("", "x" * 50, From="", To='"An" <m@x.test>', Date="Sun, 31 Dec 2023 23:59:59 +0000"),
)
"""All of them came at 2024-01-01 10:00:00 UTC."""


@pytest.mark.parametrize(
    ("criteria", "numbers"),
    [
        ("(ARRIVAL)", "1 2 3 4"),
        ("(REVERSE ARRIVAL)", "1 2 3 4"),
        ("(DATE)", "4 2 1 3"),
        ("(REVERSE DATE)", "1 3 2 4"),
        ("(SIZE)", "4 2 3 1"),
        ("(REVERSE SIZE)", "1 3 2 4"),
        ("(SUBJECT)", "4 2 1 3"),
        ("(REVERSE SUBJECT)", "1 3 2 4"),
        ("(SUBJECT REVERSE SIZE)", "4 2 1 3"),
        ("(SUBJECT SIZE)", "4 2 3 1"),
        ("(FROM)", "4 2 3 1"),
        ("(FROM REVERSE DATE)", "4 3 2 1"),
        ("(TO)", "1 3 4 2"),
        ("(CC)", "2 4 3 1"),
        ("(REVERSE CC)", "1 3 2 4"),
        ("(DISPLAYFROM)", "4 2 3 1"),
        ("(DISPLAYTO)", "4 1 3 2"),
    ],
)
async def test_each_key_orders_messages_and_equal_ones_stay_in_order(
    harness: Harness, criteria: str, numbers: str
) -> None:
    talk = await with_mail(harness, *MESSAGES)

    assert await talk.say(f"SORT {criteria} UTF-8 ALL") == [
        f"* SORT {numbers}".encode(),
        b"a OK SORT completed",
    ]


async def test_only_what_is_found_is_sorted_and_uid_sort_names_uids(harness: Harness) -> None:
    talk = await with_mail(harness, *MESSAGES)
    await talk.say("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await talk.say("EXPUNGE")

    assert await talk.say("UID SORT (SIZE) US-ASCII SUBJECT plum") == [b"* SORT 3", b"a OK SORT completed"]
    assert await talk.say("SORT (SIZE) US-ASCII SUBJECT plum") == [b"* SORT 2", b"a OK SORT completed"]
    assert await talk.say("SORT (SIZE) UTF-8 SUBJECT none") == [b"* SORT", b"a OK SORT completed"]


async def test_esort_answers_in_the_sorted_order(harness: Harness) -> None:
    talk = await with_mail(harness, *MESSAGES)

    answers = [
        (await talk.say(f"UID SORT RETURN ({wanted}) (SIZE) UTF-8 ALL"))[0]
        for wanted in ("MIN MAX COUNT", "ALL", "", "MAX")
    ]

    assert answers == [
        b'* ESEARCH (TAG "a") UID MIN 4 MAX 1 COUNT 4',
        b'* ESEARCH (TAG "a") UID ALL 4,2:3,1',
        b'* ESEARCH (TAG "a") UID ALL 4,2:3,1',
        b'* ESEARCH (TAG "a") UID MAX 1',
    ]


async def test_a_saved_sort_names_the_messages_that_were_found(harness: Harness) -> None:
    talk = await with_mail(harness, *MESSAGES)

    await talk.say("SORT RETURN (SAVE) (SIZE) UTF-8 SUBJECT plum")
    assert (await talk.say("FETCH $ UID"))[:-1] == [b"* 1 FETCH (UID 1)", b"* 3 FETCH (UID 3)"]
    await talk.say("SORT RETURN (SAVE MIN) (SIZE) UTF-8 SUBJECT plum")
    assert (await talk.say("FETCH $ UID"))[:-1] == [b"* 3 FETCH (UID 3)"]


@pytest.mark.parametrize("command", ["SEARCH RETURN (SAVE) ALL", "SORT RETURN (SAVE) (SIZE) UTF-8 ALL"])
async def test_a_search_that_fails_leaves_nothing_saved(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    talk = await with_mail(harness, *MESSAGES)
    await talk.say("SEARCH RETURN (SAVE) 2")
    monkeypatch.setattr(finding, "SEARCH_SECONDS", 0)

    assert (await talk.say(command))[-1].startswith(b"a NO [LIMIT]")
    assert (await talk.say("FETCH $ UID")) == [b"a OK FETCH completed"]


async def test_a_sort_by_modseq_tells_the_highest_of_those_found(harness: Harness) -> None:
    talk = await with_mail(harness, *MESSAGES)
    await talk.say("STORE 2 +FLAGS (\\Seen)")
    status = await talk.say("STATUS INBOX (HIGHESTMODSEQ)")
    highest = status[-2].partition(b"HIGHESTMODSEQ ")[2].rstrip(b")")

    assert (await talk.say("SORT (SIZE) UTF-8 MODSEQ 1"))[-2] == b"* SORT 4 2 3 1 (MODSEQ %b)" % highest


async def test_no_expunge_is_sent_while_a_sort_uses_sequence_numbers(harness: Harness) -> None:
    talk = await with_mail(harness, *MESSAGES)
    other = await Talk.logged_in(harness, "SELECT INBOX", "STORE 1 +FLAGS (\\Deleted)", "EXPUNGE")

    answers = await talk.say("SORT (SIZE) UTF-8 ALL")
    assert answers[0] == b"* SORT 4 2 3"
    assert answers[-1] == b"a OK [EXPUNGEISSUED] Some messages were expunged"
    assert not any(b"EXPUNGE" in line for line in answers[:-1])
    assert (await talk.say("UID SORT (SIZE) UTF-8 ALL"))[:2] == [b"* SORT 4 2 3", b"* 1 EXPUNGE"]
    assert not other.ended


async def test_a_long_sort_lets_other_tasks_run_after_every_run_of_messages(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "RUN_VALUES", 10)
    monkeypatch.setattr(merging, "RUN_VALUES", 10)
    await fill(harness, 400)
    talk = await Talk.logged_in(harness, "SELECT INBOX")
    session = session_of(talk)
    spent: list[int] = []
    pace_spend = session.pace.spend

    async def spend(units: int) -> None:
        spent.append(units)
        await pace_spend(units)

    monkeypatch.setattr(type(session.pace), "spend", lambda _, units: spend(units))
    await sort(session, Sort((SortTerm(SortKey.FROM, True), SortTerm(SortKey.SUBJECT)), All()), talk)

    assert len(spent) > 2 * 400 / 10
    assert max(spent) <= 2 * merging.RUN_UNITS


async def test_few_sorts_of_many_messages_are_under_way_at_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "LARGE_FROM", 2)
    talk = await with_mail(harness, *MESSAGES)
    large_sorts = session_of(talk).services.large_sorts
    while not large_sorts.locked():
        await large_sorts.acquire()

    waiting = asyncio.ensure_future(talk.say("SORT (SIZE) UTF-8 ALL"))
    small = await (await Talk.logged_in(harness, "SELECT INBOX")).say("SORT (SIZE) UTF-8 1:2")
    assert small[0] == b"* SORT 2 1"
    assert not waiting.done()
    large_sorts.release()
    assert (await waiting)[0] == b"* SORT 4 2 3 1"


@pytest.mark.parametrize("texts", [["a", "ab", "b"], ["", "é", "日"], ["x" * 300, "y"]])
def test_a_reversed_text_sorts_the_other_way_round(texts: list[str]) -> None:
    keys = [text.encode()[: sorting.TEXT_LIMIT_BYTES] for text in texts]

    assert sorted(keys, key=sorting.reverse) == list(reversed(keys))
