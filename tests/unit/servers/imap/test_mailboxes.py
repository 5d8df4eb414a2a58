"""LIST, STATUS, CREATE, DELETE, RENAME, SUBSCRIBE and NOTIFY, as lines."""

from __future__ import annotations

import re

import pytest
from app.mail.types import AccountId

from tests.harness import Harness
from tests.imap_harness import mail
from tests.unit.servers.imap.talk import USER, Talk


async def deliver(harness: Harness, path: str = "INBOX") -> AccountId:
    account_id = (await harness.logins.verify(USER, "secret", address="127.0.0.1")).account_id
    mailbox = await harness.mailbox(account_id, path)
    await harness.store.add(account_id, mailbox.id, [(await harness.store.keep(mail("Hello")), frozenset(), None)])
    return account_id


async def listed(talk: Talk, command: str) -> list[str]:
    """The answers of a LIST without their `* LIST `, and the LIST's own end checked."""
    *lines, done = await talk.say(command)
    assert done.startswith(b"a OK"), done
    return [line.decode().removeprefix("* LIST ") for line in lines]


async def test_everyone_has_the_mailboxes_that_programs_look_for(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)

    assert await listed(talk, 'LIST "" *') == [
        '(\\HasNoChildren \\Archive) "/" "Archive"',
        '(\\HasNoChildren \\Drafts) "/" "Drafts"',
        '(\\HasNoChildren) "/" "INBOX"',
        '(\\HasNoChildren \\Junk) "/" "Junk"',
        '(\\HasNoChildren \\Sent) "/" "Sent"',
        '(\\HasNoChildren \\Trash) "/" "Trash"',
    ]


async def test_names_travel_in_modified_utf7(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "CREATE Gr&APwA3w-e", "CREATE R&-D")

    assert '(\\HasNoChildren) "/" "Gr&APwA3w-e"' in await listed(talk, 'LIST "" *')
    assert await listed(talk, 'LIST "" R&-D') == ['(\\HasNoChildren) "/" "R&-D"']
    account_id = (await harness.logins.verify(USER, "secret", address="")).account_id
    assert (await harness.mailbox(account_id, "Gr\u00fc\u00dfe")).path == "Gr\u00fc\u00dfe"


async def test_list_tells_of_children_subscriptions_and_status(harness: Harness) -> None:
    await deliver(harness)
    talk = await Talk.logged_in(harness, "CREATE Work/2024/May", "SUBSCRIBE Work", "SUBSCRIBE Work/2024/May")

    assert await listed(talk, 'LIST "" (Work Work/%) RETURN (CHILDREN SUBSCRIBED)') == [
        '(\\HasChildren \\Subscribed) "/" "Work"',
        '(\\HasChildren) "/" "Work/2024"',
    ]
    assert await listed(talk, 'LIST (SUBSCRIBED) "" Work/*') == ['(\\HasNoChildren \\Subscribed) "/" "Work/2024/May"']
    assert await listed(talk, 'LIST (SUBSCRIBED RECURSIVEMATCH) "Work/" %') == [
        '(\\HasChildren) "/" "Work/2024" ("CHILDINFO" ("SUBSCRIBED"))'
    ]
    assert await listed(talk, 'LIST (SPECIAL-USE) "" T*') == ['(\\HasNoChildren \\Trash) "/" "Trash"']
    assert (await listed(talk, 'LIST "" INBOX RETURN (STATUS (MESSAGES UNSEEN))'))[1:] == [
        '* STATUS "INBOX" (MESSAGES 1 UNSEEN 1)'
    ]
    assert await listed(talk, 'LIST "" ""') == ['(\\Noselect) "/" ""']


async def test_nobody_is_subscribed_to_what_a_program_made_before_it_says_so(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "CREATE Work")

    assert await talk.say('LSUB "" Work') == [b"a OK LSUB completed"]
    await talk.say("SUBSCRIBE Work")
    assert await talk.say('LSUB "" Work') == [b'* LSUB () "/" "Work"', b"a OK LSUB completed"]


async def test_lsub_names_what_stands_between_only_where_the_rest_is_not_told(harness: Harness) -> None:
    """RFC 3501 §6.3.9"""
    talk = await Talk.logged_in(harness, "CREATE Work/May", "SUBSCRIBE Work/May")

    assert (await talk.say('LSUB "" W%'))[:-1] == [b'* LSUB (\\Noselect) "/" "Work"']
    assert (await talk.say('LSUB "" W*'))[:-1] == [b'* LSUB () "/" "Work/May"']
    assert (await talk.say('LIST (SUBSCRIBED RECURSIVEMATCH) "" (Work Work/May)'))[:-1] == [
        b'* LIST (\\HasNoChildren \\Subscribed) "/" "Work/May"'
    ]


