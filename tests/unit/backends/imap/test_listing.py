from __future__ import annotations

import pytest
from app.backends.imap.listing import USES, list_mailboxes, name_of, path_of, with_numbers
from app.backends.imap.quarantine import QuarantinedMailboxes
from app.errors import InvalidRequest, Unreachable
from app.mail.types import Role

from tests.unit.backends.imap.scripted import scripted_session


@pytest.mark.parametrize(
    ("name", "delimiter", "prefix", "path"),
    [
        ("INBOX", ".", "INBOX.", "INBOX"),
        ("INBOX.Work.Projects", ".", "INBOX.", "Work/Projects"),
        ("Work/Projects", "/", "", "Work/Projects"),
        ("Work.a/b", ".", "", "Work/a\u2215b"),
        ("flat", None, "", "flat"),
        ("Inbox/Sub", "/", "", "INBOX/Sub"),
        ("Inbox", "/", "", "INBOX"),
        ("INBOX.inbox", ".", "INBOX.", "inbox"),
        ("Shared.x", ".", "INBOX.", "Shared/x"),
    ],
)
def test_a_path_reads_the_same_whatever_the_origins_delimiter(
    name: str, delimiter: str | None, prefix: str, path: str
) -> None:
    assert path_of(name, delimiter, prefix) == path


@pytest.mark.parametrize(
    ("path", "delimiter", "prefix", "name"),
    [
        ("Work/Projects", ".", "INBOX.", "INBOX.Work.Projects"),
        ("Work/a\u2215b", ".", "", "Work.a/b"),
        ("inbox", ".", "INBOX.", "INBOX"),
        ("../etc", "/", "", "../etc"),
    ],
)
def test_a_name_is_made_of_a_path(path: str, delimiter: str, prefix: str, name: str) -> None:
    assert name_of(path, delimiter, prefix) == name


@pytest.mark.parametrize(("path", "delimiter"), [("a.b", "."), ("a//b", "/"), ("", "/"), ("a/b", None)])
def test_a_path_that_would_be_another_place_on_the_origin_is_refused(path: str, delimiter: str | None) -> None:
    with pytest.raises(InvalidRequest):
        name_of(path, delimiter, "")


def test_uses_are_spelled_as_the_rfc_does() -> None:
    assert USES[Role.SENT] == "\\Sent"


async def test_one_command_lists_all_where_the_server_can() -> None:
    session, server = scripted_session(
        {
            "LIST": '* LIST (\\Subscribed \\HasNoChildren) "/" INBOX\r\n'
            "* STATUS INBOX (MESSAGES 3 UIDNEXT 9 UIDVALIDITY 7 UNSEEN 1)\r\n"
            '* LIST (\\Sent) "/" Outgoing\r\n'
            '* LIST (\\Noselect) "/" Top\r\n'
            '* LIST (\\NonExistent \\Subscribed) "/" Gone\r\n$ OK done\r\n'
        },
        "IMAP4rev1 LIST-EXTENDED LIST-STATUS SPECIAL-USE",
    )

    found = {one.path: one for one in await list_mailboxes(session)}

    assert server.told == [
        'LIST "" "*" RETURN (SUBSCRIBED CHILDREN SPECIAL-USE STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN))'
    ]
    assert set(found) == {"INBOX", "Outgoing", "Top"}
    inbox = found["INBOX"]
    assert (inbox.role, inbox.total, inbox.uid_next, inbox.uid_validity, inbox.unread) == (Role.INBOX, 3, 9, 7, 1)
    assert inbox.is_subscribed
    assert (found["Outgoing"].role, found["Outgoing"].is_subscribed) == (Role.SENT, False)
    assert not found["Top"].is_selectable


