from __future__ import annotations

import pytest
from app.backends.imap import bisected_fetch as apart_module
from app.backends.imap import rows as rows_module
from app.backends.imap.rows import Row, row_items, rows
from app.errors import ServerRefused
from app.mail.types import SEEN
from app.wire.imap.sets import SequenceSet

from tests.unit.backends.imap.scripted import scripted_session

TEXT = '("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "7BIT" 4 1)'
ENVELOPE = '(NIL "Hi" (("Ann" NIL "ann" "b.test")) NIL NIL NIL NIL NIL NIL "<1@b.test>")'


def row(uid: int, envelope: str = ENVELOPE) -> str:
    return (
        f'* {uid} FETCH (UID {uid} FLAGS (\\Seen) INTERNALDATE " 1-Jul-2025 08:00:00 +0000" RFC822.SIZE 40 '
        f"ENVELOPE {envelope} BODYSTRUCTURE {TEXT} BODY[HEADER.FIELDS (REFERENCES)] {{21}}\r\n"
        "References: <a@b>\r\n\r\n)\r\n"
    )


async def rows_of(script: dict[str, str], uids: list[int], capabilities: str = "IMAP4rev1") -> list[Row]:
    session, _ = scripted_session(dict(script), capabilities)
    return [one async for batch in rows(session, "INBOX", uids) for one in batch]


async def test_a_row_says_what_the_list_shows() -> None:
    (one,) = await rows_of({"UID FETCH": row(1) + "$ OK done\r\n"}, [1])

    assert (one.uid, one.received_at_ms, one.size_bytes) == (1, 1_751_356_800_000, 40)
    assert one.flags == frozenset({SEEN})
    assert one.overview.subject == "Hi"
    assert one.overview.references == ("<a@b>",)
    assert one.structure is not None
    assert one.structure.media_type == "text/plain"


async def test_one_broken_answer_costs_that_message_its_structure_and_hides_nothing() -> None:
    plain = (
        '* 2 FETCH (UID 2 FLAGS () INTERNALDATE " 1-Jul-2025 08:00:00 +0000" RFC822.SIZE 9 '
        "BODY[HEADER] {17}\r\nSubject: still\r\n\r\n)\r\n$ OK done\r\n"
    )
    found = await rows_of(
        {
            "UID FETCH": row(1) + row(2, envelope='(NIL "no end') + row(3) + "$ OK done\r\n",
            "UID FETCH 2 ": plain.replace("{17}", "{18}"),
        },
        [1, 2, 3],
    )

    assert [one.overview.subject for one in found] == ["Hi", "still", "Hi"]
    assert found[1].structure is None
    assert found[1].problems


async def test_a_row_told_ahead_of_its_command_is_kept_for_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "ROWS_AT_ONCE", 1)
    answers = {"UID FETCH 1 ": row(1) + row(2) + "$ OK done\r\n", "UID FETCH 2 ": "$ OK done\r\n"}

    assert [one.uid for one in await rows_of(answers, [1, 2])] == [1, 2]


async def test_the_next_batches_are_asked_before_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "ROWS_AT_ONCE", 1)
    session, server = scripted_session({"UID FETCH": lambda command: row(int(command.split()[2])) + "$ OK done\r\n"})

    batches = rows(session, "INBOX", [3, 2, 1])
    first = await anext(batches)

    assert [line.split()[2] for line in server.told if line.startswith("UID FETCH")] == ["3", "2", "1"]
    assert [one.uid for one in first] == [3]
    assert [one.uid async for batch in batches for one in batch] == [2, 1]


@pytest.mark.parametrize(
    ("capabilities", "item", "answer", "origin_id"),
    [
        ("IMAP4rev1 OBJECTID", "EMAILID", "EMAILID (M1)", "M1"),
        ("IMAP4rev1 X-GM-EXT-1", "X-GM-MSGID", "X-GM-MSGID 17", "17"),
    ],
)
async def test_the_origins_own_id_is_kept(capabilities: str, item: str, answer: str, origin_id: str) -> None:
    session, _ = scripted_session(capabilities=capabilities)
    assert item in row_items(session)

    answered = row(1).replace("RFC822.SIZE", f"{answer} RFC822.SIZE")
    (one,) = await rows_of({"UID FETCH": answered + "$ OK done\r\n"}, [1], capabilities)
    assert one.origin_id == origin_id


async def test_a_message_that_cannot_be_read_in_any_form_is_a_row_that_says_so() -> None:
    plain = '* 2 FETCH (UID 2 BODY[HEADER] "no end)\r\n$ OK done\r\n'
    broken = row(2, envelope='(NIL "no end')

    found = await rows_of({"UID FETCH": row(1) + broken + row(3) + "$ OK done\r\n", "UID FETCH 2 ": plain}, [1, 2, 3])

    assert [one.uid for one in found] == [1, 2, 3]
    assert (found[1].unread, found[1].problems) == (rows_module.NO_HEADER, (rows_module.NO_HEADER,))
    assert found[1].received_at_ms == found[0].received_at_ms