async def test_a_subscription_needs_no_mailbox_and_outlives_it(harness: Harness) -> None:
    """RFC 9051 §6.3.7: a name is subscribed to, and stays so when its mailbox goes."""
    talk = await Talk.logged_in(harness, "SUBSCRIBE Later/May", "CREATE Work", "SUBSCRIBE Work", "DELETE Work")

    assert await listed(talk, 'LIST (SUBSCRIBED) "" (L* W*)') == [
        '(\\NonExistent \\Subscribed) "/" "Later/May"',
        '(\\NonExistent \\Subscribed) "/" "Work"',
    ]
    assert await listed(talk, 'LIST (SUBSCRIBED RECURSIVEMATCH) "" L%') == [
        '(\\NonExistent) "/" "Later" ("CHILDINFO" ("SUBSCRIBED"))'
    ]
    assert await listed(talk, 'LIST "" (L* W*)') == []

    await talk.say("CREATE Work")
    assert await listed(talk, 'LIST (SUBSCRIBED) "" W*') == ['(\\HasNoChildren \\Subscribed) "/" "Work"']
    await talk.say("CREATE Jobs/April")
    await talk.say("RENAME Jobs Later")
    await talk.say("RENAME Later/April Later/May")
    assert await listed(talk, 'LIST (SUBSCRIBED) "" L*') == ['(\\HasNoChildren \\Subscribed) "/" "Later/May"']

    for name in ("Later/May", "Work", "Never"):
        assert await talk.say(f"UNSUBSCRIBE {name}") == [b"a OK UNSUBSCRIBE completed"]
    assert await listed(talk, 'LIST (SUBSCRIBED) "" (L* W*)') == []


