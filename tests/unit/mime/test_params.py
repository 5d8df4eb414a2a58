"""Parameters of Content-Type and Content-Disposition."""

from __future__ import annotations

import pytest
from app.mime.params import MAX_VALUE_CHARS, decoded_param, parse_value
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text/plain", ("text/plain", ())),
        ("Text/PLAIN; Charset=UTF-8", ("text/plain", (("charset", "UTF-8"),))),
        ('a/b; x="y;z"; w = v ;', ("a/b", (("x", "y;z"), ("w", "v")))),
        (r'a/b; x="\"q\\"', ("a/b", (("x", '"q\\'),))),
        ("text/plain; charset=us-ascii (Plain text)", ("text/plain", (("charset", "us-ascii"),))),
        ("a/b; name=my file (1).pdf", ("a/b", (("name", "my file (1).pdf"),))),
        ('a/b; name="unclosed', ("a/b", (("name", "unclosed"),))),
        ("attachment", ("attachment", ())),
        ("", ("", ())),
        ("a/b; x*0=1; x*1=2; y=3", ("a/b", (("y", "3"), ("x", "12")))),
        ("a/b; x*1*=%20b; x*0*=utf-8''a", ("a/b", (("x*", "utf-8''a%20b"),))),
        ("a/b; x*0*=utf-8''a; x*1=50%", ("a/b", (("x*", "utf-8''a50%25"),))),
    ],
)
def test_values_are_parsed(text: str, expected: tuple[str, tuple[tuple[str, str], ...]]) -> None:
    assert parse_value(text) == expected


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ((("filename", "a.pdf"),), "a.pdf"),
        ((("filename*", "UTF-8'en'%e2%82%ac.pdf"),), "€.pdf"),
        ((("filename*", "iso-8859-1''%E9"), ("filename", "e")), "é"),
        ((("filename", "=?utf-8?B?4oKsLnBkZg==?="),), "€.pdf"),
        ((("filename*0*", "utf-8''%e2%82"), ("filename*1*", "%ac"), ("filename*2", ".pdf")), "€.pdf"),
        ((("filename*", "just%20this"),), "just this"),
        ((("filename*", "utf-8''a%00%0Ab"),), "a b"),
        ((("filename", "caf\udce9"),), "café"),
        ((("other", "x"),), None),
        ((), None),
    ],
)
def test_a_name_is_decoded_in_any_form(params: tuple[tuple[str, str], ...], expected: str | None) -> None:
    assert decoded_param(params, "filename") == expected


def test_100_000_pieces_of_rfc_2231_are_bounded() -> None:
    text = "a/b" + "".join(f"; n*{index}*=%41%41" for index in range(100_000))

    name = decoded_param(parse_value(text)[1], "n")

    assert name is not None
    assert len(name) <= MAX_VALUE_CHARS


@given(st.text(alphabet="ab/;=*'\"\\%0 1(", max_size=80))
def test_any_text_is_parsed(text: str) -> None:
    _, params = parse_value(text)
    for name, _ in params:
        decoded_param(params, name.partition("*")[0])
