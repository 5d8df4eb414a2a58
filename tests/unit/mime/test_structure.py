"""The skeleton of a message."""

from __future__ import annotations

from pathlib import Path

import pytest
from app.mail.types import BodyPart
from app.mime.structure import (
    MAX_ATTACHED_ADDRESSES,
    MAX_DEPTH,
    MAX_PART_HEADER_BYTES,
    MAX_PARTS,
    parse_structure,
)
from hypothesis import given
from hypothesis import strategies as st

CORPUS = Path(__file__).parents[2] / "corpus" / "mime"
ALTERNATIVE = (
    b"Subject: Hi\r\nContent-Type: multipart/alternative; boundary=b\r\n\r\npreamble\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\none\r\ntwo\r\n"
    b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>one</p>\r\n--b--\r\nepilogue\r\n"
)
PIECES = (
    *(b"--x", b"--x--", b"--y", b"--y--", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"text", b"\xff\x00"),
    *(b"Content-Type: multipart/mixed; boundary=x\r\n", b"Content-Type: multipart/digest; boundary=y\n"),
    *(b"Content-Type: message/rfc822\r\n", b"Content-Type: text\r\n", b"Content-Type: multipart/mixed\n"),
    *(b'From: "a <b@c>, (d', b"Subject: =?utf-8?b?4pyT?=", b"Content-Disposition: x; filename*0*=a'b'%41; f*1=b\n"),
)


def body(data: bytes, part: BodyPart) -> bytes:
    assert part.span is not None
    return data[part.span[1] : part.span[2]]


def check_tree(data: bytes, root: BodyPart) -> None:
    """What holds of every skeleton: parts lie within their parents, sections are unique, counts are of the bytes."""
    sections = [part.section for part in root.walk()]
    assert len(sections) == len(set(sections))
    for part in root.walk():
        assert part.span is not None
        start, body_start, end = part.span
        assert 0 <= start <= body_start <= end <= len(data)
        for child in part.children:
            assert child.span is not None
            assert body_start <= child.span[0]
            assert child.span[2] <= end
        if not part.is_multipart:
            assert part.size_bytes == end - body_start
        if part.lines is not None:
            assert part.lines == data[body_start:end].count(b"\n" if b"\n" in data else b"\r")


def test_a_message_without_mime_is_one_text_part() -> None:
    data = b"Subject: Hi\r\n\r\nHello\r\nthere\r\n"

    part = parse_structure(data).structure

    assert (part.section, part.media_type, part.params) == ("1", "text/plain", (("charset", "us-ascii"),))
    assert (part.size_bytes, part.lines, part.encoding) == (14, 2, "7bit")
    assert body(data, part) == b"Hello\r\nthere\r\n"


def test_the_line_end_before_a_boundary_is_not_the_parts() -> None:
    root = parse_structure(ALTERNATIVE).structure

    assert [body(ALTERNATIVE, part) for part in root.children] == [b"one\r\ntwo", b"<p>one</p>"]
    assert [part.lines for part in root.children] == [1, 0]


def test_the_header_block_ends_with_its_blank_line() -> None:
    parsed = parse_structure(ALTERNATIVE)

    assert parsed.header_block.endswith(b"boundary=b\r\n\r\n")
    assert parsed.problems == ()


def test_bare_lf_has_the_same_parts() -> None:
    data = ALTERNATIVE.replace(b"\r\n", b"\n")

    assert [body(data, part) for part in parse_structure(data).structure.children] == [b"one\ntwo", b"<p>one</p>"]


def test_sections_are_numbered_as_imap_numbers_them() -> None:
    root = parse_structure((CORPUS / "mailman-digest.eml").read_bytes()).structure

    numbered = [(part.section, part.media_type) for part in root.walk()]

    assert numbered == [
        ("", "multipart/mixed"),
        ("1", "text/plain"),
        ("2", "multipart/digest"),
        ("2.1", "message/rfc822"),
        ("2.1.1", "text/plain"),
        ("2.2", "message/rfc822"),
        ("2.2.TEXT", "multipart/alternative"),
        ("2.2.1", "text/plain"),
        ("2.2.2", "text/html"),
    ]


