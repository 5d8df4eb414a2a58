"""Text for reading."""

from __future__ import annotations

import pytest
from app.mime.text import PREVIEW_CHARS, preview_of, text_of_html, unflowed
from hypothesis import given
from hypothesis import strategies as st


def test_html_becomes_laid_out_text_without_what_is_hidden() -> None:
    html = (
        "<head><title>T</title><style>p{}</style></head><body><script>x()</script><p>Hello <b>you</b> &amp; me"
        "<p>second<br>line<ul><li>one<li>two</ul><img alt='a picture'></body>"
    )

    text = text_of_html(html)

    assert text.startswith("Hello you & me\n\nsecond\nline")
    assert "one" in text
    assert "a picture" in text
    assert not {"T", "p{}", "x()"} & set(text.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello\n\n  there", "Hello there"),
        ("> quoted\n> more\nMy answer", "My answer"),
        ("Yes.\n\nOn Mon, 1 Jan 2024 at 10:00, Ann <a@b.example> wrote:\n> Really?", "Yes."),
        ("Text\n-- \nAnn\nPhone 123", "Text"),
        ("> all quoted", "> all quoted"),
        ("-----------\nTitle\n===========", "Title"),
        ("Hi\u200b\u034f\u00ad\ufeff there\u2007", "Hi there"),
        ("", ""),
        ("\n \t\n", ""),
    ],
)
def test_a_preview_is_the_authors_own_words(text: str, expected: str) -> None:
    assert preview_of(text) == expected


@given(st.text(max_size=600))
def test_a_preview_is_one_bounded_line(text: str) -> None:
    preview = preview_of(text)

    assert len(preview) <= PREVIEW_CHARS
    assert "\n" not in preview


@pytest.mark.parametrize(
    ("text", "delete_space", "expected"),
    [
        ("one \ntwo\nthree", False, "one two\nthree"),
        ("one \ntwo", True, "onetwo"),
        ("> a \n> b\nc", False, "> a b\nc"),
        ("a \n> b", False, "a \n> b"),
        (" >not quoted", False, ">not quoted"),
        ("a\n-- \nsig", False, "a\n-- \nsig"),
        ("a \n-- \nsig", False, "a \n-- \nsig"),
    ],
)
def test_flowed_lines_are_joined(text: str, delete_space: bool, expected: str) -> None:
    assert unflowed(text, delete_space=delete_space) == expected


@given(st.text(alphabet="<>ab/&;\"'= \n!-", max_size=100))
def test_any_html_is_text(html: str) -> None:
    text_of_html(html)