async def test_ids_are_asked_for_along_with_the_list_and_those_that_are_none_are_not_believed() -> None:
    plain, ids = (
        '* LIST () "/" {0}\r\n* STATUS {0} (UIDVALIDITY 7)\r\n',
        "* STATUS {} (UIDVALIDITY {} MAILBOXID ({}))\r\n",
    )
    session, server = scripted_session(
        {
            'LIST "" "*" RETURN (SUBSCRIBED': "".join(map(plain.format, ("INBOX", "a", "b", "c"))) + "$ OK done\r\n",
            'LIST "" "*" RETURN (STATUS': ids.format("INBOX", 7, "F1-_")
            + ids.format("a", 7, "17")
            + ids.format("b", 8, "F2")
            + ids.format("c", 7, "\x85\xfb;")
            + "$ OK done\r\n",
        },
        "IMAP4rev1 LIST-EXTENDED LIST-STATUS OBJECTID",
    )

    found = {one.path: one.origin_id for one in await list_mailboxes(session, with_ids=True)}

    assert server.told[1:] == ['LIST "" "*" RETURN (STATUS (MAILBOXID UIDVALIDITY))']
    assert found == {"INBOX": "F1-_", "a": "17", "b": None, "c": None}


@pytest.mark.parametrize(("capabilities", "with_ids"), [("", True), (" OBJECTID", False)])
async def test_ids_are_not_asked_for_where_the_server_has_none_or_none_are_wanted(
    capabilities: str, with_ids: bool
) -> None:
    session, server = scripted_session(
        {"LIST": '* LIST () "/" INBOX\r\n$ OK done\r\n'}, f"IMAP4rev1 LIST-EXTENDED LIST-STATUS{capabilities}"
    )

    await list_mailboxes(session, with_ids=with_ids)

    assert len(server.told) == 1
    assert "MAILBOXID" not in server.told[0]


async def test_list_lsub_and_status_do_where_the_server_has_no_list_status() -> None:
    session, server = scripted_session(
        {
            "LIST": '* LIST () "." INBOX\r\n* LIST () "." INBOX.Trash\r\n* LIST (\\Noselect) "." INBOX.x\r\n$ OK\r\n',
            "LSUB": '* LSUB () "." INBOX.Trash\r\n$ OK done\r\n',
            'STATUS "INBOX" ': "* STATUS INBOX (MESSAGES 3 UIDNEXT 9 UIDVALIDITY 7 UNSEEN 1)\r\n$ OK done\r\n",
            'STATUS "INBOX.Trash"': "$ NO not now\r\n",
        }
    )
    session.prefix = "INBOX."

    found = {one.path: one for one in await list_mailboxes(session)}

    assert [line.split()[0] for line in server.told] == ["LIST", "LSUB", "STATUS", "STATUS"]
    assert found["INBOX"].total == 3
    assert found["INBOX"].is_subscribed
    assert (found["Trash"].role, found["Trash"].total, found["Trash"].is_subscribed) == (Role.TRASH, None, True)
    assert not found["x"].is_subscribed


async def test_a_mailbox_of_courier_is_opened_once_before_its_uidvalidity_is_believed() -> None:
    """Courier 5.0 tells the time of day as the UIDVALIDITY of a mailbox that was never opened."""
    session, server = scripted_session(
        {
            "LIST": '* LIST (\\HasNoChildren) "." "INBOX.Sent"\r\n$ OK LIST completed\r\n',
            "STATUS": '* STATUS "INBOX.Sent" (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 795517226 UNSEEN 0)\r\n'
            "$ OK STATUS Completed.\r\n",
            "SELECT": "* 0 EXISTS\r\n* OK [UIDVALIDITY 795517226] Ok\r\n$ OK [READ-WRITE] Ok\r\n",
        },
        "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE IDLE",
        greeting="Courier-IMAP ready. Copyright 1998-2019 Double Precision, Inc.",
    )

    await list_mailboxes(session)
    _, sent = await list_mailboxes(session)

    assert sent.uid_next == 1
    told = " ".join(line.split()[0] for line in server.told)
    assert told == "LIST LSUB SELECT SELECT STATUS STATUS LIST LSUB STATUS STATUS"


