"""Messages to be sent, read back by the standard library and by our own reader."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from dataclasses import replace
from email.message import EmailMessage

import pytest
from app.errors import InvalidRequest
from app.mail.types import Address, BodyPart
from app.mime.body import choose_body, decode_body
from app.mime.compose import Draft, Enclosure, compose, compose_pieces, enclosure_of, recipients_of
from app.mime.structure import parse_structure
from hypothesis import given
from hypothesis import strategies as st

ANN, BOB = Address("Ann Example", "ann@example.com"), Address("", "bob@example.org")
DRAFT = Draft(ANN, "<id-1@example.com>", 1_704_104_430_000, to=(BOB,), subject="Hello", text="Hi Bob\n")


def parsed(draft: Draft) -> EmailMessage:
    message = email.message_from_bytes(compose(draft), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_a_plain_message_is_what_one_would_write_by_hand() -> None:
    assert compose(DRAFT) == (
        b"Date: Mon, 01 Jan 2024 10:20:30 +0000\r\n"
        b"From: Ann Example <ann@example.com>\r\n"
        b"To: bob@example.org\r\n"
        b"Subject: Hello\r\n"
        b"Message-ID: <id-1@example.com>\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=us-ascii\r\n"
        b"Content-Transfer-Encoding: 7bit\r\n"
        b"\r\n"
        b"Hi Bob\r\n"
    )


def test_the_same_draft_gives_the_same_bytes() -> None:
    draft = replace(DRAFT, html="<p>Hi</p>", enclosures=(Enclosure("a.txt", "text/plain", b"abc"),))

    assert compose(draft) == compose(draft)


def test_bcc_is_never_written_but_gets_the_message() -> None:
    draft = replace(DRAFT, bcc=(Address("Secret", "carol@example.net"),))

    assert b"carol" not in compose(draft)
    assert recipients_of(draft) == ["bob@example.org", "carol@example.net"]


def test_a_message_to_bcc_alone_names_no_one() -> None:
    assert b"\r\nTo: undisclosed-recipients:;\r\n" in compose(replace(DRAFT, to=(), bcc=(BOB,)))


def test_each_recipient_gets_it_once() -> None:
    assert recipients_of(replace(DRAFT, cc=(Address("B", "bob@example.org"),))) == ["bob@example.org"]


@pytest.mark.parametrize(
    "name",
    [
        "Ann",
        "Doe, John",
        'Q "quoted" \\',
        "Jürgen Müller",
        "日本語の名前" * 20,
        "=?utf-8?q?x?=",
        "a@b.example",
        "x  y",
        "Dr. " * 60,
    ],
)
def test_names_come_back_as_they_were(name: str) -> None:
    draft = replace(DRAFT, to=(Address(name, "bob@example.org"), BOB))

    overview = parse_structure(compose(draft)).overview

    assert overview.to == (Address(name.strip(), "bob@example.org"), BOB)
    assert parsed(draft)["To"].addresses[0].addr_spec == "bob@example.org"


@pytest.mark.parametrize(
    "subject",
    ["", "Hello", "Grüße", "😀" * 100, "word " * 100 + "end", "x" * 2_000, "two  spaces", "=?utf-8?q?x?=", "tab\there"],
)
def test_subjects_come_back_as_they_were(subject: str) -> None:
    raw = compose(replace(DRAFT, subject=subject))

    assert parse_structure(raw).overview.subject == subject.replace("\t", " ")
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))


@pytest.mark.parametrize(
    "text",
    [
        "Hi\n",
        "no end",
        "",
        "Grüße\n" * 3,
        "日本語" * 500,
        "x" * 5_000,
        ".\n..\n",
        "From x\n",
        "a\r\nb\rc\n",
        "trailing  \n\t\n",
        "nul\x00",
    ],
)
def test_texts_come_back_as_they_were(text: str) -> None:
    raw = compose(replace(DRAFT, text=text))

    part = parse_structure(raw).structure
    assert part.span is not None
    read, problems = decode_body(raw[part.span[1] :], part)
    expected = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    assert read.removesuffix("\n") == expected.removesuffix("\n")
    assert problems == ()
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))


def test_long_references_are_folded_between_ids_alone() -> None:
    ids = tuple(f"<{'x' * 100}{index}@example.com>" for index in range(20))
    raw = compose(replace(DRAFT, references=ids, in_reply_to=ids[-1:]))

    overview = parse_structure(raw).overview

    assert overview.references == ids
    assert overview.in_reply_to == ids[-1:]
    assert b"=?" not in raw


def test_html_comes_with_text_and_its_images() -> None:
    image = Enclosure("logo.png", "image/png", b"\x89PNG", content_id="logo@example.com")
    paper = Enclosure("été.pdf", "application/pdf", b"%PDF")
    draft = replace(DRAFT, text=None, html='<p>Hello <img src="cid:logo@example.com"></p>', enclosures=(image, paper))

    root = parse_structure(compose(draft)).structure

    assert [(part.section, part.media_type) for part in root.walk()] == [
        ("", "multipart/mixed"),
        ("1", "multipart/alternative"),
        ("1.1", "text/plain"),
        ("1.2", "multipart/related"),
        ("1.2.1", "text/html"),
        ("1.2.2", "image/png"),
        ("2", "application/pdf"),
    ]
    message = parsed(draft)
    text = message.get_body(("plain",))
    assert text is not None
    assert text.get_content().strip() == "Hello"
    assert [part.get_filename() for part in message.iter_attachments()] == ["été.pdf"]


def test_an_enclosure_is_written_as_it_comes() -> None:
    asked = []

    def content() -> Iterator[bytes]:
        for index in range(50):
            asked.append(index)
            yield bytes([index]) * 40_000

    pieces = compose_pieces(replace(DRAFT, enclosures=(Enclosure("big.bin", "application/octet-stream", content()),)))
    first = b""
    while len(first) < 100_000:
        first += next(pieces)

    assert len(asked) < 10
    message = email.message_from_bytes(first + b"".join(pieces), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    attached = next(message.iter_attachments())
    assert attached.get_content() == b"".join(bytes([index]) * 40_000 for index in range(50))


@pytest.mark.parametrize(
    ("raw", "encoding"), [(b"Subject: x\r\n\r\nHi\r\n", "7bit"), (b"Subject: \xc3\xbc\r\n\r\nHi\r\n", "8bit")]
)
def test_a_forwarded_message_is_enclosed_as_it_is(raw: bytes, encoding: str) -> None:
    draft = replace(DRAFT, enclosures=(Enclosure("x.eml", "message/rfc822", raw),))
    composed = compose(draft)

    enclosed = choose_body(parse_structure(composed).structure).attachments[0]

    assert (enclosed.media_type, enclosed.encoding) == ("message/rfc822", encoding)
    assert raw in composed


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"subject": "a\r\nBcc: x@y.example"}, "/subject"),
        ({"subject": "a\nb"}, "/subject"),
        ({"subject": "a\x00b"}, "/subject"),
        ({"from_": Address("A\r\nBcc: x", "a@b.example")}, "/from/name"),
        ({"from_": Address("", "a@b.example\r\nX: y")}, "/from/address"),
        ({"to": (BOB, Address("x", "nobody"))}, "/to/1/address"),
        ({"cc": (Address("x\n", "a@b.example"),)}, "/cc/0/name"),
        ({"bcc": (Address("x", "a@b@c"),)}, "/bcc/0/address"),
        ({"reply_to": (Address("x\r", "a@b.example"),)}, "/reply_to/0/name"),
        ({"message_id": "<a@b>\r\nX: y"}, "/message_id_header"),
        ({"references": ("<a@b>", "x\r\n")}, "/references/1"),
        ({"in_reply_to": ("<a\n@b>",)}, "/in_reply_to/0"),
        ({"headers": (("X-A", "1"), ("Bcc", "a@b.example"))}, "/headers/1/name"),
        ({"headers": (("X-A", "1\r\nBcc: 2"),)}, "/headers/0/value"),
        ({"enclosures": (Enclosure("a\r\nb", "text/plain", b""),)}, "/attachments/0/filename"),
        ({"enclosures": (Enclosure("a", "text/plain\r\nX: y", b""),)}, "/attachments/0/content_type"),
        ({"enclosures": (Enclosure("a", "multipart/mixed", b""),)}, "/attachments/0/content_type"),
        ({"enclosures": (Enclosure("a", "nonsense", b""),)}, "/attachments/0/content_type"),
        ({"enclosures": (Enclosure("a", "a/b", b"", content_id="x>\r\n"),)}, "/attachments/0/content_id"),
        ({"to": tuple(Address("", f"u{index}@b.example") for index in range(1_001))}, "/to"),
        ({"enclosures": (Enclosure("a", "a/b", b""),) * 501}, "/attachments"),
    ],
)
def test_nothing_can_be_smuggled_into_a_header(change: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        compose(replace(DRAFT, **change))  # type: ignore[arg-type]

    assert raised.value.faults[0].pointer == pointer


def test_no_bare_cr_or_lf_leaves() -> None:
    draft = replace(DRAFT, text="a\rb\nc\r\n.\r\nd", html="<p>\r\n.\n</p>", headers=(("X-A", "ü" * 100),))

    raw = compose(draft)

    assert raw.count(b"\r") == raw.count(b"\n") == raw.count(b"\r\n")


def test_a_text_cannot_hold_the_boundary() -> None:
    draft = replace(DRAFT, html="<p>x</p>")
    boundary = parse_structure(compose(draft)).structure.param("boundary")

    raw = compose(replace(draft, text=f"--{boundary}--\n", message_id="<other@example.com>"))

    assert [part.section for part in parse_structure(raw).structure.walk()] == ["", "1", "2"]


@given(st.text(max_size=80), st.text(max_size=40), st.text(max_size=300))
def test_any_draft_is_refused_or_comes_back(subject: str, name: str, text: str) -> None:
    draft = replace(DRAFT, subject=subject, to=(Address(name, "bob@example.org"),), text=text)
    try:
        raw = compose(draft)
    except InvalidRequest:
        return

    overview = parse_structure(raw).overview
    assert raw.count(b"\r\n\r\n", 0, raw.index(b"MIME-Version")) == 0
    assert overview.to[0].address == "bob@example.org"
    assert "".join(overview.subject.split()) == "".join(subject.split())


@pytest.mark.parametrize(
    ("part", "content_type", "content_id"),
    [
        (BodyPart("2", "text/plain", (("charset", "iso-8859-1"),)), "text/plain; charset=iso-8859-1", None),
        (BodyPart("2", "text/plain", (("charset", "x\r\ny"),)), "text/plain", None),
        (BodyPart("2", "image/png", content_id="<a@b>"), "image/png", "a@b"),
        (BodyPart("2", "image/png", content_id="<a b\udce9>"), "image/png", None),
        (BodyPart("2", "nonsense"), "application/octet-stream", None),
        (BodyPart("2", "multipart/mixed"), "application/octet-stream", None),
    ],
)
def test_whatever_was_received_can_be_sent_on(part: BodyPart, content_type: str, content_id: str | None) -> None:
    enclosure = enclosure_of(part, b"x")

    assert (enclosure.content_type, enclosure.content_id) == (content_type, content_id)
    assert compose(replace(DRAFT, enclosures=(enclosure,)))
