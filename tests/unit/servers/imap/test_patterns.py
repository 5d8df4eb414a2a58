"""Mailbox patterns of LIST."""

from __future__ import annotations

import pytest
from app.servers.imap.patterns import Pattern

from tests.cpu import at_most_cpu_seconds


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*", ["INBOX", "Work", "Work/A/B"], []),
        ("%", ["INBOX", "Work"], ["Work/A"]),
        ("Work/%", ["Work/A", "Work/"], ["Work", "Work/A/B"]),
        ("Work*", ["Work", "Work/A/B", "Workshop"], ["My Work"]),
        ("%/%", ["a/b"], ["a", "a/b/c"]),
        ("*b*", ["abc", "b", "x/b"], ["acd"]),
        ("%*%", ["a/b/c"], []),
        ("a%c*e", ["ace", "abc/e", "abcde"], ["a/ce"]),
        ("inbox", ["INBOX"], ["inbox2"]),
        ("Inbox/%", ["INBOX/a"], ["INBOX"]),
        ("", [""], ["a"]),
        ("Gr\u00fc\u00dfe", ["Gr\u00fc\u00dfe"], ["Gr\u00fc\u00df"]),
    ],
)
def test_patterns_match_as_the_rfc_says(pattern: str, matching: list[str], others: list[str]) -> None:
    found = Pattern(pattern)

    assert [name for name in matching if not found.matches(name)] == []
    assert [name for name in others if found.matches(name)] == []


def test_no_pattern_takes_more_than_linear_time() -> None:
    pattern = Pattern("*a" * 400 + "b")

    with at_most_cpu_seconds(0.5):
        assert not pattern.matches("a" * 500)
