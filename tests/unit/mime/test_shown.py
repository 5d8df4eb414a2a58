"""The words of a message that a reader sees."""

from __future__ import annotations

import pytest
from app.mailstore.content import read_content
from app.mime.searchable import searchable_in
from app.mime.structure import parse_structure
from app.services.reading.rendering import render_body, text_parts


def multipart(subtype: str, *parts: tuple[str, str]) -> bytes:
    body = "".join(f"--b\nContent-Type: {kind}; charset=utf-8\n\n{text}\n" for kind, text in parts)
    return f"Subject: s\nContent-Type: multipart/{subtype}; boundary=b\n\n{body}--b--\n".encode()


def texts_of(content: bytes) -> tuple[str, str | None, str, str]:
    """Text, HTML, preview and what is searched for highlights."""
    structure = parse_structure(content).structure
    spans = {part.section: part.span for part in text_parts(structure).parts if part.span is not None}
    contents = {section: content[span[1] : span[2]] for section, span in spans.items()}
    body = render_body(structure, contents, None)
    return body.text, body.html, read_content(content, "blob").preview or "", searchable_in(content).shown


@pytest.mark.parametrize("plain", ["", "\n\n", " \n\t", "\u200b\u00ad", "\u2800\n"])
def test_an_empty_text_gives_way_to_the_html_beside_it(plain: str) -> None:
    content = multipart("alternative", ("text/plain", plain), ("text/html", "<p>Words</p>"))

    text, html, preview, shown = texts_of(content)

    assert (text, preview, shown) == ("Words", "Words", "Words")
    assert html == "<p>Words</p>"


def test_an_empty_html_gives_way_to_the_text_beside_it() -> None:
    content = multipart("alternative", ("text/plain", "Words"), ("text/html", "<html><body>&nbsp;</body></html>"))

    _, html, _, _ = texts_of(content)

    assert html is not None
    assert "Words" in html


def test_the_preview_is_of_the_first_part_that_has_words() -> None:
    content = multipart("mixed", ("text/plain", ""), ("text/plain", "\u3164"), ("text/plain", "The second"))

    assert texts_of(content)[2] == "The second"


def test_a_long_style_sheet_hides_no_preview() -> None:
    style = ".a{color:#123456}\n" * 6_000
    content = multipart("mixed", ("text/html", f"<head><style>{style}</style></head><body>Your digest</body>"))

    assert texts_of(content)[2] == "Your digest"


def test_unseen_characters_are_no_words_of_a_preview() -> None:
    filler = "\u2800\u3164\uffa0\u200b\u034f\u00ad\u180e\u2060\ufeff "
    content = multipart("mixed", ("text/html", f"<p>{filler * 2_000}</p><p>Hi{filler}there</p>"))

    assert texts_of(content)[2] == "Hi there"
