from __future__ import annotations

import pytest
from app.backends.imap import transferring
from app.backends.imap.selectable import SelectableMailbox
from app.mail.types import AccountId, MailboxId, Message, MessageId, ThreadId

from tests.unit.backends.imap.scripted import scripted_session, verbs

INBOX = SelectableMailbox("INBOX", 7)


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


def message(uid: int, message_id: str | None, size_bytes: int = 40) -> Message:
    return Message(
        id=MessageId(f"msg_{uid}"),
        account_id=AccountId("acc_1"),
        mailbox_id=MailboxId("mbx_1"),
        uid=uid,
        modseq=0,
        version=0,
        flags=frozenset(),
        received_at_ms=1_751_356_800_000,
        size_bytes=size_bytes,
        thread_id=ThreadId("thr_1"),
        message_id_header=message_id,
        preview=None,
        blob=None,
        summary=b"{}",
    )


def copied(uid: int, message_id: str = "NIL", size_bytes: int = 40, day: int = 1) -> str:
    return (
        f'* {uid} FETCH (UID {uid} INTERNALDATE "{day:02d}-Jul-2025 08:00:00 +0000" RFC822.SIZE {size_bytes} '
        f'ENVELOPE (NIL "Hi" NIL NIL NIL NIL NIL NIL NIL {message_id}))\r\n'
    )


async def test_without_copyuid_the_copies_are_sought_by_message_id() -> None:
    session, server = scripted_session({"UID SEARCH": "* SEARCH 5 8\r\n$ OK done\r\n"})

    transfer = await transferring.copy(session, INBOX, [1, 2], "Archive")
    pairs = await transferring.find_copies(session, "Archive", [message(1, "<a@b>"), message(2, None)], None)

    assert sorted(transfer.unbound) == [1, 2]
    assert transfer.since_uid is None
    assert pairs == {1: 8}
    assert server.told[-1] == 'UID SEARCH HEADER "Message-ID" "<a@b>"'


async def test_without_copyuid_what_came_is_compared_with_what_was_copied() -> None:
    came = copied(7, '"<old@b>"') + copied(8) + copied(9, '"<a@b>"') + copied(10, day=2) + copied(11, size_bytes=50)
    script = {"STATUS": "* STATUS Archive (UIDNEXT 8)\r\n$ OK done\r\n", "UID FETCH 8:*": came + "$ OK done\r\n"}
    session, server = scripted_session(script)
    moved = [message(1, "<a@b>"), message(2, None), message(3, None), message(4, None, 60)]

    transfer = await transferring.move(session, INBOX, [1, 2, 3, 4], "Archive")
    pairs = await transferring.find_copies(session, "Archive", moved, transfer.since_uid)

    assert transfer.since_uid == 8
    assert pairs == {1: 9, 2: 8, 3: 10}
    assert "UID SEARCH" not in " ".join(server.told[-3:])


@pytest.mark.parametrize("code", ["COPYUID 4 1 9999999999", "COPYUID 4 1 2,3", "COPYUID x"])
async def test_copies_at_uids_that_cannot_be_are_looked_for(code: str) -> None:
    seen = "* 1 FETCH (UID 1)\r\n$ OK done\r\n"
    script = {"UID COPY": f"$ OK [{code}] done\r\n", "UID FETCH 1": seen}
    session, _ = scripted_session(script, capabilities="IMAP4rev1 UIDPLUS")

    transfer = await transferring.copy(session, INBOX, [1], "Archive")

    assert not transfer.pairs
    assert not transfer.gone
    assert sorted(transfer.unbound) == [1]


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
