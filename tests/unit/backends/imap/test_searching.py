from __future__ import annotations

import pytest
from app.backends.imap import searching
from app.errors import ServerProtocolError

from tests.unit.backends.imap.scripted import scripted_session


async def test_a_mailbox_of_more_messages_than_there_can_be_is_not_believed() -> None:
    session, _ = scripted_session(
        {"UID SEARCH": "* ESEARCH UID ALL 1:4294967295\r\n$ OK done\r\n"}, "IMAP4rev1 ESEARCH"
    )

    with pytest.raises(ServerProtocolError):
        await searching.uids_of(session, "INBOX")
