"""The base subject, by the steps of RFC 5256 §2.1."""

from __future__ import annotations

import pytest
from app.mime.subject import base_subject
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("subject", "base", "is_answer"),
    [
        ("Lunch", "Lunch", False),
        ("  Lunch \t at  noon ", "Lunch at noon", False),
        ("Re: Lunch", "Lunch", True),
        ("RE : fw: Fwd: Lunch", "Lunch", True),
        ("re[2]: Lunch", "Lunch", True),
        ("Re: [list] Re[3]: Lunch (fwd) (FWD)", "Lunch", True),
        ("[list] Lunch", "Lunch", False),
        ("[a] [b] Lunch", "Lunch", False),
        ("[list]", "[list]", False),
        ("[a] [b]", "[b]", False),
        ("[fwd: Lunch]", "Lunch", True),
        ("[Fwd: Re: [list] Lunch (fwd)]", "Lunch", True),
        ("[fwd: [fwd: Lunch]]", "Lunch", True),
        ("[fwd: a] b]", "b]", False),
        ("Re: (fwd)", "", True),
        ("Re:", "", True),
        ("", "", False),
        ("Regarding: Lunch", "Regarding: Lunch", False),
        ("Lunch [list]", "Lunch [list]", False),
    ],
)
def test_marks_of_answers_forwards_and_lists_are_taken_off(subject: str, base: str, is_answer: bool) -> None:
    assert base_subject(subject) == (base, is_answer)


@given(st.lists(st.sampled_from(["re:", "fwd :", "[x]", "[fwd:", "]", "(fwd)", " ", "a", "["])).map("".join))
def test_a_base_subject_is_its_own_base(subject: str) -> None:
    base, _ = base_subject(subject)

    assert base_subject(base)[0] == base
