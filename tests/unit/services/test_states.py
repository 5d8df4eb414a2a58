from __future__ import annotations

import re

import pytest
from app.errors import InvalidRequest
from app.mail.types import AccountId
from app.security.vault import Vault
from app.services.states import States
from hypothesis import given
from hypothesis import strategies as st

OLD, NEW = bytes(32), bytes(range(32))
ANN, BOB = AccountId("acc_ann"), AccountId("acc_bob")
SAFE = re.compile(r"[A-Za-z0-9_.~-]+")


@given(st.integers(0, 2**62))
def test_a_state_is_read_as_it_was_issued(seq: int) -> None:
    states = States(Vault([NEW]))

    text = states.issue(ANN, seq)

    assert SAFE.fullmatch(text)
    assert states.read(text, ANN) == seq


def test_check_11_a_state_of_another_account_is_refused() -> None:
    states = States(Vault([NEW]))

    with pytest.raises(InvalidRequest):
        states.read(states.issue(ANN, 7), BOB)


@given(st.text(max_size=200))
def test_what_was_not_issued_is_refused(text: str) -> None:
    states = States(Vault([NEW]))

    with pytest.raises(InvalidRequest):
        states.read(text, ANN)
    with pytest.raises(InvalidRequest):
        states.open_cursor(text, ANN)


def test_a_changed_number_is_refused() -> None:
    states = States(Vault([NEW]))
    signature = states.issue(ANN, 7).partition(".")[2]

    for text in (f"8.{signature}", f"07.{signature}", f" 7.{signature}", f"٧.{signature}"):
        with pytest.raises(InvalidRequest):
            states.read(text, ANN)


@given(st.recursive(st.none() | st.integers(-(2**53), 2**53) | st.text(), st.lists, max_leaves=8))
def test_a_cursor_carries_its_place(place: object) -> None:
    states = States(Vault([NEW]))

    text = states.seal_cursor(ANN, place)

    assert SAFE.fullmatch(text)
    assert states.open_cursor(text, ANN) == place


def test_a_cursor_is_no_state_and_no_other_account_s() -> None:
    states = States(Vault([NEW]))
    cursor = states.seal_cursor(ANN, 7)

    for read in (lambda: states.read(cursor, ANN), lambda: states.open_cursor(cursor, BOB)):
        with pytest.raises(InvalidRequest):
            read()


def test_states_of_an_older_master_key_are_still_read() -> None:
    text = States(Vault([OLD])).issue(ANN, 7)

    assert States(Vault([OLD, NEW])).read(text, ANN) == 7
    with pytest.raises(InvalidRequest):
        States(Vault([NEW])).read(text, ANN)
