"""Content-Disposition of an HTTP answer."""

from __future__ import annotations

import pytest
from app.mime.disposition import content_disposition
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("filename", "inline", "expected"),
    [
        ("a.pdf", False, 'attachment; filename="a.pdf"'),
        ("a.pdf", True, 'inline; filename="a.pdf"'),
        (None, False, "attachment"),
        ("été €.pdf", False, "attachment; filename=\"ete _.pdf\"; filename*=UTF-8''%C3%A9t%C3%A9%20%E2%82%AC.pdf"),
        ("50%25.txt", False, "attachment; filename=\"50_25.txt\"; filename*=UTF-8''50%2525.txt"),
        ('a"; filename=evil.exe', False, 'attachment; filename="a_; filename=evil.exe"'),
        ("../../a.txt", False, 'attachment; filename="a.txt"'),
        ("a\r\nSet-Cookie: x", False, 'attachment; filename="aSet-Cookie_ x"'),
        ("C:\\a\x00.txt", False, 'attachment; filename="a.txt"'),
        ("\u202etxt.exe", False, 'attachment; filename="txt.exe"'),
        ("..", False, "attachment"),
    ],
)
def test_names_are_quoted_and_harmless(filename: str | None, inline: bool, expected: str) -> None:
    assert content_disposition(filename, inline=inline) == expected


@given(st.text(max_size=100))
def test_any_name_is_one_header_value(filename: str) -> None:
    value = content_disposition(filename, inline=False)

    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') in (0, 2)
