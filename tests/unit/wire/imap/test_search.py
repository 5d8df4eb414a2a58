from __future__ import annotations

from datetime import date

import pytest
from app.errors import InvalidRequest
from app.wire.imap.commands import search
from app.wire.imap.search import (
    All,
    And,
    DateField,
    DateMatch,
    HasFlag,
    HeaderMatch,
    Larger,
    ModifiedSince,
    Not,
    Numbers,
    ObjectId,
    Older,
    Or,
    SavedResult,
    SearchKey,
    Smaller,
    TextField,
    TextMatch,
    Younger,
)
from app.wire.imap.sets import SequenceSet


def written(key: SearchKey) -> str:
    ((line,),) = search(key).segments(b"t")
    assert isinstance(line, bytes)
    return line.decode().removeprefix("t UID SEARCH ").removesuffix("\r\n")


@pytest.mark.parametrize(
    ("key", "criteria"),
    [
        (All(), "ALL"),
        (And(()), "ALL"),
        (And((HasFlag("\\seen"), HasFlag("$Junk"))), "SEEN KEYWORD $Junk"),
        (Not(HasFlag("\\Seen")), "NOT SEEN"),
        (Not(HasFlag("$Junk")), "UNKEYWORD $Junk"),
        (Not(And((Larger(5), Smaller(9)))), "NOT (LARGER 5 SMALLER 9)"),
        (Or(TextMatch(TextField.FROM, "a b"), HeaderMatch("X-A", "")), 'OR FROM "a b" HEADER "X-A" ""'),
        (Or(And((All(), All())), Numbers(SequenceSet())), "OR (ALL ALL) NOT ALL"),
        (Numbers(SequenceSet.parse("3,1:2"), is_uid=True), "UID 1:3"),
        (Numbers(SequenceSet.parse("7:*")), "7:*"),
        (SavedResult(), "$"),
        (SavedResult(is_uid=True), "UID $"),
        (DateMatch(DateField.SENT_SINCE, date(2024, 2, 1)), "SENTSINCE 1-Feb-2024"),
        (And((Younger(60), Older(30))), "YOUNGER 60 OLDER 30"),
        (ModifiedSince(5), "MODSEQ 5"),
        (ObjectId("M1"), "EMAILID M1"),
        (ObjectId("T1", is_thread=True), "THREADID T1"),
    ],
)
def test_each_key_has_its_wire_form(key: SearchKey, criteria: str) -> None:
    assert written(key) == criteria


def test_a_tree_too_deep_is_refused() -> None:
    key: SearchKey = All()
    for _ in range(40):
        key = Not(key)

    with pytest.raises(InvalidRequest, match="levels deep"):
        search(key)
