from __future__ import annotations

import orjson
import pytest
from app.mail.storable import KEY_BYTES, json_bytes, storable, storable_integer, storable_value
from hypothesis import given
from hypothesis import strategies as st

ANY_TEXT = st.text(st.characters(codec=None))


@given(ANY_TEXT)
def test_a_storable_text_has_no_nul_and_no_surrogate_and_as_many_characters(text: str) -> None:
    stored = storable(text)

    assert "\0" not in stored.encode().decode()
    assert len(stored) == len(text)


@given(ANY_TEXT)
def test_to_make_a_text_storable_twice_changes_nothing_more(text: str) -> None:
    once = storable(text * 200, KEY_BYTES)

    assert storable(once, KEY_BYTES) == once


@pytest.mark.parametrize("text", ["a" * 5_000, "é" * 5_000, "\U0001f600" * 5_000, "a" + "\U0001f600" * 5_000])
def test_a_text_beyond_its_limit_keeps_its_beginning_and_stays_different_from_others(text: str) -> None:
    stored, other = storable(text, KEY_BYTES), storable(text + "b", KEY_BYTES)

    assert KEY_BYTES - 4 < len(stored.encode()) <= KEY_BYTES
    assert stored[:200] == text[:200]
    assert stored != other


def test_a_text_within_its_limit_stays_as_it_is() -> None:
    assert storable("a" * KEY_BYTES, KEY_BYTES) == "a" * KEY_BYTES


def test_an_integer_beyond_64_bits_becomes_the_nearest_one() -> None:
    assert [storable_integer(one) for one in (10**40, -(10**40), 7)] == [2**63 - 1, -(2**63), 7]


def test_values_of_other_types_stay_what_they_are() -> None:
    for value in (None, True, b"\0", 1.5):
        assert storable_value(value) is value


def test_json_holds_the_storable_form_of_what_json_cannot_hold() -> None:
    value = {"\ud800": ["\udc80", 10**40, {"a": ("\ud800", None)}], "plain": True}

    assert orjson.loads(json_bytes(value)) == {
        "\ufffd": ["\ufffd", 2**63 - 1, {"a": ["\ufffd", None]}],
        "plain": True,
    }