async def test_subscriptions_to_nothing_are_bounded(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.mailstore.mailboxes.NAMES_LIMIT", 2)
    talk = await Talk.logged_in(harness, "SUBSCRIBE a", "SUBSCRIBE b")

    assert (await talk.say("SUBSCRIBE c"))[0].startswith(b"a NO [CANNOT]")
    assert (await talk.say("SUBSCRIBE Sent"))[0].startswith(b"a OK")


async def test_status_tells_what_was_asked_for_in_that_order(harness: Harness) -> None:
    account_id = await deliver(harness)
    inbox = await harness.mailbox(account_id)
    talk = await Talk.logged_in(harness)

    answers = await talk.say("STATUS INBOX (UIDNEXT MESSAGES RECENT UNSEEN UIDVALIDITY SIZE DELETED MAILBOXID)")

    assert answers[0].decode() == (
        f'* STATUS "INBOX" (UIDNEXT 2 MESSAGES 1 RECENT 1 UNSEEN 1 UIDVALIDITY {inbox.uid_validity} '
        f"SIZE {len(mail('Hello'))} DELETED 0 MAILBOXID ({inbox.id}))"
    )


async def test_create_makes_those_above_and_one_for_a_special_use(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)

    assert re.fullmatch(rb"a OK \[MAILBOXID \(mbx_\w+\)\] CREATE completed", (await talk.say("CREATE a/b/c/"))[0])
    assert (await talk.say("CREATE a/b"))[0].startswith(b"a NO [ALREADYEXISTS]")
    assert (await talk.say("CREATE inbox"))[0].startswith(b"a NO [ALREADYEXISTS]")
    assert (await talk.say("CREATE Starred (USE (\\Flagged))"))[0].startswith(b"a OK")
    assert (await talk.say("CREATE Bin (USE (\\Trash))"))[0].startswith(b"a NO [USEATTR]")


NO_NAMES = [
    *('""', '"a//b"', '"/a"', '" a"', "{3+}\r\na\nb"),
    f'"{"x" * 600}"',
    f'"{"a/" * 30}a"',
]


async def test_a_name_that_no_mailbox_may_have_is_refused(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)
    before = await listed(talk, 'LIST "" *')

    for name in NO_NAMES:
        answer = (await talk.say(f"CREATE {name}"))[-1]
        assert answer.startswith((b"a NO [CANNOT]", b"a BAD")), (name, answer)

    assert await listed(talk, 'LIST "" *') == before


async def test_inbox_is_one_name_in_any_case(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "CREATE inbox/Lists", "SELECT iNbOx")

    assert await listed(talk, 'LIST "" Inbox/%') == ['(\\HasNoChildren) "/" "INBOX/Lists"']
    assert (await talk.say("SELECT INBOX/Lists"))[-1].startswith(b"a OK")
    assert (await talk.say("SELECT inbox/Lists"))[-1].startswith(b"a OK")


async def test_a_name_is_never_a_path_of_the_file_system(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, 'CREATE "../../etc/passwd"')

    assert await listed(talk, 'LIST "" "*passwd"') == ['(\\HasNoChildren) "/" "../../etc/passwd"']


async def test_delete_keeps_inbox(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "CREATE Work/May")

    assert (await talk.say("DELETE INBOX"))[0].startswith(b"a NO [CANNOT]")
    assert (await talk.say("DELETE Work/May"))[0].startswith(b"a OK")
    assert (await talk.say("DELETE Work/May"))[0].startswith(b"a NO [NONEXISTENT]")
    assert (await talk.say("SELECT Work/May"))[0].startswith(b"a NO [NONEXISTENT]")


async def test_of_a_mailbox_with_others_below_it_the_messages_go_and_the_name_stays(harness: Harness) -> None:
    """RFC 3501 §6.3.4"""
    talk = await Talk.logged_in(harness, "CREATE Work/May", "CREATE Bin/Old")
    account_id = await deliver(harness, "Work")
    watching = await Talk.logged_in(harness, "NOTIFY SET (PERSONAL (MailboxName))")

    assert (await talk.say("DELETE Work"))[0].startswith(b"a OK")
    assert await harness.contents(account_id, "Work") == []
    assert await watching.wake() == [b'* LIST (\\Noselect) "/" "Work"']
    assert await listed(talk, 'LIST "" Work*') == [
        '(\\Noselect \\HasChildren) "/" "Work"',
        '(\\HasNoChildren) "/" "Work/May"',
    ]
    for command in ("SELECT Work", "STATUS Work (MESSAGES)", "COPY 1 Work", "APPEND Work {1}"):
        assert not (await talk.say(command))[-1].startswith((b"a OK", b"+")), command
    assert (await talk.say("DELETE Work"))[0].startswith(b"a NO [HASCHILDREN]")


async def test_a_name_that_stayed_can_be_a_mailbox_again_or_go(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "CREATE Work/May")
    account_id = await deliver(harness, "Work")
    before = await harness.mailbox(account_id, "Work")
    await talk.say("DELETE Work")

    assert (await talk.say("CREATE Work"))[0].startswith(b"a OK")
    await deliver(harness, "Work")
    after = await harness.mailbox(account_id, "Work")
    assert (after.uid_validity, after.uid_next) == (before.uid_validity, before.uid_next + 1)

    for command in ("DELETE Work", "DELETE Work/May", "DELETE Work"):
        assert (await talk.say(command))[0].startswith(b"a OK"), command
    assert await listed(talk, 'LIST "" Work*') == []


async def test_a_special_mailbox_that_only_holds_others_is_special_no_more(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "CREATE Junk/Old", "DELETE Junk")

    assert await listed(talk, 'LIST (SPECIAL-USE) "" Junk') == []
    assert (await talk.say("CREATE Spam (USE (\\Junk))"))[0].startswith(b"a OK")


async def test_rename_makes_what_is_missing_above_the_new_name(harness: Harness) -> None:
    """RFC 9051 §6.3.6"""
    talk = await Talk.logged_in(harness, "CREATE Work", "RENAME Work inbox/2024/Jobs")

    assert await listed(talk, 'LIST "" INBOX*') == [
        '(\\HasChildren) "/" "INBOX"',
        '(\\HasChildren) "/" "INBOX/2024"',
        '(\\HasNoChildren) "/" "INBOX/2024/Jobs"',
    ]


async def test_a_name_made_again_has_another_uidvalidity(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "CREATE Work")
    first = (await talk.say("STATUS Work (UIDVALIDITY)"))[0]
    await talk.say("DELETE Work")
    await talk.say("CREATE Work")

    assert (await talk.say("STATUS Work (UIDVALIDITY)"))[0] != first


async def test_rename_takes_children_along(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "CREATE Work/May", "RENAME Work Jobs")

    assert await listed(talk, 'LIST "" (Work* Jobs*)') == [
        '(\\HasChildren) "/" "Jobs"',
        '(\\HasNoChildren) "/" "Jobs/May"',
    ]
    assert (await talk.say("RENAME Jobs Jobs/Inside"))[0].startswith(b"a NO [CANNOT]")
    assert (await talk.say("RENAME Jobs Sent"))[0].startswith(b"a NO [ALREADYEXISTS]")


async def test_renaming_inbox_moves_its_messages_and_leaves_it(harness: Harness) -> None:
    account_id = await deliver(harness)
    await Talk.logged_in(harness, "RENAME INBOX Old")

    assert await harness.contents(account_id) == []
    assert await harness.contents(account_id, "Old") == [mail("Hello")]


@pytest.mark.parametrize("command", ["DELETE Nowhere", "STATUS Nowhere (MESSAGES)", "EXAMINE Nowhere"])
async def test_a_mailbox_that_is_not_there_is_said_so(harness: Harness, command: str) -> None:
    talk = await Talk.logged_in(harness)

    assert (await talk.say(command))[0].startswith(b"a NO [NONEXISTENT]")


async def test_a_failed_select_leaves_nothing_selected(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "SELECT INBOX")

    assert (await talk.say("SELECT Nowhere"))[0].startswith(b"* OK [CLOSED]")
    assert (await talk.say("FETCH 1 UID"))[0].startswith(b"a BAD")


async def test_notify_tells_of_mail_in_other_mailboxes_unasked(harness: Harness) -> None:
    talk = await Talk.logged_in(
        harness, "NOTIFY SET (PERSONAL (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange))"
    )
    account_id = await deliver(harness, "Archive")
    told = await talk.wake()
    modseq = (await harness.mailbox(account_id, "Archive")).highest_modseq

    items = f"MESSAGES 1 UIDNEXT 2 UIDVALIDITY {{}} UNSEEN 1 HIGHESTMODSEQ {modseq}"
    assert told == [re_status("Archive", items, talk)]

    other = await Talk.logged_in(harness, "SELECT Archive")
    await other.say("STORE 1 +FLAGS (\\Seen)")
    assert [line[:28] for line in await talk.wake()] == [b'* STATUS "Archive" (MESSAGES']


def re_status(path: str, items: str, talk: Talk) -> bytes:
    """A STATUS line with the UIDVALIDITY that was sent last."""
    found = re.findall(rb"UIDVALIDITY (\d+)", talk.sent)
    return f'* STATUS "{path}" ({items.format(found[-1].decode())})'.encode()


async def test_notify_tells_of_names(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "NOTIFY SET (PERSONAL (MailboxName SubscriptionChange))")
    other = await Talk.logged_in(harness)

    await other.say("CREATE Work")
    assert await talk.wake() == [b'* LIST () "/" "Work"']
    await other.say("RENAME Work Jobs")
    assert await talk.wake() == [b'* LIST () "/" "Jobs" ("OLDNAME" ("Work"))']
    await other.say("SUBSCRIBE Jobs")
    assert await talk.wake() == [b'* LIST (\\Subscribed) "/" "Jobs"']
    await other.say("DELETE Jobs")
    assert await talk.wake() == [b'* LIST (\\NonExistent) "/" "Jobs"']


async def test_notify_with_status_tells_all_at_once(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)

    answers = await talk.say("NOTIFY SET STATUS (MAILBOXES (Sent Trash) (MessageNew MessageExpunge))")

    assert [line.split(b" (")[0] for line in answers[:-1]] == [b'* STATUS "Sent"', b'* STATUS "Trash"']


async def test_notify_of_the_selected_mailbox_tells_new_mail_with_what_was_asked(harness: Harness) -> None:
    await deliver(harness)
    talk = await Talk.logged_in(
        harness, "SELECT INBOX", "NOTIFY SET (SELECTED (MessageNew (UID FLAGS) MessageExpunge FlagChange))"
    )
    await deliver(harness)
    assert await talk.wake() == [
        b"* 2 EXISTS",
        b"* 2 RECENT",
        b"* 2 FETCH (UID 2 FLAGS (\\Recent))",
    ]

    other = await Talk.logged_in(harness, "SELECT INBOX")
    await other.say("STORE 1 +FLAGS (\\Deleted)")
    assert await talk.wake() == [b"* 1 FETCH (UID 1 FLAGS (\\Deleted \\Recent))"]
    await other.say("EXPUNGE")
    assert await talk.wake() == [b"* 1 EXPUNGE"]


async def test_selected_delayed_tells_expunges_only_when_asked(harness: Harness) -> None:
    await deliver(harness)
    talk = await Talk.logged_in(harness, "SELECT INBOX", "NOTIFY SET (SELECTED-DELAYED (MessageNew MessageExpunge))")
    other = await Talk.logged_in(harness, "SELECT INBOX")
    await other.say("STORE 1 +FLAGS.SILENT (\\Deleted)")
    await other.say("EXPUNGE")

    assert b"* 1 EXPUNGE" not in await talk.wake()
    assert b"* 1 EXPUNGE" in await talk.say("NOOP")


async def test_notify_none_is_silence(harness: Harness) -> None:
    talk = await Talk.logged_in(harness, "NOTIFY SET (PERSONAL (MessageNew MessageExpunge))", "NOTIFY NONE")
    await deliver(harness, "Archive")

    assert await talk.wake() == []


async def test_an_event_that_nobody_knows_is_named_with_those_known(harness: Harness) -> None:
    talk = await Talk.logged_in(harness)

    answer = (await talk.say("NOTIFY SET (PERSONAL (AnnotationChange))"))[0]

    assert answer.startswith(b"a NO [BADEVENT (FlagChange MailboxName MessageExpunge MessageNew SubscriptionChange)]")
