from __future__ import annotations

import re

import pytest
from app.errors import InvalidRequest, StateExpired
from app.mail.types import AccountId, Position
from app.security.vault import Vault
from app.services.following.states import LOST, StatePosition, States, _encode
from hypothesis import given
from hypothesis import strategies as st

OLD, NEW = bytes(32), bytes(range(32))
ANN, BOB = AccountId("acc_ann"), AccountId("acc_bob")
SAFE = re.compile(r"[A-Za-z0-9_.~-]+")


SEQS, BASES = st.integers(0, 2**62), st.none() | st.integers(0, 2**62)


@given(SEQS, st.integers(0, 2**50), BASES)
def test_a_state_is_read_as_it_was_issued(seq: int, at_ms: int, base_seq: int | None) -> None:
    states = States(Vault([NEW]))

    text = states.issue(ANN, Position(seq, at_ms), base_seq)

    assert SAFE.fullmatch(text)
    assert states.read(text, ANN) == Position(seq, at_ms)
    assert states.since(text, ANN) == StatePosition(Position(seq, at_ms), seq if base_seq is None else base_seq)


def test_a_state_of_another_account_is_refused() -> None:
    states = States(Vault([NEW]))

    with pytest.raises(InvalidRequest):
        states.read(states.issue(ANN, Position(7, 1)), BOB)


@given(st.text(max_size=200))
def test_what_was_not_issued_is_refused(text: str) -> None:
    states = States(Vault([NEW]))

    with pytest.raises(InvalidRequest):
        states.read(text, ANN)
    with pytest.raises(InvalidRequest):
        states.open_cursor("messages", text, ANN)


def test_a_changed_number_is_refused() -> None:
    states = States(Vault([NEW]))
    signature = states.issue(ANN, Position(7, 1)).partition(".")[2]

    for text in (f"{one}.{signature}" for one in ("8-1", "7-2", "7", "7-1-0", "07-1", " 7-1", "٧-1")):
        with pytest.raises(InvalidRequest):
            states.read(text, ANN)


@given(st.recursive(st.none() | st.integers(-(2**53), 2**53) | st.text(), st.lists, max_leaves=8))
def test_a_cursor_carries_its_place(place: object) -> None:
    states = States(Vault([NEW]))

    text = states.seal_cursor("messages", ANN, place)

    assert SAFE.fullmatch(text)
    assert states.open_cursor("messages", text, ANN) == place


def test_a_cursor_is_no_state_and_no_other_account_s() -> None:
    states = States(Vault([NEW]))
    cursor = states.seal_cursor("messages", ANN, 7)

    for read in (lambda: states.read(cursor, ANN), lambda: states.open_cursor("messages", cursor, BOB)):
        with pytest.raises(InvalidRequest):
            read()


def test_states_of_an_older_master_key_are_still_read() -> None:
    text = States(Vault([OLD])).issue(ANN, Position(7, 1))

    assert States(Vault([OLD, NEW])).read(text, ANN) == Position(7, 1)
    with pytest.raises(InvalidRequest):
        States(Vault([NEW])).read(text, ANN)


def test_a_state_of_the_first_version_has_expired_and_is_not_malformed() -> None:
    states = States(Vault([NEW]))
    old = f"17.{States._sign(states._keys[0], 'state', ANN, '17')}"

    assert states.read(old, ANN) == LOST
    with pytest.raises(InvalidRequest):
        states.read(old, BOB)


@pytest.mark.parametrize("place", ["acc_1", ["a", 1], 7, [["x"], True, 1, "fingerprint"]])
def test_a_cursor_of_another_epoch_has_expired(place: object) -> None:
    before, after = States(Vault([NEW]), "one"), States(Vault([NEW]), "two")

    with pytest.raises(StateExpired):
        after.open_cursor("messages", before.seal_cursor("messages", ANN, place), ANN)
    assert before.open_cursor("messages", before.seal_cursor("messages", ANN, place), ANN) == place


def test_a_cursor_of_an_earlier_form_has_expired() -> None:
    states = States(Vault([NEW]))
    payload = _encode(b'[1760000000000,"sub_1"]')

    with pytest.raises(StateExpired):
        states.open_cursor("submissions", f"{payload}.{States._sign(states._keys[0], 'cursor', ANN, payload)}", ANN)
