from __future__ import annotations

import pytest
from app.backends.imap import removing
from app.backends.imap.selectable import SelectableMailbox
from app.errors import NotSupported, ServerRefused

from tests.unit.backends.imap.scripted import scripted_session, verbs

INBOX = SelectableMailbox("INBOX", 7)


async def test_without_uidplus_nothing_is_removed_while_others_are_marked_as_deleted() -> None:
    session, server = scripted_session({"UID SEARCH": "* SEARCH 1 3\r\n$ OK done\r\n"})

    with pytest.raises(NotSupported):
        await removing.expunge(session, INBOX, [1])

    assert server.told[-1] == "UID STORE 1 -FLAGS.SILENT (\\Deleted)"
    assert "EXPUNGE" not in verbs(server)


async def test_without_uidplus_a_plain_expunge_removes_what_only_we_marked() -> None:
    session, server = scripted_session({"UID SEARCH": "* SEARCH 1\r\n$ OK done\r\n"})

    await removing.expunge(session, INBOX, [1])

    assert server.told[-2:] == ["EXPUNGE", "UID FETCH 1 (UID)"]


async def test_what_is_still_there_after_an_ok_was_not_removed_and_is_marked_no_more() -> None:
    there = "* 4 FETCH (UID 9)\r\n* 1 FETCH (UID 1)\r\n$ OK done\r\n"
    session, server = scripted_session({"UID FETCH": there}, "IMAP4rev1 UIDPLUS")

    with pytest.raises(ServerRefused):
        await removing.expunge(session, INBOX, [1])

    assert verbs(server)[-4:] == ["STORE", "EXPUNGE", "FETCH", "STORE"]
    assert server.told[-1] == "UID STORE 1 -FLAGS.SILENT (\\Deleted)"


async def test_a_removal_that_is_told_is_not_asked_about() -> None:
    session, server = scripted_session({"UID EXPUNGE": "* 1 EXPUNGE\r\n$ OK done\r\n"}, "IMAP4rev1 UIDPLUS")

    await removing.expunge(session, INBOX, [1])

    assert server.told[-1] == "UID EXPUNGE 1"


async def test_another_message_that_is_told_of_meanwhile_was_not_to_be_removed() -> None:
    session, server = scripted_session({"UID FETCH": "* 4 FETCH (UID 9)\r\n$ OK done\r\n"}, "IMAP4rev1 UIDPLUS")

    await removing.expunge(session, INBOX, [1])

    assert server.told[-1] == "UID FETCH 1 (UID)"
