"""What is shown of a message, and what is attached."""

from __future__ import annotations

from pathlib import Path

import pytest
from app.mail.types import BodyPart
from app.mime.body import (
    Protection,
    choose_body,
    decode_body,
    has_attachments,
    part_at,
    protections_of,
    sections_to_fetch,
)
from app.mime.structure import parse_structure

CORPUS = Path(__file__).parents[2] / "corpus" / "mime"


def structure(name: str) -> BodyPart:
    return parse_structure((CORPUS / f"{name}.eml").read_bytes()).structure


def text_of(name: str, section: str) -> tuple[str, tuple[str, ...]]:
    data = (CORPUS / f"{name}.eml").read_bytes()
    part = part_at(parse_structure(data).structure, section)
    assert part is not None
    assert part.span is not None
    return decode_body(data[part.span[1] : part.span[2]], part)


@pytest.mark.parametrize(
    ("name", "text", "html", "attachments"),
    [
        ("cron", ["1"], ["1"], []),
        ("newsletter", ["1"], ["1"], []),
        ("gmail-attachment", ["1.1"], ["1.2"], ["2"]),
        ("outlook-related", ["1.1.1"], ["1.1.2"], ["1.2", "2"]),
        ("apple-mail-inline-pdf", ["1", "2.1", "4"], ["1", "2.1", "4"], ["3"]),
        ("google-calendar", ["1.1"], ["1.2"], ["1.3", "2"]),
        ("mailman-digest", ["1"], ["1"], ["2.1", "2.2"]),
        ("postfix-bounce", ["1"], ["1"], ["2", "3"]),
        ("smime-encrypted", [], [], ["1"]),
        ("pgp-signed", ["1"], ["1"], ["2"]),
    ],
)
def test_parts_are_chosen_as_jmap_chooses_them(
    name: str, text: list[str], html: list[str], attachments: list[str]
) -> None:
    choice = choose_body(structure(name))

    assert [part.section for part in choice.text] == text
    assert [part.section for part in choice.html] == html
    assert [part.section for part in choice.attachments] == attachments


def test_only_text_is_fetched_each_part_once() -> None:
    assert sections_to_fetch(structure("apple-mail-inline-pdf")) == ("1", "2.1", "4")
    assert sections_to_fetch(structure("smime-encrypted")) == ()


@pytest.mark.parametrize(
    ("name", "expected"), [("cron", False), ("gmail-attachment", True), ("pgp-signed", False), ("postfix-bounce", True)]
)
def test_a_signature_is_no_attachment_in_a_readers_eyes(name: str, expected: bool) -> None:
    assert has_attachments(structure(name)) is expected


def test_an_image_that_the_text_shows_is_no_attachment_in_a_readers_eyes() -> None:
    shown = BodyPart("2", "image/png", content_id="<a@b>", disposition="inline")
    attached = BodyPart("3", "image/png", content_id="<f_1>", disposition="attachment")
    html = BodyPart("1", "text/html")

    assert not has_attachments(BodyPart("", "multipart/related", children=(html, shown)))
    assert has_attachments(BodyPart("", "multipart/mixed", children=(html, attached)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pgp-signed", (Protection.PGP_SIGNED,)),
        ("smime-encrypted", (Protection.SMIME_ENCRYPTED,)),
        ("cron", ()),
    ],
)
def test_signatures_and_encryption_are_named(name: str, expected: tuple[Protection, ...]) -> None:
    assert protections_of(structure(name)) == expected


def test_text_is_decoded_with_unix_line_ends() -> None:
    assert text_of("outlook-related", "1.1.1") == ("报价㐀单见附件。", ())
    assert text_of("split-encoded-word", "1") == ("こんにちは。\n", ())


def test_flowed_text_is_paragraphs_again() -> None:
    assert text_of("thunderbird-rfc2231", "1")[0].startswith("The minutes of the meeting, à relire, which this para")
    assert text_of("google-calendar", "1.1")[0] == "You have been invited to Standup."


def test_a_guessed_charset_is_a_problem_said() -> None:
    text, problems = text_of("latin1-headers", "1")

    assert "información" in text
    assert problems == ("part 1: the charset was guessed (cp1252)",)


def test_damaged_base64_is_a_problem_said() -> None:
    part = BodyPart("2", "text/plain", params=(("charset", "utf-8"),), encoding="base64")

    assert decode_body(b"aGV*sbG8", part) == ("hello", ("part 2: the base64 encoding is damaged",))