def test_an_attached_message_shows_its_envelope_and_counts_its_lines() -> None:
    data = (CORPUS / "postfix-bounce.eml").read_bytes()

    returned = parse_structure(data).structure.children[2]

    assert returned.envelope is not None
    assert returned.envelope.subject == "Hello"
    assert returned.lines == body(data, returned).count(b"\n")


def test_a_boundary_that_begins_another_is_not_mistaken_for_it() -> None:
    data = (CORPUS / "apple-mail-inline-pdf.eml").read_bytes()

    types = [part.media_type for part in parse_structure(data).structure.children]

    assert types == ["text/plain", "multipart/related", "application/pdf", "text/plain"]


def test_an_inner_multipart_may_use_its_parents_boundary() -> None:
    head = b"Content-Type: multipart/mixed; boundary=x\n\n--x\n"
    data = head + head + b"\na\n--x--\n--x\n\nb\n"

    root = parse_structure(data).structure

    assert [part.section for part in root.walk()] == ["", "1", "1.1", "2"]


def test_a_boundary_before_the_blank_line_ends_the_part() -> None:
    data = b"Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/html\n--x\n\nb\n--x--\n"

    first, second = parse_structure(data).structure.children

    assert (first.media_type, body(data, first)) == ("text/html", b"")
    assert body(data, second) == b"b"


def test_an_outer_boundary_ends_all_that_is_open_inside() -> None:
    data = (
        b"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/mixed; boundary=i\n\n--i\n\na\n"
        b"--o\n\nb\n--o--\n"
    )

    root = parse_structure(data).structure

    assert [body(data, part) for part in root.walk() if not part.is_multipart] == [b"a", b"b"]


@pytest.mark.parametrize("name", ["no-boundary.eml", "truncated.eml"])
def test_a_broken_multipart_keeps_its_words_and_says_why(name: str) -> None:
    data = (CORPUS / name).read_bytes()

    parsed = parse_structure(data)

    assert parsed.problems
    assert parsed.structure.children[0].media_type == "text/plain"
    assert body(data, parsed.structure.children[0])


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n", b"\r", b"no header at all", b"A: b", b"\xff\xfe", b"--x"])
def test_any_bytes_are_a_message(data: bytes) -> None:
    parsed = parse_structure(data)

    check_tree(data, parsed.structure)


def test_a_memoryview_is_taken() -> None:
    assert parse_structure(memoryview(ALTERNATIVE)) == parse_structure(ALTERNATIVE)


@pytest.mark.parametrize(
    ("value", "media_type"),
    [
        (b"text", "text/plain"),
        (b"TEXT/Html", "text/html"),
        (b"nonsense", "text/plain"),
        (b"pdf; name=a.pdf", "application/octet-stream"),
        (b"", "text/plain"),
        (b" ; charset=utf-8", "text/plain"),
        (b"text/html; charset=utf-8\nContent-Type: text/plain", "text/html"),
        (b"image / png ; name=x", "image/png"),
    ],
)
def test_a_content_type_that_is_none_has_a_default(value: bytes, media_type: str) -> None:
    assert parse_structure(b"Content-Type: " + value + b"\n\nx").structure.media_type == media_type


def test_a_message_of_too_many_parts_is_read_up_to_the_limit_and_says_so() -> None:
    data = b"Content-Type: multipart/mixed; boundary=x\n\n" + b"--x\n\na\n" * (MAX_PARTS + 500)

    parsed = parse_structure(data)

    assert sum(1 for _ in parsed.structure.walk()) == MAX_PARTS
    assert any(str(MAX_PARTS) in problem for problem in parsed.problems)


def test_the_headers_of_all_parts_together_are_bounded() -> None:
    part = b"--x\nContent-Type: text/plain; name=%b\n\na\n" % (b"n" * 10_000)
    data = b"Content-Type: multipart/mixed; boundary=x\n\n" + part * 200

    parsed = parse_structure(data)

    named = [child for child in parsed.structure.children if child.params and child.params[0][0] == "name"]
    assert len(parsed.structure.children) == 200
    assert len(named) * 10_000 <= MAX_PART_HEADER_BYTES < (len(named) + 1) * 10_100
    assert {child.media_type for child in parsed.structure.children[len(named) :]} == {"application/octet-stream"}
    assert any("headers of parts" in problem for problem in parsed.problems)


