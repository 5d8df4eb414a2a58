"""What a list says to a ledger."""

from __future__ import annotations

import pytest
from app.backends.pop3.session import Entry
from app.mail.delta import Location
from app.mail.pop3 import Retention
from app.mail.types import MailboxId
from app.mailstore.pop3_ledger import Key, Line, Pop3State
from app.workers.pop3.comparing import DAY_MS, compare, is_suspicious, keyed, removable, same_messages

NOW_MS = 100 * DAY_MS


def line(name: str, state: Pop3State = Pop3State.STORED, **facts: object) -> Line:
    return Line(Key(name, 0), 100, state, message_id=f"msg_{name}", place=Location(MailboxId("m"), 1), **facts)  # type: ignore[arg-type]


def ledger(*lines: Line) -> dict[Key, Line]:
    return {one.key: one for one in lines}


def listing(*names: str) -> dict[Key, Entry]:
    return keyed([Entry(number, 100, name) for number, name in enumerate(names, 1)], names)


def test_messages_of_one_name_are_counted_in_order() -> None:
    found = listing("a", "b", "a")

    assert list(found) == [("a", 0), ("b", 0), ("a", 1)]
    assert found[Key("a", 1)].number == 3


def test_a_list_tells_what_is_new_missing_and_back() -> None:
    lines = ledger(
        line("here"),
        line("lost"),
        line("gone", Pop3State.GONE),
        line("dead", Pop3State.DELETED),
        line("back", Pop3State.GONE),
    )

    found = compare(listing("here", "new", "back"), lines)

    assert found.fresh == (("new", 0),)
    assert [one.key.uidl for one in found.missing] == ["lost", "gone"]
    assert [one.key.uidl for one in found.back] == ["back"]


@pytest.mark.parametrize(
    ("there", "missing", "expected"), [(12, 12, True), (12, 5, False), (9, 9, False), (40, 15, False)]
)
def test_much_at_once_is_doubted(there: int, missing: int, expected: bool) -> None:
    lines = [line(str(number)) for number in range(there)]

    assert is_suspicious(lines[:missing], ledger(*lines)) is expected


def test_what_we_removed_ourselves_is_not_doubted() -> None:
    lines = [line(str(number), Pop3State.DELETE_PENDING) for number in range(20)]

    assert not is_suspicious(lines, ledger(*lines))


def test_a_message_is_the_same_by_header_and_size_and_copies_are_taken_in_order() -> None:
    one, two = line("1", header_hash="h"), line("2", header_hash="h")
    fresh = {Key("a", 0): (100, "h"), Key("b", 0): (100, "h"), Key("c", 0): (100, "h"), Key("d", 0): (99, "h")}

    assert same_messages([one, two, line("3")], fresh) == {Key("a", 0): one, Key("b", 0): two}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("keep", []),
        ("mirror_delete", ["kept"]),
        ("remove_after_download", ["old", "kept", "new"]),
        ("keep_days:7", ["old", "kept"]),
        ("keep_last:2", ["old", "kept"]),
        ("keep_last:9", []),
    ],
)
def test_each_rule_says_what_may_leave_the_server(rule: str, expected: list[str]) -> None:
    lines = ledger(
        line("old", stored_at_ms=NOW_MS - 8 * DAY_MS),
        line("kept", Pop3State.KEPT, stored_at_ms=NOW_MS - 8 * DAY_MS),
        line("unread", Pop3State.SEEN),
        line("new", stored_at_ms=NOW_MS),
    )

    found = removable(listing("old", "kept", "unread", "new"), lines, Retention.parse(rule), NOW_MS)

    assert [one.key.uidl for one in found] == expected


@pytest.mark.parametrize("state", [Pop3State.LISTED, Pop3State.SEEN])
@pytest.mark.parametrize("rule", ["keep_days:1", "keep_last:1", "mirror_delete", "remove_after_download"])
def test_what_is_not_stored_never_leaves(state: Pop3State, rule: str) -> None:
    lines = ledger(line("a", state), line("b", state))

    assert removable(listing("a", "b"), lines, Retention.parse(rule), NOW_MS) == []