def test_html_may_name_its_own_charset() -> None:
    part = BodyPart("1", "text/html", params=(("charset", "us-ascii"),))
    html = '<html><head><meta charset="windows-1251"></head>Привет'

    assert decode_body(html.encode("cp1251"), part) == (html, ())


def _message(content: bytes) -> BodyPart:
    return parse_structure(content).structure


def _multipart(subtype: bytes, *parts: bytes) -> bytes:
    return (
        b"Subject: s\nContent-Type: multipart/"
        + subtype
        + b"; boundary=b\n\n--b\n"
        + b"\n--b\n".join(parts)
        + b"\n--b--\n"
    )


HTML = b"Content-Type: text/html\nContent-ID: <root@x>\n\n<p>words"
PICTURE = b"Content-Type: image/png; name=a.png\nContent-ID: <a@x>\n\nxx"
AMP = b"Content-Type: text/x-amp-html\n\n<html amp4email>"


def test_the_root_of_related_parts_is_named_by_start_or_is_the_first_text() -> None:
    named = _message(_multipart(b'related; start="<root@x>"', PICTURE, HTML))
    first_text = _message(_multipart(b"related", PICTURE, HTML))

    for structure in (named, first_text):
        assert [part.section for part in choose_body(structure).html] == ["2"]
        assert [part.section for part in choose_body(structure).attachments] == ["1"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (_multipart(b"mixed", PICTURE), True),
        (_multipart(b"mixed", b"Content-Type: text/plain\n\nwords", PICTURE), True),
        (_multipart(b"related", HTML, PICTURE), False),
        (_multipart(b"alternative", b"Content-Type: text/plain\n\nwords", AMP, HTML), False),
        (b"Content-Type: image/jpeg\n\nxx", True),
    ],
)
def test_a_picture_is_an_attachment_unless_html_shows_it(content: bytes, expected: bool) -> None:
    assert has_attachments(_message(content)) is expected


@pytest.mark.parametrize(
    ("head", "signature", "protection"),
    [
        (b"signed", b"application/pgp-signature", Protection.PGP_SIGNED),
        (b"signed", b"application/pkcs7-signature", Protection.SMIME_SIGNED),
        (b"signed; protocol=application/pkcs7-signature", b"text/plain", Protection.SMIME_SIGNED),
    ],
)
def test_a_signature_without_a_protocol_is_known_by_its_part(
    head: bytes, signature: bytes, protection: Protection
) -> None:
    structure = _message(_multipart(head, HTML, b"Content-Type: " + signature + b"\n\nxx"))

    assert protections_of(structure) == (protection,)


def test_an_encoded_cr_before_a_line_end_is_part_of_it() -> None:
    part = BodyPart("1", "text/plain", encoding="quoted-printable")

    assert decode_body(b"one=0D\r\ntwo=0D\nthree=0D=0Afour=0Dfive", part)[0] == "one\ntwo\nthree\nfour\nfive"


@pytest.mark.parametrize("kind", [b"text/enriched", b"text/markdown", b"text/*"])
def test_text_of_another_kind_is_shown_where_there_is_no_usual_one(kind: bytes) -> None:
    part = b"Content-Type: " + kind + b"\n\nwords"

    alone, beside = choose_body(_message(part)), choose_body(_message(_multipart(b"mixed", HTML, part)))

    assert [one.media_type for one in alone.text] == [one.media_type for one in alone.html] == [kind.decode()]
    assert [one.media_type for one in beside.attachments] == [kind.decode()]


@pytest.mark.parametrize("kind", [b"text/calendar", b"text/vcard", b"text/markdown; name=a.md"])
def test_text_for_programs_and_files_are_not_shown_as_text(kind: bytes) -> None:
    assert choose_body(_message(b"Content-Type: " + kind + b"\n\nBEGIN")).text == ()


CALENDAR = b"Content-Type: text/calendar; method=REQUEST\n\nBEGIN:VCALENDAR"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (_multipart(b"alternative", b"Content-Type: text/plain\n\nwords", HTML, CALENDAR), False),
        (CALENDAR, False),
        (_multipart(b"mixed", HTML, b"Content-Disposition: attachment\n" + CALENDAR), True),
        (_multipart(b"mixed", HTML, b"Content-Type: application/ics; name=invite.ics\n\nBEGIN:VCALENDAR"), True),
    ],
)
def test_the_calendar_of_an_invitation_is_no_attachment_unless_it_is_a_file(content: bytes, expected: bool) -> None:
    assert has_attachments(_message(content)) is expected