def test_the_addresses_of_all_attached_messages_together_are_bounded() -> None:
    attached = b"--x\nContent-Type: message/rfc822\n\nTo: %b\n\na\n" % (b"a@b," * 900)
    data = b"Content-Type: multipart/mixed; boundary=x\n\n" + attached * 5

    parsed = parse_structure(data)

    told = [len(child.envelope.to) for child in parsed.structure.children if child.envelope is not None]
    assert told == [900, 900, 0, 0, 0]
    assert 1_800 <= MAX_ATTACHED_ADDRESSES < 2_700
    assert any("attached message was not read" in problem for problem in parsed.problems)


@pytest.mark.parametrize("depth", [200, 5_000])
@pytest.mark.parametrize("kind", ["multipart", "message"])
def test_nesting_of_200_and_5_000_is_bounded(depth: int, kind: str) -> None:
    level = b"Content-Type: multipart/mixed; boundary=x%d\n\n--x%d\n"
    data = b"".join(
        level % (index, index) if kind == "multipart" else b"Content-Type: message/rfc822\n\n" for index in range(depth)
    )

    parsed = parse_structure(data)

    check_tree(data, parsed.structure)
    assert sum(1 for _ in parsed.structure.walk()) <= MAX_DEPTH + 2
    assert any("deep" in problem for problem in parsed.problems)


def test_a_20_mb_header_is_bounded() -> None:
    parsed = parse_structure(b"To: a@b.example\r\n" * 1_200_000 + b"\r\nbody")

    assert 0 < len(parsed.envelope.to) <= 20_000
    assert any("header" in problem for problem in parsed.problems)


def test_headers_of_attached_messages_share_one_bound() -> None:
    one = b"--x\nContent-Type: message/rfc822\n\nTo: " + b"a@b.example, " * 1_000 + b"\n\n\n"

    parsed = parse_structure(b"Content-Type: multipart/mixed; boundary=x\n\n" + one * 500)

    assert any("attached" in problem for problem in parsed.problems)


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join))
def test_pieces_of_mime_in_any_order_make_a_sound_tree(data: bytes) -> None:
    check_tree(data, parse_structure(data).structure)


@given(st.binary(max_size=500))
def test_random_bytes_make_a_sound_tree(data: bytes) -> None:
    check_tree(data, parse_structure(data).structure)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.eml")), ids=lambda path: path.stem)
def test_every_prefix_of_a_real_message_makes_a_sound_tree(path: Path) -> None:
    data = path.read_bytes()

    for size in range(0, len(data), 7):
        check_tree(data[:size], parse_structure(data[:size]).structure)


def test_a_multiparts_delimiter_ends_a_header_that_lacks_its_blank_line() -> None:
    data = (
        b"Subject: x\nContent-Type: multipart/alternative; boundary=b\nX-Folded: a\n b\n--b\n"
        b"Content-Type: text/plain\n\nplain\n--b\nContent-Type: text/html\n\n<p>html\n--b--\n"
    )

    parsed = parse_structure(data)

    assert [part.media_type for part in parsed.structure.children] == ["text/plain", "text/html"]
    assert parsed.header_block.endswith(b"X-Folded: a\n b\n")
    check_tree(data, parsed.structure)


@pytest.mark.parametrize(
    ("value", "boundary"),
    [
        (b"boundary*0*=us-ascii''%3D_8853bf; boundary*1*=24f3", b"=_8853bf24f3"),
        (b"boundary*=us-ascii'en'a%20b", b"a b"),
        (b"boundary*0=ab; boundary*1=cd", b"abcd"),
    ],
)
def test_a_boundary_may_be_written_as_rfc_2231_has_parameters(value: bytes, boundary: bytes) -> None:
    data = (
        b"Subject: s\nContent-Type: multipart/mixed; "
        + value
        + b"\n\n--"
        + boundary
        + b"\n\none\n--"
        + boundary
        + b"--\n"
    )

    parsed = parse_structure(data)

    assert [part.size_bytes for part in parsed.structure.children] == [3]
    assert parsed.problems == ()


