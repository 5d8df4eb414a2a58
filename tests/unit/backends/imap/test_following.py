from __future__ import annotations

import tracemalloc

import pytest
from app.backends.imap import following
from app.errors import ServerProtocolError
from app.mail.delta import UNTOLD, Known
from app.mail.types import SEEN
from app.wire.imap.commands import KnownState
from app.wire.imap.framing import Response

from tests.unit.backends.imap.scripted import scripted_session


async def test_qresync_tells_all_changes_in_one_round_trip() -> None:
    session, server = scripted_session(
        {
            "SELECT": "* OK [UIDVALIDITY 7]\r\n* OK [UIDNEXT 10]\r\n* OK [HIGHESTMODSEQ 9]\r\n"
            "* VANISHED (EARLIER) 3:4\r\n* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (8))\r\n$ OK selected\r\n"
        },
        enabled=["QRESYNC"],
    )

    since = await following.changes_since(session, "INBOX", KnownState(7, 5))

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

    since = await following.changes_since(session, "INBOX", KnownState(7, 5))

    assert server.told[-1] == "UID FETCH 1:* (UID FLAGS MODSEQ) (CHANGEDSINCE 5)"
    assert since.vanished is None


async def test_without_modseq_all_flags_are_read() -> None:
    session, server = scripted_session(
        {
            "UID SEARCH": "* SEARCH 1 2\r\n$ OK\r\n",
            "UID FETCH": "* 1 FETCH (UID 1 FLAGS ())\r\n* 2 FETCH (UID 2 FLAGS ())\r\n$ OK done\r\n",
        }
    )

    since = await following.changes_since(session, "INBOX", KnownState(7, 0))

    assert server.told[-1] == "UID FETCH 1:2 (UID FLAGS)"
    assert since.vanished is None


@pytest.mark.parametrize("answer", ["", "* 2 FETCH (UID 2 FLAGS\r\n"], ids=["omitted", "broken"])
async def test_a_message_that_is_found_and_whose_flags_are_not_returned_is_there(answer: str) -> None:
    session, _ = scripted_session(
        {
            "UID SEARCH": "* SEARCH 1 2\r\n$ OK\r\n",
            "UID FETCH": f"* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n{answer}$ OK done\r\n",
        }
    )

    found = await following.all_flags(session, "INBOX")

    assert dict(found) == {1: Known(frozenset({"\\Seen"})), 2: Known(UNTOLD)}


async def test_a_message_that_is_gone_before_its_flags_are_read_is_not_there() -> None:
    def search(command: str) -> str:
        return "* SEARCH 1 2\r\n$ OK\r\n" if "UID" not in command.removeprefix("UID ") else "* SEARCH\r\n$ OK\r\n"

    session, _ = scripted_session({"UID SEARCH": search, "UID FETCH": "* 1 FETCH (UID 1 FLAGS ())\r\n$ OK done\r\n"})

    assert list(await following.all_flags(session, "INBOX")) == [1]


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

    since = await following.changes_since(session, "INBOX", KnownState(795517226, 0))

    assert since.selected.uid_next == 8


async def test_a_vanished_set_beyond_all_measure_is_not_expanded() -> None:
    session, _ = scripted_session(
        {"SELECT": "* OK [UIDVALIDITY 7]\r\n* VANISHED (EARLIER) 1:4294967295\r\n$ OK selected\r\n"},
        enabled=["QRESYNC"],
    )

    assert (await following.changes_since(session, "INBOX", KnownState(7, 5))).vanished is None


def flags_response(uid: int, flags: str) -> Response:
    return Response((f"* {uid} FETCH (UID {uid} FLAGS ({flags}) MODSEQ ({uid}))".encode(),))


@pytest.mark.slow
def test_flags_of_twenty_thousand_messages_are_noted_in_half_a_megabyte() -> None:
    reader = following.FlagReader()
    tracemalloc.start()
    try:
        for uid in range(1, 20_001):
            assert reader.take(flags_response(uid, "\\Seen" if uid % 2 else "\\Seen \\Flagged"))
        size = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(reader.check()) == 20_000
    assert size < 600_000


def test_flags_that_come_in_any_order_and_twice_are_the_last_that_came() -> None:
    reader = following.FlagReader()
    for uid, flags in ((9, "a"), (3, "b"), (9, "c"), (5, "")):
        reader.take(flags_response(uid, flags))
    reader.take(Response((b"* 1 FETCH (UID 3 MODSEQ (12))",)))

    assert {uid: set(one.flags) for uid, one in reader.check().items()} == {3: {"b"}, 5: set(), 9: {"c"}}
    assert list(reader.flags) == [3, 5, 9]


def test_a_response_that_cannot_be_read_is_told_when_the_others_have_come() -> None:
    reader = following.FlagReader()
    assert reader.take(Response((b"* 1 FETCH (UID 1 FLAGS (\\Seen",)))
    reader.take(flags_response(2, ""))
    assert not reader.take(Response((b"* OK [HIGHESTMODSEQ 9]",)))

    with pytest.raises(ServerProtocolError):
        reader.check()


def test_no_end_of_different_flags_is_refused() -> None:
    reader = following.FlagReader()
    keyword = "k" * 60_000

    def flood() -> None:
        for uid in range(1, 3_000):
            reader.take(flags_response(uid, f"{keyword}{uid}"))

    with pytest.raises(ServerProtocolError):
        flood()


async def test_scattered_removals_are_read_though_their_line_is_long() -> None:
    gone = range(1_000_000, 1_100_000, 2)
    written = ",".join(map(str, gone))
    session, _ = scripted_session(
        {
            "SELECT": "* OK [UIDVALIDITY 7]\r\n* OK [UIDNEXT 2000000]\r\n* OK [HIGHESTMODSEQ 9]\r\n"
            f"* VANISHED (EARLIER) {written}\r\n$ OK selected\r\n"
        },
        enabled=["QRESYNC"],
    )

    since = await following.changes_since(session, "INBOX", KnownState(7, 5))

    assert since.vanished == frozenset(gone)
