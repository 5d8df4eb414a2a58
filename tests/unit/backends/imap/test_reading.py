from __future__ import annotations

import pytest
from app.backends.imap import reading
from app.errors import PartNotFound, ServerProtocolError
from app.mail.types import SEEN
from app.wire.imap.commands import KnownState

from tests.unit.backends.imap.scripted import scripted_session

TEXT = '("TEXT" "PLAIN" ("CHARSET" "utf-8") NIL NIL "7BIT" 4 1)'
ENVELOPE = '(NIL "Hi" (("Ann" NIL "ann" "b.test")) NIL NIL NIL NIL NIL NIL "<1@b.test>")'


def row(uid: int, envelope: str = ENVELOPE) -> str:
    return (
        f'* {uid} FETCH (UID {uid} FLAGS (\\Seen) INTERNALDATE " 1-Jul-2025 08:00:00 +0000" RFC822.SIZE 40 '
        f"ENVELOPE {envelope} BODYSTRUCTURE {TEXT} BODY[HEADER.FIELDS (REFERENCES)] {{21}}\r\n"
        "References: <a@b>\r\n\r\n)\r\n"
    )


async def rows_of(script: dict[str, str], uids: list[int], capabilities: str = "IMAP4rev1") -> list[reading.Row]:
    session, _ = scripted_session(dict(script), capabilities)
    return [one async for batch in reading.rows(session, "INBOX", uids) for one in batch]


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
    monkeypatch.setattr(reading, "ROWS_AT_ONCE", 1)
    answers = {"UID FETCH 1 ": row(1) + row(2) + "$ OK done\r\n", "UID FETCH 2 ": "$ OK done\r\n"}

    assert [one.uid for one in await rows_of(answers, [1, 2])] == [1, 2]


async def test_the_next_batches_are_asked_before_one_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ROWS_AT_ONCE", 1)
    session, server = scripted_session({"UID FETCH": lambda command: row(int(command.split()[2])) + "$ OK done\r\n"})

    batches = reading.rows(session, "INBOX", [3, 2, 1])
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
    assert item in reading.row_items(session)

    answered = row(1).replace("RFC822.SIZE", f"{answer} RFC822.SIZE")
    (one,) = await rows_of({"UID FETCH": answered + "$ OK done\r\n"}, [1], capabilities)
    assert one.origin_id == origin_id


async def test_qresync_tells_all_changes_in_one_round_trip() -> None:
    session, server = scripted_session(
        {
            "SELECT": "* OK [UIDVALIDITY 7]\r\n* OK [UIDNEXT 10]\r\n* OK [HIGHESTMODSEQ 9]\r\n"
            "* VANISHED (EARLIER) 3:4\r\n* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (8))\r\n$ OK selected\r\n"
        },
        enabled=["QRESYNC"],
    )

    since = await reading.changes_since(session, "INBOX", KnownState(7, 5))

    assert len(server.told) == 1
    assert since.vanished == frozenset({3, 4})
    assert since.flags[1].flags == frozenset({SEEN})
    assert (since.selected.uid_next, since.selected.highest_modseq) == (10, 9)


async def test_condstore_tells_flags_and_leaves_removals_to_be_compared() -> None:
    session, server = scripted_session(
        {
            "SELECT": "* OK [UIDVALIDITY 7]\r\n* OK [HIGHESTMODSEQ 9]\r\n$ OK selected\r\n",
            "UID FETCH": "* 1 FETCH (UID 1 FLAGS () MODSEQ (8))\r\n$ OK done\r\n",
        },
        "IMAP4rev1 CONDSTORE",
    )

    since = await reading.changes_since(session, "INBOX", KnownState(7, 5))

    assert server.told[-1] == "UID FETCH 1:* (UID FLAGS MODSEQ) (CHANGEDSINCE 5)"
    assert since.vanished is None


async def test_without_modseq_all_flags_are_read() -> None:
    session, server = scripted_session(
        {"UID SEARCH": "* SEARCH 1 2\r\n$ OK\r\n", "UID FETCH": "* 1 FETCH (UID 1 FLAGS ())\r\n$ OK done\r\n"}
    )

    since = await reading.changes_since(session, "INBOX", KnownState(7, 0))

    assert server.told[-1] == "UID FETCH 1:2 (UID FLAGS)"
    assert since.vanished is None


