from __future__ import annotations

from dataclasses import replace

import pytest
from app.mail.types import BodyPart, Envelope, EnvelopeAddress
from app.wire.imap import render
from app.wire.imap.fetch import parse_fetch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wire.imap.streams import responses

# Surrogate-escaped bytes may not happen to spell UTF-8, or they come back as the character that they are.
RAW_TEXT = st.binary(max_size=30).map(lambda raw: raw.replace(b"\x00", b"").decode("utf-8", "surrogateescape"))
NSTRING = st.none() | RAW_TEXT
ADDRESS = st.builds(EnvelopeAddress, NSTRING, NSTRING, NSTRING, NSTRING)
ADDRESSES = st.lists(ADDRESS, max_size=3).map(tuple)
ENVELOPE = st.builds(
    Envelope,
    *(NSTRING, NSTRING),
    *(ADDRESSES, ADDRESSES, ADDRESSES, ADDRESSES, ADDRESSES, ADDRESSES),
    *(NSTRING, NSTRING),
)
LOWER = st.text("abcxyz-", min_size=1, max_size=8)
PAIRS = st.lists(st.tuples(LOWER, RAW_TEXT), max_size=3).map(tuple)


def leaf(main: str) -> st.SearchStrategy[BodyPart]:
    return st.builds(
        BodyPart,
        section=st.just(""),
        media_type=LOWER.map(lambda sub: f"{main}/{sub}"),
        params=PAIRS,
        content_id=NSTRING,
        description=NSTRING,
        encoding=LOWER,
        size_bytes=st.integers(0, 2**40),
        lines=st.integers(0, 1000) if main == "text" else st.none(),
        md5=NSTRING,
        disposition=st.none() | LOWER,
        language=st.lists(LOWER, max_size=3).map(tuple),
        location=NSTRING,
    )


def above(children: st.SearchStrategy[BodyPart]) -> st.SearchStrategy[BodyPart]:
    multipart = st.builds(
        BodyPart,
        section=st.just(""),
        media_type=LOWER.map(lambda sub: f"multipart/{sub}"),
        params=PAIRS,
        language=st.lists(LOWER, max_size=2).map(tuple),
        children=st.lists(children, min_size=1, max_size=3).map(tuple),
    )
    message = st.builds(
        BodyPart,
        section=st.just(""),
        media_type=st.just("message/rfc822"),
        lines=st.integers(0, 9),
        envelope=ENVELOPE,
        children=st.tuples(children),
    )
    return multipart | message


STRUCTURE = st.recursive(leaf("text") | leaf("image"), above, max_leaves=6)


def without_sections(part: BodyPart) -> BodyPart:
    return replace(part, section="", children=tuple(without_sections(child) for child in part.children))


@given(ENVELOPE)
def test_an_envelope_that_we_write_is_the_one_that_a_client_reads(envelope: Envelope) -> None:
    (response,) = responses(b"* 1 FETCH (ENVELOPE %b)\r\n" % render.envelope(envelope))

    assert parse_fetch(response).envelope == envelope


@given(STRUCTURE)
def test_a_structure_that_we_write_is_the_one_that_a_client_reads(structure: BodyPart) -> None:
    (response,) = responses(b"* 1 FETCH (BODYSTRUCTURE %b)\r\n" % render.structure(structure))

    found = parse_fetch(response).structure

    assert found is not None
    assert without_sections(found) == structure


def test_body_is_bodystructure_without_its_extension() -> None:
    part = BodyPart("1", "text/plain", (("charset", "utf-8"),), size_bytes=10, lines=2, disposition="inline", md5="x")

    assert render.structure(part, is_extended=False) == b'("text" "plain" ("charset" "utf-8") NIL NIL "7bit" 10 2)'
    assert render.structure(part).endswith(b' 10 2 "x" ("inline" NIL) NIL NIL)')


def test_a_multipart_without_parts_is_said_to_hold_an_empty_text() -> None:
    written = render.structure(BodyPart("", "multipart/mixed"))

    assert written.startswith(b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL) "mixed"')


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("", b'""'),
        ("a b", b'"a b"'),
        ('say "hi" \\ {5}', b'"say \\"hi\\" \\\\ {5}"'),
        ("é", b"{2}\r\n\xc3\xa9"),
        ("\udcff", b"{1}\r\n\xff"),
        ("a\r\nb", b"{4}\r\na\r\nb"),
        ("a\n", b"{2}\r\na\n"),
        (b"a\n", b"{2}\r\na\n"),
        ("a\x00b", b"{5}\r\na\xef\xbf\xbdb"),
        ("\ttab", b"{4}\r\n\ttab"),
        (b'"', b'"\\""'),
    ],
)
def test_a_string_stands_in_quotes_only_where_it_may(value: str | bytes, written: bytes) -> None:
    assert render.string(value) == written


def test_nil_is_no_string() -> None:
    assert render.nstring(None) == b"NIL"
    assert render.nstring("NIL") == b'"NIL"'
