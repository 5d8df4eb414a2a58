"""The gauge counts the values of a JSON text, however it is cut into pieces."""

from __future__ import annotations

import json
import random

import pytest
from app.api.json_gauge import JsonGauge
from app.errors import MalformedRequest, TooLarge


def is_within(text: bytes, limit: int, size: int = 1 << 20) -> bool:
    gauge = JsonGauge(limit)
    try:
        for start in range(0, len(text), size):
            gauge.feed(text[start : start + size])
    except TooLarge:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b"[[],[],[]]", 6),
        (b'{"a": "x,[{", "b": [1, 2]}', 4),
        (rb'["\"", "\\", "[[[", ",\\\",,"]', 4),
        (b'"' + b"," * 1000 + b'"', 0),
        (b"", 0),
    ],
)
def test_values_are_counted_and_strings_are_not(text: bytes, values: int) -> None:
    for size in range(1, len(text) + 2):
        assert is_within(text, values, size)
        assert values == 0 or not is_within(text, values - 1, size)


def test_a_text_cut_anywhere_counts_the_same() -> None:
    generator = random.Random(7)
    for _ in range(200):
        pieces = generator.choices(['\\"', "\\\\", '"', ",", "[", "{", "é", "x"], k=20)
        text = json.dumps(["".join(pieces), [1], {"".join(pieces): 2}]).encode()
        whole = next(limit for limit in range(100) if is_within(text, limit))
        assert all(is_within(text, whole, size) for size in range(1, 20))
        assert whole == 0 or not any(is_within(text, whole - 1, size) for size in range(1, 20))


def test_a_text_of_many_values_is_refused_before_it_has_arrived() -> None:
    assert is_within(b"[" + b"[]," * 20_000, 50_000)
    assert not is_within(b"[" + b"[]," * 30_000, 50_000, size=1000)


def test_a_text_that_is_nested_deeply_is_refused_before_it_has_arrived() -> None:
    with pytest.raises(MalformedRequest):
        is_within(b'{"a":' * 2_000, 50_000)