@pytest.mark.parametrize(
    ("part", "body"),
    [
        (b"hello\n\nsecond", b"hello\n\nsecond"),
        (b"Content-Type: text/html\n<p>hello</p>\n\nsecond", b"<p>hello</p>\n\nsecond"),
        (b"Content-Type: text/html\n\nhello\n\nsecond", b"hello\n\nsecond"),
        (b"\nhello", b"hello"),
    ],
)
def test_text_of_a_part_without_a_blank_line_is_not_lost_in_its_header(part: bytes, body: bytes) -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" + part + b"\n--b--\n"

    (child,) = parse_structure(data).structure.children

    assert child.span is not None
    assert data[child.span[1] : child.span[2]] == body


def test_a_message_without_a_header_is_all_text() -> None:
    data = b"hello there\n\nworld\n"

    parsed = parse_structure(data)

    assert parsed.structure.size_bytes == len(data)
    assert parse_structure(b"From a@b Mon Jan  1 00:00:00 2024\nSubject: s\n\nhi\n").overview.subject == "s"


@pytest.mark.parametrize(
    "value",
    [
        b"multipart/mixed",
        b'multipart/mixed; boundary=""',
        b"multipart/mixed; boundary='b'",
        b"multipart/mixed, boundary=b",
        b"multipart/mixed boundary=b",
        b"multipart/mixed;\nboundary=b",
        b"multipart/mixed; boundary=other",
    ],
)
def test_the_boundary_of_a_message_that_does_not_name_it_is_found_in_its_lines(value: bytes) -> None:
    data = b"Content-Type: " + value + b"\n\npreamble\n-- \n--b\nContent-Type: text/html\n\nhi\n--b\n\nyou\n--b--\n"

    parsed = parse_structure(data)

    assert [body(data, part) for part in parsed.structure.children] == [b"hi", b"you"]
    assert "a multipart has no usable boundary" in parsed.problems


def test_a_boundary_is_guessed_for_the_message_itself_alone() -> None:
    inner = b"Content-Type: multipart/mixed; boundary=x\n\n--c\nContent-Type: text/html\n\nhi\n--c--\n"
    data = b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" + inner + b"--b--\n"

    (child,) = parse_structure(data).structure.children

    assert [part.media_type for part in child.children] == ["text/plain"]


def test_line_ends_of_cr_alone_and_of_cr_cr_lf_end_lines() -> None:
    for line_end in (b"\r", b"\r\r\n"):
        data = line_end.join((b"Subject: s", b"To: a@x.org", b"", b"hello", b""))

        parsed = parse_structure(data)

        assert (parsed.overview.subject, parsed.overview.to[0].address) == ("s", "a@x.org")
        assert body(data, parsed.structure) == b"hello" + line_end


def test_text_of_a_message_without_a_blank_line_is_not_lost_in_its_header() -> None:
    data = b"Subject: s\nTo: a@x.org\nhello there,\nhow are you?\n"

    assert body(data, parse_structure(data).structure) == b"hello there,\nhow are you?\n"


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        (b'"base64"', "base64"),
        (b"Base64; x=1", "base64"),
        (b"Quoted Printable", "quoted-printable"),
        (b"quoted-printable, 8bit", "quoted-printable"),
        (b"8BIT (clean)", "8bit"),
        (b"", "7bit"),
    ],
)
def test_an_encoding_is_known_however_it_is_spelt(value: bytes, encoding: str) -> None:
    assert parse_structure(b"Content-Transfer-Encoding: " + value + b"\n\nx").structure.encoding == encoding


def test_a_disposition_may_lack_its_kind() -> None:
    structure = parse_structure(b"Content-Disposition: filename=a.pdf\n\nx").structure

    assert (structure.disposition, structure.disposition_params) == (None, (("filename", "a.pdf"),))
