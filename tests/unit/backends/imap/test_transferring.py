from __future__ import annotations

import pytest
from app.backends.imap import transferring
from app.backends.imap.place import Place
from app.errors import ServerProtocolError

from tests.unit.backends.imap.scripted import scripted_session, verbs

INBOX = Place("INBOX", 7)


async def test_where_there_is_no_move_messages_are_copied_and_exactly_they_are_removed() -> None:
    session, server = scripted_session(
        {"UID COPY": "$ OK [COPYUID 4 1:2 11:12] done\r\n"}, capabilities="IMAP4rev1 UIDPLUS"
    )

    transfer = await transferring.move(session, INBOX, [1, 2], "Archive")

    assert transfer.pairs == {1: 11, 2: 12}
    assert server.told[1:] == [
        'UID COPY 1:2 "Archive"',
        'SELECT "INBOX"',
        "UID STORE 1:2 +FLAGS.SILENT (\\Deleted)",
        "UID EXPUNGE 1:2",
        "UID FETCH 1:2 (UID)",
    ]


async def test_without_copyuid_the_copies_are_sought_by_message_id() -> None:
    session, server = scripted_session({"UID SEARCH": "* SEARCH 5 8\r\n$ OK done\r\n"})

    transfer = await transferring.copy(session, INBOX, [1, 2], "Archive")
    pairs = await transferring.find_copies(session, "Archive", {1: "<a@b>", 2: None})

    assert transfer.unbound == {1, 2}
    assert pairs == {1: 8}
    assert server.told[-1] == 'UID SEARCH HEADER "Message-ID" "<a@b>"'


@pytest.mark.parametrize("code", ["COPYUID 4 1 9999999999", "COPYUID 4 1 2,3", "COPYUID x"])
async def test_copies_at_uids_that_cannot_be_are_not_believed(code: str) -> None:
    session, _ = scripted_session({"UID COPY": f"$ OK [{code}] done\r\n"}, capabilities="IMAP4rev1 UIDPLUS")

    with pytest.raises(ServerProtocolError):
        await transferring.copy(session, INBOX, [1], "Archive")


async def test_what_a_selected_mailbox_hides_is_looked_for_anew() -> None:
    session, server = scripted_session(
        {
            "UID MOVE 1:2": "* OK [COPYUID 4 1 11] moved\r\n$ OK done\r\n",
            "UID MOVE 2": "* OK [COPYUID 4 2 12] moved\r\n$ OK done\r\n",
        },
        capabilities="IMAP4rev1 UIDPLUS MOVE",
    )
    await session.select("INBOX")

    transfer = await transferring.move(session, INBOX, [1, 2], "Archive")

    assert transfer.pairs == {1: 11, 2: 12}
    assert transfer.gone == frozenset()
    assert verbs(server) == ["SELECT", "MOVE", "SELECT", "MOVE"]