async def test_a_select_that_tells_no_uidnext_leaves_it_to_what_is_there() -> None:
    """Courier 5.0's SELECT."""
    session, _ = scripted_session(
        {
            "SELECT": "* 2 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 795517226] Ok\r\n$ OK [READ-WRITE] Ok\r\n",
            "UID SEARCH": "* SEARCH 3 7\r\n$ OK SEARCH done.\r\n",
            "UID FETCH": "* 1 FETCH (UID 3 FLAGS ())\r\n* 2 FETCH (UID 7 FLAGS ())\r\n$ OK FETCH completed.\r\n",
        },
        "IMAP4rev1 UIDPLUS",
    )

    since = await reading.changes_since(session, "INBOX", KnownState(795517226, 0))

    assert since.selected.uid_next == 8


async def test_a_vanished_set_beyond_all_measure_is_not_expanded() -> None:
    session, _ = scripted_session(
        {"SELECT": "* OK [UIDVALIDITY 7]\r\n* VANISHED (EARLIER) 1:4294967295\r\n$ OK selected\r\n"},
        enabled=["QRESYNC"],
    )

    assert (await reading.changes_since(session, "INBOX", KnownState(7, 5))).vanished is None


async def test_a_mailbox_of_more_messages_than_there_can_be_is_not_believed() -> None:
    session, _ = scripted_session(
        {"UID SEARCH": "* ESEARCH UID ALL 1:4294967295\r\n$ OK done\r\n"}, "IMAP4rev1 ESEARCH"
    )

    with pytest.raises(ServerProtocolError):
        await reading.uids_of(session, "INBOX")


async def test_previews_without_preview_come_from_the_first_text_part() -> None:
    mixed = f'({TEXT} ("TEXT" "HTML" NIL NIL NIL "7BIT" 9 1) "ALTERNATIVE")'
    session, server = scripted_session(
        {
            "UID FETCH 1:2 (UID BODYSTRUCTURE)": f"* 1 FETCH (UID 1 BODYSTRUCTURE {mixed})\r\n"
            '* 2 FETCH (UID 2 BODYSTRUCTURE ("IMAGE" "PNG" NIL NIL NIL "BASE64" 4))\r\n$ OK done\r\n',
            "UID FETCH 1 (UID BODY.PEEK[1]": '* 1 FETCH (UID 1 BODY[1]<0> "Dear\r\n'.replace("\r\n", " ")
            + 'you")\r\n$ OK done\r\n',
        }
    )

    assert await reading.previews_of(session, "INBOX", [1, 2]) == {1: "Dear you", 2: ""}
    assert server.told[-1] == "UID FETCH 1 (UID BODY.PEEK[1]<0.4096>)"


async def test_a_preview_that_the_server_does_not_have_comes_from_the_first_text_part() -> None:
    session, _ = scripted_session(
        {
            "UID FETCH 1:2 (UID PREVIEW)": '* 1 FETCH (UID 1 PREVIEW "Dear you")\r\n* 2 FETCH (UID 2 PREVIEW NIL)\r\n'
            "$ OK done\r\n",
            "UID FETCH 2 (UID BODYSTRUCTURE)": f"* 2 FETCH (UID 2 BODYSTRUCTURE {TEXT})\r\n$ OK done\r\n",
            "UID FETCH 2 (UID BODY.PEEK[1]": '* 2 FETCH (UID 2 BODY[1]<0> "Hello")\r\n$ OK done\r\n',
        },
        "IMAP4rev1 PREVIEW",
    )

    assert await reading.previews_of(session, "INBOX", [1, 2]) == {1: "Dear you", 2: "Hello"}


async def test_an_empty_part_is_told_from_one_that_is_not_there() -> None:
    session, _ = scripted_session({"UID FETCH": f"* 1 FETCH (UID 1 BODYSTRUCTURE {TEXT})\r\n$ OK done\r\n"})

    await reading.check_part(session, "INBOX", 1, "1")
    with pytest.raises(PartNotFound):
        await reading.check_part(session, "INBOX", 1, "2")