async def test_a_mailbox_whose_name_the_index_cannot_hold_is_left_out_alone() -> None:
    names = ("INBOX", "x" * 2_001, "caf\u00e9" * 500, "Work")
    listed = "".join(f'* LIST () "/" {{{len(name.encode())}}}\r\n{name}\r\n' for name in names)
    script = {"LIST": listed + "$ OK done\r\n", "LSUB": "$ OK done\r\n", "STATUS": "$ OK done\r\n"}
    session, _ = scripted_session(script, "IMAP4rev1 UTF8=ACCEPT")

    found = await list_mailboxes(session)

    assert [one.origin_name for one in found] == ["INBOX", "Work"]


async def test_inbox_is_among_the_mailboxes_though_the_list_lacks_it() -> None:
    status = "* STATUS INBOX (MESSAGES 3 UIDNEXT 9 UIDVALIDITY 7 UNSEEN 1)\r\n$ OK done\r\n"
    session, _ = scripted_session({"LIST": "$ OK done\r\n", "STATUS": status})

    (inbox,) = await list_mailboxes(session)

    assert (inbox.role, inbox.path, inbox.total) == (Role.INBOX, "INBOX", 3)


async def test_a_list_with_status_that_is_refused_is_asked_for_in_parts() -> None:
    def listed(command: str) -> str:
        return "$ BAD no\r\n" if "RETURN" in command else '* LIST () "/" INBOX\r\n* LIST () "/" Work\r\n$ OK done\r\n'

    session, _ = scripted_session({"LIST": listed}, "IMAP4rev1 LIST-EXTENDED LIST-STATUS")

    assert [one.path for one in await list_mailboxes(session)] == ["INBOX", "Work"]


@pytest.mark.parametrize("told", ["Work ", '"WORK"', "{4}\r\nwork"])
async def test_the_answer_to_status_counts_however_the_server_spells_the_name(told: str) -> None:
    status = f"* STATUS {told} (MESSAGES 3 UIDNEXT 9 UIDVALIDITY 7 UNSEEN 1)\r\n$ OK done\r\n"
    script = {"LIST": '* LIST () "/" Work\r\n$ OK done\r\n', "STATUS": "$ NO no\r\n", 'STATUS "Work"': status}
    session, _ = scripted_session(script)

    _, work = await list_mailboxes(session)

    assert work.total == 3


async def test_what_status_does_not_tell_is_told_by_select() -> None:
    script = {
        "LIST": '* LIST () "/" INBOX\r\n* LIST () "/" Work\r\n* LIST () "/" Gone\r\n$ OK done\r\n',
        "STATUS": "$ NO no\r\n",
        "SELECT": "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] valid\r\n$ OK [READ-WRITE] selected\r\n",
        'SELECT "Gone"': "$ NO no\r\n",
        "UID FETCH *": "* 3 FETCH (UID 41)\r\n$ OK done\r\n",
    }
    session, _ = scripted_session(script)

    found = await with_numbers(session, await list_mailboxes(session))

    assert [(one.path, one.total, one.uid_next, one.uid_validity) for one in found] == [
        ("INBOX", 3, 42, 7),
        ("Work", 3, 42, 7),
        ("Gone", None, None, None),
    ]


async def test_a_mailbox_whose_status_ends_the_connection_is_asked_about_alone_and_then_no_more() -> None:
    avoided = QuarantinedMailboxes()
    lost: list[Unreachable] = []
    while len(lost) < 5:
        script = {
            "LIST": '* LIST () "/" INBOX\r\n* LIST () "/" Bad\r\n* LIST () "/" Work\r\n$ OK done\r\n',
            "STATUS": "$ NO no\r\n",
            'STATUS "Work"': "* STATUS Work (MESSAGES 3 UIDNEXT 9 UIDVALIDITY 7 UNSEEN 1)\r\n$ OK done\r\n",
            'STATUS "Bad"': "* BYE crashed\r\n",
        }
        session, _ = scripted_session(script)
        session.avoided = avoided
        try:
            found = await list_mailboxes(session)
            break
        except Unreachable as error:
            lost.append(error)

    assert len(lost) == 2
    assert [(one.path, one.total) for one in found] == [("INBOX", None), ("Bad", None), ("Work", 3)]
