"""The fallbacks for servers that lack an extension."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from app.backends.imap import changing
from app.backends.imap.changing import Place, Unchanged
from app.errors import (
    MailboxNotFound,
    MessageNotFound,
    NotSupported,
    PreconditionFailed,
    ServerProtocolError,
    ServerRefused,
    TooLarge,
)
from app.mail.types import FLAGGED

from tests.unit.backends.imap.scripted import ScriptedServer, scripted_session

INBOX = Place("INBOX", 7)
NONE: frozenset[str] = frozenset()


async def content(data: bytes = b"x") -> AsyncIterator[bytes]:
    yield data


def verbs(server: ScriptedServer) -> list[str]:
    return [line.removeprefix("UID ").split()[0] for line in server.told]


async def test_where_there_is_no_move_messages_are_copied_and_exactly_they_are_removed() -> None:
    session, server = scripted_session(
        {"UID COPY": "$ OK [COPYUID 4 1:2 11:12] done\r\n"}, capabilities="IMAP4rev1 UIDPLUS"
    )

    transfer = await changing.move(session, INBOX, [1, 2], "Archive")

    assert transfer.pairs == {1: 11, 2: 12}
    assert server.told[1:] == [
        'UID COPY 1:2 "Archive"',
        'SELECT "INBOX"',
        "UID STORE 1:2 +FLAGS.SILENT (\\Deleted)",
        "UID EXPUNGE 1:2",
    ]


async def test_without_uidplus_nothing_is_removed_while_others_are_marked_as_deleted() -> None:
    session, server = scripted_session({"UID SEARCH": "* SEARCH 1 3\r\n$ OK done\r\n"})

    with pytest.raises(NotSupported):
        await changing.expunge(session, INBOX, [1])

    assert server.told[-1] == "UID STORE 1 -FLAGS.SILENT (\\Deleted)"
    assert "EXPUNGE" not in verbs(server)


async def test_without_uidplus_a_plain_expunge_removes_what_only_we_marked() -> None:
    session, server = scripted_session({"UID SEARCH": "* SEARCH 1\r\n$ OK done\r\n"})

    await changing.expunge(session, INBOX, [1])

    assert server.told[-1] == "EXPUNGE"


async def test_without_copyuid_the_copies_are_sought_by_message_id() -> None:
    session, server = scripted_session({"UID SEARCH": "* SEARCH 5 8\r\n$ OK done\r\n"})

    transfer = await changing.copy(session, INBOX, [1, 2], "Archive")
    pairs = await changing.find_copies(session, "Archive", {1: "<a@b>", 2: None})

    assert transfer.unbound == {1, 2}
    assert pairs == {1: 8}
    assert server.told[-1] == 'UID SEARCH HEADER "Message-ID" "<a@b>"'


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("$ NO [TRYCREATE] no such mailbox\r\n", MailboxNotFound),
        ("$ NO [NONEXISTENT] gone\r\n", MailboxNotFound),
        ("$ NO [OVERQUOTA] full\r\n", ServerRefused),
        ("$ NO [TOOBIG] too big\r\n", TooLarge),
    ],
)
async def test_a_refused_append_says_why(answer: str, error: type[Exception]) -> None:
    session, _ = scripted_session({"APPEND": answer}, capabilities="IMAP4rev1 UIDPLUS")

    with pytest.raises(error):
        await changing.append(session, "Archive", content(), 1, NONE, None)


async def test_a_message_beyond_the_servers_limit_is_not_sent() -> None:
    session, server = scripted_session(capabilities="IMAP4rev1 APPENDLIMIT=10")

    with pytest.raises(TooLarge):
        await changing.append(session, "INBOX", content(), 11, NONE, None)

    assert server.told == []


async def test_without_uidplus_the_appended_message_is_found_among_the_new_ones() -> None:
    session, _ = scripted_session(
        {
            "APPEND": "$ OK done\r\n",
            "UID FETCH": "* 3 FETCH (UID 9 RFC822.SIZE 1)\r\n* 4 FETCH (UID 10 RFC822.SIZE 2)\r\n"
            "* 5 FETCH (UID 11 RFC822.SIZE 1)\r\n* 6 FETCH (UID 12 RFC822.SIZE 3)\r\n$ OK done\r\n",
        },
        capabilities="IMAP4rev1 LITERAL+",
    )
    assert await changing.append(session, "INBOX", content(), 1, NONE, None) == 11


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        (["Subject: Grü", "ße\r\n\r\nx"], 'APPEND "Archive" UTF8 (~{21+}\r\nSubject: Grüße\r\n\r\nx)'),
        (["Subject: s\r\n", "\r\nü"], 'APPEND "Archive" {16+}\r\nSubject: s\r\n\r\nü'),
    ],
)
async def test_raw_utf8_in_a_header_is_announced_where_the_server_wants_it(message: list[str], sent: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in message:
            yield piece.encode()

    session, server = scripted_session(
        {"APPEND": "$ OK [APPENDUID 4 9] done\r\n"},
        capabilities="IMAP4rev1 UIDPLUS LITERAL+",
        enabled=["UTF8=ACCEPT"],
    )

    uid = await changing.append(session, "Archive", pieces(), len("".join(message).encode()), NONE, None)

    assert uid == 9
    assert sent in server.sent.decode()


async def test_a_changed_uidvalidity_stops_every_change() -> None:
    session, server = scripted_session()
    elsewhere = Place("INBOX", 6)

    with pytest.raises(MessageNotFound):
        await changing.store_flags(session, elsewhere, [1], add=frozenset({FLAGGED}), remove=NONE, condition=None)
    with pytest.raises(MessageNotFound):
        await changing.move(session, elsewhere, [1], "Archive")
    with pytest.raises(MessageNotFound):
        await changing.expunge(session, elsewhere, [1])

    assert set(verbs(server)) == {"SELECT"}


async def test_a_server_that_tells_no_flags_after_a_change_is_asked_for_them() -> None:
    session, server = scripted_session(
        {"UID STORE": "$ OK done\r\n", "UID FETCH": "* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n$ OK done\r\n"}
    )

    changed = await changing.store_flags(session, INBOX, [1, 2], add=frozenset({FLAGGED}), remove=NONE, condition=None)

    assert {uid: message.flags for uid, message in changed.items()} == {1: frozenset({FLAGGED})}
    assert verbs(server) == ["SELECT", "STORE", "FETCH"]


@pytest.mark.parametrize("code", ["COPYUID 4 1 9999999999", "COPYUID 4 1 2,3", "COPYUID x"])
async def test_copies_at_uids_that_cannot_be_are_not_believed(code: str) -> None:
    session, _ = scripted_session({"UID COPY": f"$ OK [{code}] done\r\n"}, capabilities="IMAP4rev1 UIDPLUS")

    with pytest.raises(ServerProtocolError):
        await changing.copy(session, INBOX, [1], "Archive")


async def test_what_a_selected_mailbox_hides_is_looked_for_anew() -> None:
    session, server = scripted_session(
        {
            "UID MOVE 1:2": "* OK [COPYUID 4 1 11] moved\r\n$ OK done\r\n",
            "UID MOVE 2": "* OK [COPYUID 4 2 12] moved\r\n$ OK done\r\n",
        },
        capabilities="IMAP4rev1 UIDPLUS MOVE",
    )
    await session.select("INBOX")

    transfer = await changing.move(session, INBOX, [1, 2], "Archive")

    assert transfer.pairs == {1: 11, 2: 12}
    assert transfer.gone == frozenset()
    assert verbs(server) == ["SELECT", "MOVE", "SELECT", "MOVE"]


async def test_flags_of_what_a_selected_mailbox_hides_are_changed_too() -> None:
    session, server = scripted_session({"UID STORE": "$ OK done\r\n"})
    await session.select("INBOX")
    answered = iter(["$ OK done\r\n", "* 1 FETCH (UID 1 FLAGS (\\Flagged))\r\n$ OK done\r\n"])
    server.script["UID STORE"] = lambda _: next(answered)

    changed = await changing.store_flags(session, INBOX, [1], add=frozenset({FLAGGED}), remove=NONE, condition=None)

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
        await changing.store_flags(
            session, INBOX, [1], add=frozenset({FLAGGED}), remove=frozenset({"x"}), condition=Unchanged(5, NONE)
        )

    assert server.told[1:] == ["UID STORE 1 (UNCHANGEDSINCE 5) +FLAGS (\\Flagged)"]


async def test_where_no_modseq_is_kept_the_flags_are_compared_first() -> None:
    session, server = scripted_session({"UID FETCH": "* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n$ OK done\r\n"})

    with pytest.raises(PreconditionFailed):
        await changing.store_flags(
            session, INBOX, [1], add=frozenset({FLAGGED}), remove=NONE, condition=Unchanged(0, NONE)
        )

    assert verbs(server) == ["SELECT", "FETCH"]


async def test_a_keyword_that_the_mailbox_does_not_keep_is_not_pretended_to_be_set() -> None:
    session, server = scripted_session(
        {"SELECT": "* OK [UIDVALIDITY 7]\r\n* OK [PERMANENTFLAGS (\\Seen)]\r\n$ OK selected\r\n"}
    )

    with pytest.raises(NotSupported):
        await changing.store_flags(session, INBOX, [1], add=frozenset({"$work"}), remove=NONE, condition=None)

    assert verbs(server) == ["SELECT"]