@pytest.mark.parametrize("answer", ["NO [SERVERBUG] corrupt", "BAD Command Error. 10"])
async def test_one_message_that_the_server_refuses_costs_the_others_nothing(answer: str) -> None:
    def fetch(command: str) -> str:
        asked = list(SequenceSet.parse(command.split()[2]).numbers(100))
        told = "".join(row(uid) for uid in asked if uid < 5)
        return told + (f"$ {answer}\r\n" if 5 in asked else "".join(map(row, asked)) + "$ OK done\r\n")

    session, server = scripted_session({"UID FETCH": fetch})
    found = [one async for batch in rows(session, "INBOX", range(1, 11)) for one in batch]

    assert [one.uid for one in found] == list(range(1, 11))
    assert [one.uid for one in found if one.unread] == [5]
    assert found[4].problems == (f"{rows_module.NO_MESSAGE}: {answer}",)
    assert len(server.told) < 20


async def test_of_a_message_that_is_refused_what_the_server_does_tell_is_shown() -> None:
    bare = '* 1 FETCH (UID 1 FLAGS (\\Seen) INTERNALDATE "01-Jul-2025 08:00:00 +0000" RFC822.SIZE 9)\r\n$ OK\r\n'

    (one,) = await rows_of(
        {"UID FETCH": "$ NO broken\r\n", "UID FETCH 1 (UID FLAGS INTERNALDATE RFC822.SIZE)": bare}, [1]
    )

    assert (one.flags, one.received_at_ms, one.size_bytes) == (frozenset({SEEN}), 1_751_356_800_000, 9)
    assert one.unread == f"{rows_module.NO_HEADER}: NO broken"


async def test_a_server_that_refuses_every_message_is_an_error_of_the_mailbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart_module, "MAX_REFUSALS", 10)

    with pytest.raises(ServerRefused):
        await rows_of({"UID FETCH": "$ NO broken\r\n"}, list(range(1, 100)))


@pytest.mark.parametrize("second", ["2 FETCH (UID 2 ", "2 FETCH ("])
async def test_items_of_one_message_that_come_in_several_responses_are_put_together(second: str) -> None:
    first, _, rest = row(2).partition(" ENVELOPE ")
    answer = row(1) + first + f")\r\n* {second}ENVELOPE " + rest + "$ OK done\r\n"

    found = await rows_of({"UID FETCH": answer}, [1, 2])

    assert [(one.uid, one.overview.subject, one.problems) for one in found] == [(1, "Hi", ()), (2, "Hi", ())]


async def test_a_message_without_internaldate_came_when_its_date_says() -> None:
    undated = row(1).replace(" 1-Jul-2025 08:00:00 +0000", "00-Jan-0000 00:00:00 +0000")
    dated = undated.replace("(NIL", '("Tue, 1 Jul 2025 08:00:00 +0000"', 1)

    (one,) = await rows_of({"UID FETCH": dated + "$ OK done\r\n"}, [1])

    assert one.received_at_ms == 1_751_356_800_000


async def test_a_message_without_any_date_came_about_when_its_neighbour_did() -> None:
    undated = row(2).replace(" 1-Jul-2025 08:00:00 +0000", "never")

    found = await rows_of({"UID FETCH": row(1) + undated + "$ OK done\r\n"}, [1, 2])

    assert [one.received_at_ms for one in found] == [1_751_356_800_000] * 2


@pytest.mark.parametrize(
    "capabilities", ["IMAP4rev1", "IMAP4rev1 CONDSTORE", "IMAP4rev1 OBJECTID", "IMAP4rev1 X-GM-EXT-1"]
)
async def test_a_message_fetched_the_plain_way_has_the_same_modseq_and_ids(capabilities: str) -> None:
    session, _ = scripted_session({}, capabilities)

    parsed, plain = row_items(session), row_items(session, is_plain=True)

    assert plain == [*(one for one in parsed if one not in rows_module._PARSED), rows_module._HEADER]
    assert ("MODSEQ" in plain) == session.keeps_modseq


async def test_a_message_of_too_many_parts_is_listed_without_its_structure() -> None:
    many = row(2).replace(TEXT, "(" + TEXT * 1_100 + ' "MIXED")')
    plain = (
        '* 2 FETCH (UID 2 FLAGS () INTERNALDATE " 1-Jul-2025 08:00:00 +0000" RFC822.SIZE 9 '
        "BODY[HEADER] {18}\r\nSubject: still\r\n\r\n)\r\n$ OK done\r\n"
    )

    found = await rows_of({"UID FETCH": row(1) + many + "$ OK done\r\n", "UID FETCH 2 ": plain}, [1, 2])

    assert [one.overview.subject for one in found] == ["Hi", "still"]
    assert found[1].structure is None
    assert found[1].problems


async def test_a_message_that_arrives_during_the_fetch_and_is_told_by_its_flags_alone_keeps_its_structure() -> None:
    first = row(1) + "* 2 EXISTS\r\n* 2 FETCH (UID 2 FLAGS ())\r\n$ OK done\r\n"

    found = await rows_of({"UID FETCH 1:50": first, "UID FETCH 2 ": row(2) + "$ OK done\r\n"}, list(range(1, 51)))

    assert [one.uid for one in found] == [1, 2]
    assert [one.structure is not None for one in found] == [True, True]
    assert [one.problems for one in found] == [(), ()]
