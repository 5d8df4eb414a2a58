"""The search language of `q=`."""

from __future__ import annotations

import random

import pytest
from app.errors import InvalidRequest
from app.mail import filter as f
from app.mail.search_text import LENGTH_LIMIT_CHARS, parse_search_text

JANUARY = 1_767_225_600_000


def _text(value: str) -> f.Filter:
    return f.Text("text", value)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("rome", _text("rome")),
        ("rome paris", f.All((_text("rome"), _text("paris")))),
        ('"trip to Rome"', _text("trip to Rome")),
        ('"never closed', _text("never closed")),
        ("-draft", f.Not(_text("draft"))),
        ("well-known", _text("well-known")),
        ("from:ann", f.Contains("from", "ann")),
        ("FROM:Ann", f.Contains("from", "Ann")),
        ('subject:"trip to Rome"', f.Contains("subject", "trip to Rome")),
        ("-to:bob@example.org", f.Not(f.Contains("to", "bob@example.org"))),
        ("in:inbox", f.InMailboxNamed("inbox")),
        ('in:"Work/Trip 2026"', f.InMailboxNamed("Work/Trip 2026")),
        ("is:unread", f.Not(f.HasFlag("\\Seen"))),
        ("is:read", f.HasFlag("\\Seen")),
        ("is:starred", f.HasFlag("\\Flagged")),
        ("has:attachment", f.HasAttachments(True)),
        ("keyword:$forwarded", f.HasFlag("$forwarded")),
        ("after:2026-01-01", f.ReceivedBetween(JANUARY, None)),
        ("before:2026/01/01", f.ReceivedBetween(None, JANUARY)),
        ("before:2026-01-01T01:00:00+01:00", f.ReceivedBetween(None, JANUARY)),
        ("larger:5M", f.SizeBetween(5 << 20, None)),
        ("smaller:500kb", f.SizeBetween(None, 500 << 10)),
        ("larger:1000", f.SizeBetween(1000, None)),
        ("a OR b", f.Any((_text("a"), _text("b")))),
        ("a OR b OR c", f.Any((_text("a"), _text("b"), _text("c")))),
        ("a OR b c", f.All((f.Any((_text("a"), _text("b"))), _text("c")))),
        ("a or b", f.All((_text("a"), _text("or"), _text("b")))),
        ("(a b) OR c", f.Any((f.All((_text("a"), _text("b"))), _text("c")))),
        ("-(a OR b)", f.Not(f.Any((_text("a"), _text("b"))))),
        ("a (b OR c", f.All((_text("a"), f.Any((_text("b"), _text("c")))))),
        ("OR a OR", _text("a")),
        (") a )(", _text("a")),
        ("https://example.org", _text("https://example.org")),
        ("re: offer", f.All((_text("re:"), _text("offer")))),
        ("", f.All(())),
        ("   ", f.All(())),
        ('""', f.All(())),
    ],
)
def test_a_text_means_what_a_search_box_would_take_it_for(text: str, tree: f.Filter) -> None:
    assert parse_search_text(text).tree == tree


def test_in_anywhere_is_no_condition() -> None:
    parsed = parse_search_text("in:anywhere rome")

    assert (parsed.tree, parsed.is_anywhere) == (_text("rome"), True)


@pytest.mark.parametrize(
    "text",
    [
        "is:blue",
        "has:legs",
        "before:yesterday",
        "after:2026-02-30",
        "larger:big",
        "keyword:é",
        "subject:" + "x" * 501,
        "a " * 201,
        "(" * 30 + "a",
        "tab:\x00x",
    ],
)
def test_a_value_that_an_operator_cannot_read_is_an_error_at_q(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_search_text(text)

    assert [fault.parameter for fault in refused.value.faults] == ["q"]


def test_any_text_is_a_filter_or_an_error_of_bounded_size() -> None:
    pieces = ['"', "(", ")", "-", "OR", " ", "from:", "in:x", "a", "is:read", ":", "é", "-(", "larger:1k", "\\"]
    chance = random.Random(7)
    for _ in range(2_000):
        text = "".join(chance.choices(pieces, k=chance.randrange(60)))[:LENGTH_LIMIT_CHARS]
        try:
            tree = parse_search_text(text).tree
        except InvalidRequest:
            continue
        assert sum(1 for _ in f.leaves_in(tree)) <= f.LEAF_LIMIT
