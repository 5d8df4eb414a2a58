from __future__ import annotations

import pytest
from app.backends.imap import flagging
from app.backends.imap.flagging import StoreCondition
from app.backends.imap.selectable import SelectableMailbox
from app.errors import NotSupported, PreconditionFailed, ServerRefused
from app.mail.types import FLAGGED

from tests.unit.backends.imap.scripted import scripted_session, verbs

INBOX = SelectableMailbox("INBOX", 7)
NONE: frozenset[str] = frozenset()


async def test_a_server_that_tells_no_flags_after_a_change_is_asked_for_them() -> None:
    session, server = scripted_session(
        {"UID STORE": "$ OK done\r\n", "UID FETCH": "* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n$ OK done\r\n"}
    )

    changed = await flagging.store_flags(session, INBOX, [1, 2], add=frozenset({FLAGGED}), remove=NONE, condition=None)

    assert {uid: message.flags for uid, message in changed.items()} == {1: frozenset({FLAGGED})}
    assert verbs(server) == ["SELECT", "STORE", "FETCH"]


@pytest.mark.parametrize(("add", "remove"), [({FLAGGED}, set()), (set(), {"\\Seen"})])
async def test_an_ok_after_which_the_flags_are_as_before_was_no_change(add: set[str], remove: set[str]) -> None:
    session, _ = scripted_session({"UID FETCH": "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n$ OK done\r\n"})

    with pytest.raises(ServerRefused):
        await flagging.store_flags(session, INBOX, [1], add=frozenset(add), remove=frozenset(remove), condition=None)


async def test_flags_of_what_a_selected_mailbox_hides_are_changed_too() -> None:
    session, server = scripted_session({"UID STORE": "$ OK done\r\n"})
    await session.select("INBOX")
    answered = iter(["$ OK done\r\n", "* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n$ OK done\r\n"])
    server.script["UID STORE"] = lambda _: next(answered)

    changed = await flagging.store_flags(session, INBOX, [1], add=frozenset({FLAGGED}), remove=NONE, condition=None)

    assert list(changed) == [1]
    assert verbs(server) == ["SELECT", "STORE", "FETCH", "SELECT", "STORE"]


async def test_a_condition_that_fails_changes_nothing_more() -> None:
    session, server = scripted_session(
        {
            "SELECT": "* OK [UIDVALIDITY 7]\r\n* OK [HIGHESTMODSEQ 9]\r\n$ OK selected\r\n",
            "UID STORE": "$ OK [MODIFIED 1] failed\r\n",
        },
        capabilities="IMAP4rev1 CONDSTORE",
    )

    with pytest.raises(PreconditionFailed):
        await flagging.store_flags(
            session, INBOX, [1], add=frozenset({FLAGGED}), remove=frozenset({"x"}), condition=StoreCondition(5, NONE)
        )

    assert server.told[1:] == ["UID STORE 1 (UNCHANGEDSINCE 5) +FLAGS (\\Flagged)"]


async def test_where_no_modseq_is_kept_the_flags_are_compared_first() -> None:
    session, server = scripted_session({"UID FETCH": "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n$ OK done\r\n"})

    with pytest.raises(PreconditionFailed):
        await flagging.store_flags(
            session, INBOX, [1], add=frozenset({FLAGGED}), remove=NONE, condition=StoreCondition(0, NONE)
        )

    assert verbs(server) == ["SELECT", "FETCH"]


async def test_a_keyword_that_the_mailbox_does_not_keep_is_not_pretended_to_be_set() -> None:
    session, server = scripted_session(
        {"SELECT": "* OK [UIDVALIDITY 7]\r\n* OK [PERMANENTFLAGS (\\Seen)]\r\n$ OK selected\r\n"}
    )

    with pytest.raises(NotSupported):
        await flagging.store_flags(session, INBOX, [1], add=frozenset({"$work"}), remove=NONE, condition=None)

    assert verbs(server) == ["SELECT"]
