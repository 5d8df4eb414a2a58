from __future__ import annotations

import pytest
from app.backends.imap import flagging, removing, transferring
from app.backends.imap.selectable import SelectableMailbox
from app.errors import MessageNotFound
from app.mail.types import FLAGGED

from tests.unit.backends.imap.scripted import scripted_session, verbs

NONE: frozenset[str] = frozenset()


async def test_a_changed_uidvalidity_stops_every_change() -> None:
    session, server = scripted_session()
    elsewhere = SelectableMailbox("INBOX", 6)

    with pytest.raises(MessageNotFound):
        await flagging.store_flags(session, elsewhere, [1], add=frozenset({FLAGGED}), remove=NONE, condition=None)
    with pytest.raises(MessageNotFound):
        await transferring.move(session, elsewhere, [1], "Archive")
    with pytest.raises(MessageNotFound):
        await removing.expunge(session, elsewhere, [1])

    assert set(verbs(server)) <= {"SELECT", "STATUS"}
