"""Splitting a header block."""

from __future__ import annotations

from app.mime.fields import MAX_FIELDS, first_value, split_fields, unfold
from hypothesis import given
from hypothesis import strategies as st


def test_fields_keep_their_order_and_their_folds() -> None:
    assert split_fields(b"A: 1\r\nB-c:\r\n 2\r\n\t3\r\na: 4\r\n\r\n") == [
        ("a", b" 1\r"),
        ("b-c", b"\r\n 2\r\n\t3\r"),
        ("a", b" 4\r"),
    ]


def test_lines_that_are_no_fields_are_skipped() -> None:
    assert split_fields(b"From ann Mon Jan 1 2024\nA: 1\ngarbage\n: x\nB : 2\n") == [("a", b" 1"), ("b", b" 2")]


def test_unfolding_makes_one_line() -> None:
    assert unfold(b" one\r\n\ttwo \r\n three\r") == "one two  three"


def test_8_bit_bytes_survive_unfolding() -> None:
    assert unfold(b" caf\xe9").encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_the_first_of_several_is_given() -> None:
    assert first_value(split_fields(b"A: 1\nA: 2\n"), "a") == "1"
    assert first_value([], "a") is None


def test_100_000_fields_are_bounded() -> None:
    assert len(split_fields(b"A:1\n" * 100_000)) == MAX_FIELDS


@given(st.binary(max_size=300))
def test_any_bytes_can_be_split(block: bytes) -> None:
    assert all(name == name.lower() and "\n" not in unfold(value) for name, value in split_fields(block))
