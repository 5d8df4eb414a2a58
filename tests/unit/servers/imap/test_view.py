"""Sequence numbers, and what waits to be told."""

from __future__ import annotations

from array import array

import pytest
from app.errors import MalformedRequest
from app.mail.types import MailboxId
from app.servers.imap.view import MailboxView, SharedUids
from app.wire.imap.search import SavedResult
from app.wire.imap.sets import SequenceSet
from hypothesis import given
from hypothesis import strategies as st


def view_of(*uids: int) -> MailboxView:
    return MailboxView(MailboxId("mbx_1"), SharedUids(array("I", uids), 0), is_read_only=False)


def test_a_message_has_no_number_before_its_exists_is_told() -> None:
    view = view_of(3, 5)

    view.arrive(9)

    assert (view.exists, list(view.uids())) == (2, [3, 5])
    assert list(view.take_arrivals()) == [9]
    assert (view.exists, view.number_of(9)) == (3, 3)


def test_an_expunged_message_keeps_its_number_until_that_is_told() -> None:
    view = view_of(3, 5, 9)

    view.remove(5)

    assert (view.exists, view.number_of(9), view.is_gone(5)) == (3, 3, True)
    assert view.take_expunged(100) == [2]
    assert (view.exists, view.number_of(9), view.is_gone(5)) == (2, 2, False)


def test_expunges_are_numbered_as_they_are_after_each_other() -> None:
    view = view_of(1, 2, 3, 4)
    for uid in (3, 1, 2):
        view.remove(uid)

    assert view.take_expunged(100) == [1, 1, 1]
    assert list(view.uids()) == [4]


def test_a_message_that_came_and_went_untold_leaves_no_trace() -> None:
    view = view_of(1)
    view.arrive(2)
    view.flag(2, 10)
    view.remove(2)

    assert (list(view.take_arrivals()), view.take_expunged(100), view.take_flagged()) == ([], [], [])


def test_an_entry_of_the_log_may_come_twice() -> None:
    view = view_of(1, 2)

    assert not view.arrive(2)
    view.remove(1)
    view.remove(1)
    view.remove(99)

    assert view.take_expunged(100) == [1]


def test_own_changes_are_not_told_but_what_came_before_them_is() -> None:
    view = view_of(1, 2, 3)
    view.flag(1, 10)  # another session
    view.flag(1, 20)  # ours
    view.flag(2, 21)  # ours
    view.flag(3, 22)  # ours
    view.flag(3, 30)  # another session, after

    view.mark_flags_sent([1, 2, 3], 22, since_seq=15)

    assert view.take_flagged() == [1, 3]


def test_flags_that_were_sent_are_not_told_again() -> None:
    view = view_of(1, 2)
    view.flag(1, 10)
    view.flag(2, 30)

    view.mark_flags_sent([1, 2], 20)

    assert view.take_flagged() == [2]


@pytest.mark.parametrize(
    ("text", "is_uid", "expected"),
    [
        ("1:2", False, [10, 20]),
        ("*", False, [30]),
        ("2:*", False, [20, 30]),
        ("15:25", True, [20]),
        ("30:4294967295", True, [30]),
        ("99:*", True, [30]),
        ("1,7,10", True, [10]),
    ],
)
def test_sets_name_messages(text: str, is_uid: bool, expected: list[int]) -> None:
    assert list(view_of(10, 20, 30).resolve(SequenceSet.parse(text), is_uid=is_uid)) == expected


def test_a_number_that_is_not_there_is_an_error_and_a_uid_is_not() -> None:
    view = view_of(10, 20)

    with pytest.raises(MalformedRequest):
        view.resolve(SequenceSet.parse("1:3"), is_uid=False)
    assert list(view.resolve(SequenceSet.parse("21:29"), is_uid=True)) == []


def test_a_number_that_is_not_there_is_nothing_to_a_search() -> None:
    view = view_of(10, 20)

    assert list(view.resolve(SequenceSet.parse("2:5"), is_uid=False, is_search=True)) == [20]
    assert list(view.resolve(SequenceSet.parse("3"), is_uid=False, is_search=True)) == []


def test_all_of_an_empty_mailbox_is_nothing() -> None:
    assert list(view_of().resolve(SequenceSet.parse("1:*"), is_uid=False)) == []
    assert list(view_of().resolve(SequenceSet.parse("1:*"), is_uid=True)) == []


def test_a_saved_result_forgets_what_is_gone() -> None:
    view = view_of(1, 2, 3)
    view.saved = (1, 3)
    view.remove(3)
    view.take_expunged(100)

    assert list(view.resolve(SavedResult(), is_uid=True)) == [1]


@given(st.lists(st.tuples(st.sampled_from(["arrive", "remove", "exists", "expunge"]), st.integers(1, 30)), max_size=60))
def test_a_client_that_follows_the_answers_has_the_same_messages(steps: list[tuple[str, int]]) -> None:
    view, here, client = view_of(), [0], [0]
    here.clear()
    client.clear()
    next_uid = 1
    for step, number in steps:
        if step == "arrive":
            view.arrive(next_uid)
            here.append(next_uid)
            next_uid += 1
        elif step == "remove" and here:
            view.remove(here.pop(number % len(here)))
        elif step == "exists":
            client += view.take_arrivals()
            assert len(client) == view.exists
        elif step == "expunge":
            for place in view.take_expunged(100):
                del client[place - 1]
    for place in view.take_expunged(100):
        del client[place - 1]
    client += view.take_arrivals()

    assert client == here == list(view.uids())
