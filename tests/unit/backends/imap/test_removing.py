from __future__ import annotations

import pytest
from app.backends.imap import removing
from app.backends.imap.place import Place
from app.errors import NotSupported

from tests.unit.backends.imap.scripted import scripted_session, verbs

INBOX = Place("INBOX", 7)


async def test_without_uidplus_nothing_is_removed_while_others_are_marked_as_deleted() -> None:
    session, server = scripted_session({"UID SEARCH": "* SEARCH 1 3\r\n$ OK done\r\n"})

    with pytest.raises(NotSupported):
        await removing.expunge(session, INBOX, [1])

    assert server.told[-1] == "UID STORE 1 -FLAGS.SILENT (\\Deleted)"
    assert "EXPUNGE" not in verbs(server)


async def test_without_uidplus_a_plain_expunge_removes_what_only_we_marked() -> None:
    session, server = scripted_session({"UID SEARCH": "* SEARCH 1\r\n$ OK done\r\n"})

    await removing.expunge(session, INBOX, [1])

    assert server.told[-1] == "EXPUNGE"
