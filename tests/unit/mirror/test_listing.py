"""What a list of mailboxes says: new, renamed, reset and lost ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from app.mail.backend import OriginMailbox
from app.mail.delta import MailboxCounted, MailboxReset
from app.mail.types import AccountId, Mailbox, MailboxId, Role
from app.mirror.listing import (
    NEWCOMER_MESSAGES,
    RENAMED_GROWTH,
    beginnings,
    differs,
    first_sync_order,
    is_miscounted,
    list_changes,
    renames,
)

OURS = Mailbox(
    id=MailboxId("mbx_Work"),
    account_id=AccountId("acc_1"),
    path="Work",
    role=None,
    uid_validity=7,
    uid_next=10,
    highest_modseq=5,
    total=3,
    unread=1,
    is_subscribed=True,
    is_selectable=True,
    parent_id=None,
    origin_name="Work",
    delimiter="/",
    is_complete=True,
)
THEIRS = OriginMailbox("Work", "Work", "/", None, True, True, 7, 10, 5, 3, 1)


def ours(name: str, uid_validity: int = 7, **changes: object) -> Mailbox:
    named = replace(OURS, id=MailboxId(f"mbx_{name}"), path=name, origin_name=name, uid_validity=uid_validity)
    return replace(named, **changes)  # type: ignore[arg-type]


def theirs(name: str, uid_validity: int = 7, **changes: object) -> OriginMailbox:
    named = replace(THEIRS, origin_name=name, path=name, uid_validity=uid_validity)
    return replace(named, **changes)  # type: ignore[arg-type]


def renamed(known: list[Mailbox], listed: list[OriginMailbox]) -> list[tuple[str, str]]:
    return [(one.mailbox_id, one.origin_name) for one in renames(known, listed)]


def test_a_mailbox_with_the_uidvalidity_of_one_that_vanished_is_that_one() -> None:
    assert renamed([ours("Work")], [theirs("Office")]) == [("mbx_Work", "Office")]


def test_a_renamed_mailbox_is_known_though_its_old_name_was_taken_anew() -> None:
    assert renamed([ours("Work")], [theirs("Office"), theirs("Work", 8)]) == [("mbx_Work", "Office")]


def test_renames_in_a_chain_come_in_an_order_in_which_each_name_is_free() -> None:
    known = [ours("A", 1), ours("B", 2)]
    assert renamed(known, [theirs("B", 1), theirs("C", 2)]) == [("mbx_B", "C"), ("mbx_A", "B")]


def test_names_that_were_swapped_are_not_guessed() -> None:
    assert renamed([ours("A", 1), ours("B", 2)], [theirs("B", 1), theirs("A", 2)]) == []


def test_where_two_mailboxes_could_be_the_renamed_one_none_is() -> None:
    assert renamed([ours("Work")], [theirs("One"), theirs("Two")]) == []
    assert renamed([ours("A"), ours("B")], [theirs("One")]) == []


def test_by_its_id_a_renamed_mailbox_is_known_among_its_likes() -> None:
    known = [ours("A", origin_id="F1"), ours("B", origin_id="F2"), ours("C", origin_id="F3")]
    listed = [theirs("A", origin_id="F1"), theirs("One", origin_id="F3"), theirs("Two", origin_id="F2")]

    assert renamed(known, listed) == [("mbx_B", "Two"), ("mbx_C", "One")]


def test_by_its_id_a_mailbox_is_none_of_its_likes() -> None:
    assert renamed([ours("Work", origin_id="F1")], [theirs("Office", origin_id="F2")]) == []


def test_by_its_id_a_mailbox_is_known_whatever_came_into_it_and_though_its_old_name_was_taken_at_once() -> None:
    listed = [theirs("Work", origin_id="F2"), theirs("Office", uid_next=10 + RENAMED_GROWTH + 1, origin_id="F1")]

    assert renamed([ours("Work", origin_id="F1")], listed) == [("mbx_Work", "Office")]


def test_inbox_is_never_renamed() -> None:
    assert renamed([ours("INBOX", role=Role.INBOX, origin_id="F1")], [theirs("Old", origin_id="F1")]) == []


def test_an_id_that_was_not_known_is_news_and_one_that_is_not_told_is_none() -> None:
    assert [one.origin_id for one in list_changes([OURS], [theirs("Work", origin_id="F1")]).delta.mailboxes_found] == [
        "F1"
    ]
    assert not list_changes([ours("Work", origin_id="F1")], [theirs("Work")]).delta


@pytest.mark.parametrize("uid_next", [9, 10 + RENAMED_GROWTH + 1])
def test_a_mailbox_with_another_past_is_not_a_renamed_one(uid_next: int) -> None:
    assert renamed([ours("Work")], [theirs("Office", uid_next=uid_next)]) == []


def test_a_mailbox_as_it_was_is_no_news() -> None:
    changes = list_changes([OURS], [THEIRS])

    assert not changes.delta
    assert changes.gone == ()


def test_new_changed_reset_and_lost_mailboxes_are_found() -> None:
    known = [ours("Same"), ours("Changed"), ours("Reset"), ours("Lost")]
    listed = [theirs("Same"), theirs("Changed", is_subscribed=False), theirs("Reset", 9), theirs("New")]

    changes = list_changes(known, listed)

    assert [one.origin_name for one in changes.delta.mailboxes_found] == ["Changed", "New"]
    assert changes.delta.mailboxes_reset == (MailboxReset(MailboxId("mbx_Reset"), 9),)
    assert [one.path for one in changes.gone] == ["Lost"]


def test_a_role_that_the_origin_does_not_know_of_stays() -> None:
    assert not list_changes([ours("Work", role=Role.ARCHIVE)], [theirs("Work")]).delta


def unbegun() -> Mailbox:
    return ours("Work", uid_next=1, is_complete=False)


def test_a_first_sync_begins_at_the_numbers_of_now() -> None:
    begun = beginnings([unbegun()], {"Work": THEIRS})

    assert begun == (MailboxCounted(OURS.id, 10, 5, 3, 1),)


def test_a_small_newcomer_begins_at_its_first_message() -> None:
    small, large = theirs("Work"), theirs("Work", total=NEWCOMER_MESSAGES + 1)

    newcomer = replace(unbegun(), is_newcomer=True)

    begun = [one.uid_next for told in (small, large) for one in beginnings([newcomer], {"Work": told})]

    assert begun == [1, 10]


def test_an_empty_or_unselectable_mailbox_is_complete_at_once() -> None:
    for told in (theirs("Work", total=0, uid_next=1), theirs("Work", is_selectable=False, uid_next=None)):
        assert [one.is_complete for one in beginnings([unbegun()], {"Work": told})] == [True]


def test_a_mailbox_whose_status_was_refused_or_that_has_begun_does_not_begin() -> None:
    assert beginnings([unbegun()], {"Work": theirs("Work", uid_next=None)}) == ()
    assert beginnings([replace(OURS, is_complete=False)], {"Work": THEIRS}) == ()


def test_a_mailbox_that_is_new_where_mail_is_known_may_hold_what_was_moved_there() -> None:
    first, later = list_changes([ours("Other", is_complete=False)], [THEIRS]), list_changes([ours("Other")], [THEIRS])

    assert [one.is_newcomer for changes in (first, later) for one in changes.delta.mailboxes_found] == [False, True]


@pytest.mark.parametrize("name", ["uid_next", "highest_modseq", "total", "unread"])
def test_any_other_number_is_a_difference_and_an_untold_one_is_none(name: str) -> None:
    other: dict[str, Any] = {name: 99}
    untold: dict[str, Any] = {name: None}

    assert differs(OURS, replace(THEIRS, **other))
    assert not differs(OURS, replace(THEIRS, **untold))


def test_only_counts_that_no_new_uid_explains_are_wrong() -> None:
    assert is_miscounted(OURS, theirs("Work", total=2))
    assert is_miscounted(OURS, theirs("Work", unread=2))
    assert not is_miscounted(OURS, theirs("Work", total=4, uid_next=11))
    assert not is_miscounted(OURS, THEIRS)


def test_inbox_comes_first_then_roles_then_the_small_and_all_mail_last() -> None:
    order = [
        ours("All", role=Role.ALL),
        ours("Large", total=900),
        ours("Small", total=1),
        ours("Sent", role=Role.SENT, total=5000),
        ours("INBOX", role=Role.INBOX, total=9000),
    ]
    assert [one.path for one in first_sync_order(order)] == ["INBOX", "Sent", "Small", "Large", "All"]
