from __future__ import annotations

import pytest
from app.mail.searchable import contains, fold
from app.mime.searchable import searchable_in

from tests.cpu import at_most_cpu_seconds
from tests.unit.api.mail import multipart


def found(content: bytes, term: str, scope: str = "body") -> bool:
    return contains(searchable_in(content), scope, fold(term))


def test_bodies_are_the_text_parts_in_the_words_of_their_source() -> None:
    content = multipart(
        b"Content-Type: text/html\r\nContent-Description: about\r\n\r\n<p>bold<b>ly</b>",
        b"Content-Type: text/plain; format=flowed\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"flow \r\ning so=\r\nft",
        b"Content-Type: application/json\r\n\r\njson",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nuu",
        b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nattached",
        b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Disposition: attachment\r\n\r\ncaf\xe9",
    )
    content = content.replace(b"\r\n\r\n--b", b"\r\n\r\npreamble\r\n--b", 1) + b"epilogue"

    assert [found(content, term) for term in ("<b>", "soft", "attached", "cafe")] == [True] * 4
    assert [found(content, term) for term in ("boldly", "flowing", "json", "uu", "inner", "about")] == [False] * 6
    assert [found(content, term, "text") for term in ("inner", "about", "content-type: application")] == [True] * 3
    assert [found(content, term, "text") for term in ("preamble", "epilogue", "--b")] == [False] * 3


def test_headers_are_unfolded_and_spelled_out_field_by_field() -> None:
    content = b"Subject: =?utf-8?q?caf=C3=A9?= =?utf-8?q?_s?=\r\n\tand  more\r\nX-A:b\r\nno field\r\n\r\nbody\r\n"

    assert [found(content, t, "text") for t in ("café s and  more", "x-a:b", "no field", "body")] == [True] * 4
    assert [found(content, t, "text") for t in ("more x-a", "and more")] == [False] * 2
    assert found(content, "cafe", "header:subject")
    assert not found(content, "b", "header:subject")


def test_a_multipart_without_parts_has_no_text() -> None:
    content = b"Content-Type: multipart/mixed\r\n\r\nwords\r\n"

    assert not found(content, "words", "text")


def test_what_is_shown_is_what_a_reader_sees() -> None:
    content = multipart(b"Content-Type: text/html\r\n\r\n<style>x</style><p>Hello &amp; <b>bye</b>")

    assert searchable_in(content).shown == "Hello & bye"


@pytest.mark.parametrize(
    "content",
    [
        b"\r\n " * 100_000,
        b"Subject: " + b"=?utf-8?q?a?= " * 20_000 + b"\r\n\r\n",
        b"a:\r\n\t" * 50_000 + b"\r\n\r\n",
        b"\xff" * 300_000,
        b"Content-Type: text/html\r\n\r\n" + b"<b>" * 100_000,
    ],
)
def test_searched_text_takes_linear_time(content: bytes) -> None:
    with at_most_cpu_seconds(3):
        searchable_in(content)
