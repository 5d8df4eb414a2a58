from __future__ import annotations

from time import process_time

import pytest
from app.errors import ServerProtocolError
from app.mail.types import SEEN, Envelope, EnvelopeAddress
from app.wire.imap.fetch import FetchedMessage, is_fetch, parse_fetch
from app.wire.imap.framing import Response, StreamedLiteral
from hypothesis import given
from hypothesis import strategies as st

from tests.cpu import assert_linear
from tests.unit.wire.imap.streams import responses

REFERENCES = b"References: <a1@example.com>\r\n\r\n"
LISTED = (
    rb"* 7 FETCH (UID 41 FLAGS (\seen \Recent NonJunk) "
    b'INTERNALDATE "12-Mar-2024 10:11:12 +0100" RFC822.SIZE 24311 MODSEQ (77) '
    b'ENVELOPE ("Tue, 12 Mar 2024 10:11:12 +0100" "buy 2* now * or 3* :-) (x" '
    b'(("Ann" NIL "ann" "example.com")) (("Ann" NIL "ann" "example.com")) (("Ann" NIL "ann" "example.com")) '
    b'((NIL NIL "team" NIL)("Bob" NIL "bob" "example.org")(NIL NIL NIL NIL)) NIL NIL NIL "<b2@example.com>") '
    b'BODYSTRUCTURE ((("text" "plain" ("charset" "utf-8") NIL NIL "quoted-printable" 1021 31 NIL NIL NIL NIL)'
    b'("TEXT" "HTML" NIL NIL NIL "8BIT" 5021 131) "alternative" ("boundary" "xyz") NIL NIL NIL)'
    b'("application" "pdf" ("name" "a.pdf") NIL NIL "base64" 15000 NIL ("attachment" ("FileName" "a.pdf")) NIL NIL) '
    b'"mixed" ("boundary" "abc") NIL ("en" "de") NIL) '
    b"BODY[HEADER.FIELDS (REFERENCES)] {%d}\r\n%b)\r\n" % (len(REFERENCES), REFERENCES)
)


def fetched(text: bytes) -> FetchedMessage:
    (response,) = responses(text)
    return parse_fetch(response)


def test_a_row_of_a_list_is_read_with_its_types() -> None:
    message = fetched(LISTED)
    ann = (EnvelopeAddress("Ann", None, "ann", "example.com"),)
    group = EnvelopeAddress(None, None, "team", None), EnvelopeAddress("Bob", None, "bob", "example.org")

    assert (message.sequence, message.uid, message.size_bytes, message.modseq) == (7, 41, 24_311, 77)
    assert message.flags == frozenset({"\\Seen", "NonJunk"})
    assert message.is_recent
    assert message.internal_date_ms == 1_710_234_672_000
    assert message.sections == {"HEADER.FIELDS (REFERENCES)": REFERENCES}
    assert message.envelope == Envelope(
        "Tue, 12 Mar 2024 10:11:12 +0100",
        "buy 2* now * or 3* :-) (x",
        ann,
        ann,
        ann,
        (*group, EnvelopeAddress(None, None, None, None)),
        message_id="<b2@example.com>",
    )


def test_parts_have_the_numbers_that_fetch_them() -> None:
    structure = fetched(LISTED).structure

    assert structure is not None
    assert [(part.section, part.media_type, part.size_bytes, part.lines) for part in structure.walk()] == [
        ("", "multipart/mixed", 0, None),
        ("1", "multipart/alternative", 0, None),
        ("1.1", "text/plain", 1021, 31),
        ("1.2", "text/html", 5021, 131),
        ("2", "application/pdf", 15_000, None),
    ]
    assert structure.children[1].disposition == "attachment"
    assert structure.children[1].disposition_params == (("filename", "a.pdf"),)
    assert structure.language == ("en", "de")


def test_an_embedded_message_numbers_its_parts_below_its_own() -> None:
    inner = b'(("text" "plain" NIL NIL NIL "7bit" 5 1)("text" "html" NIL NIL NIL "7bit" 5 1) "mixed")'
    envelope = b'(NIL "inner" NIL NIL NIL NIL NIL NIL NIL NIL)'
    rfc822 = b'("message" "rfc822" NIL NIL NIL "7bit" 300 %b %b 12)' % (envelope, inner)
    lone = b'("message" "rfc822" NIL NIL NIL "7bit" 30 %b ("text" "plain" NIL NIL NIL "7bit" 5 1) 3)' % envelope

    structure = fetched(b"* 1 FETCH (BODYSTRUCTURE (%b%b%b))\r\n" % (rfc822, lone, b' "mixed"')).structure

    assert structure is not None
    assert [part.section for part in structure.walk()] == ["", "1", "1.TEXT", "1.1", "1.2", "2", "2.1"]
    assert structure.children[0].envelope == Envelope(subject="inner")
    assert structure.children[0].lines == 12


@pytest.mark.parametrize(
    "rest", [b"", b" NIL", b' NIL ("attachment" ("filename" "a.eml"))', b' NIL ("attachment" ("filename" "a")) NIL NIL']
)
def test_a_message_part_without_its_structure_is_a_plain_part(rest: bytes) -> None:
    structure = fetched(b'* 1 FETCH (BODY ("message" "rfc822" NIL NIL NIL "7bit" 300%b))\r\n' % rest).structure

    assert structure is not None
    assert (structure.section, structure.children, structure.envelope) == ("1", (), None)


def test_what_servers_say_against_the_grammar_of_bodystructure_is_read() -> None:
    """NIL sizes and types, a bare disposition, an odd parameter, NIL where a string belongs."""
    structure = fetched(b'* 1 FETCH (BODYSTRUCTURE (NIL NIL ("NAME") NIL NIL NIL NIL NIL "inline" "en"))\r\n').structure

    assert structure is not None
    assert structure.media_type == "application/octet-stream"
    assert structure.params == (("name", ""),)
    assert (structure.encoding, structure.size_bytes) == ("7bit", 0)
    assert (structure.disposition, structure.language) == ("inline", ("en",))


def test_bodies_are_bytes_whatever_form_they_came_in() -> None:
    streamed = StreamedLiteral(1, 70_000)
    text = b"* 1 FETCH (BODY[]<0> ", b'"(\x00\xff', b' BODY[1] "abc" body[2] NIL BODY[3] ', streamed, b" RFC822.HEADER "
    message = parse_fetch(Response((*text, b"H", b' BINARY[4] "x" BINARY.SIZE[4] 9 X-NEW ((1) 2))')))

    assert message.sections == {"<0>": b'"(\x00\xff', "1": b"abc", "2": None, "3": streamed, "HEADER": b"H"}
    assert message.binary == {"4": b"x"}
    assert message.binary_sizes == {"4": 9}


def test_ids_labels_and_previews_are_read() -> None:
    message = fetched(
        b"* 1 FETCH (X-GM-MSGID 1278455344230334865 X-GM-THRID 1266894439832287888 "
        b'X-GM-LABELS ("\\\\Inbox" Work "a b") EMAILID (M6d99) THREADID NIL PREVIEW "Hello" SAVEDATE NIL)\r\n'
    )

    assert (message.gmail_message_id, message.gmail_thread_id) == (1278455344230334865, 1266894439832287888)
    assert message.gmail_labels == ("\\Inbox", "Work", "a b")
    assert (message.email_id, message.thread_id) == ("M6d99", None)
    assert (message.preview, message.save_date_ms) == ("Hello", None)


def test_one_broken_date_does_not_hide_a_message() -> None:
    assert fetched(b'* 1 FETCH (UID 4 INTERNALDATE "soon")\r\n').uid == 4


@pytest.mark.parametrize(
    "text",
    [
        b"* 1 FETCH UID",
        b"* 1 FETCH (UID 1",
        b"* 1 FETCH ((1) 2)",
        b"* 1 FETCH (BODYSTRUCTURE " + b"(" * 5_000 + b")" * 5_000 + b")",
    ],
)
def test_a_response_that_breaks_the_grammar_is_a_protocol_error(text: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        parse_fetch(Response((text,)))


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("MODSEQ", b"MODSEQ (x)"),
        ("ENVELOPE", b"ENVELOPE (NIL)"),
        ("ENVELOPE", b"ENVELOPE (NIL NIL ((NIL)) NIL NIL NIL NIL NIL NIL NIL)"),
        ("BODYSTRUCTURE", b"BODYSTRUCTURE ()"),
        ("BODYSTRUCTURE", b"BODYSTRUCTURE (())"),
        ("BODYSTRUCTURE", b'BODYSTRUCTURE "x"'),
        ("BODYSTRUCTURE", b'BODYSTRUCTURE ("TEXT" "PLAIN" NIL NIL "a" "b" "7BIT" 12 1)'),
        ("RFC822.SIZE", b"RFC822.SIZE many"),
        ("BODY[]", b"BODY[] (1)"),
    ],
)
def test_an_item_that_cannot_be_read_costs_its_message_nothing_else(item: str, text: bytes) -> None:
    message = fetched(b"* 1 FETCH (UID 4 " + text + b" FLAGS (\\Seen))\r\n")

    assert (message.uid, message.flags, message.unread) == (4, frozenset({SEEN}), [item])


@pytest.mark.parametrize(
    ("date", "milliseconds"),
    [
        (b'" 1-Jul-2025 08:00:00 +0000"', 1_751_356_800_000),
        (b'"1-Jul-2025 8:00:00 +0000"', 1_751_356_800_000),
        (b'"1-Jul-2025 08:00:00"', 1_751_356_800_000),
        (b'"1-Jul-2025 08:00:00 GMT"', 1_751_356_800_000),
        (b'"1-Jul-2025 10:00:00 +02:00"', 1_751_356_800_000),
        (b'"00-Jan-0000 00:00:00 +0000"', None),
        (b"NIL", None),
        (b"(x)", None),
    ],
)
def test_an_internaldate_is_read_as_servers_write_it(date: bytes, milliseconds: int | None) -> None:
    assert fetched(b"* 1 FETCH (INTERNALDATE " + date + b")\r\n").internal_date_ms == milliseconds


@pytest.mark.parametrize(
    ("description", "read"),
    [(b'""""', '""'), (b'"a "quoted"."', 'a "quoted".'), (b'"say \\"hi\\""', 'say "hi"'), (b'""', "")],
)
def test_a_quotation_mark_amid_a_string_shifts_no_field(description: bytes, read: str) -> None:
    text = b'* 1 FETCH (BODYSTRUCTURE ("APPLICATION" "PDF" NIL NIL ' + description + b' "BASE64" 40))\r\n'
    structure = fetched(text).structure

    assert structure is not None
    assert (structure.description, structure.encoding, structure.size_bytes) == (read, "base64", 40)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b'"" "" NIL NIL NIL "" 13 NIL NIL NIL NIL', "text/plain"),
        (b"NIL NIL NIL NIL NIL NIL 13", "text/plain"),
        (b'"" "" ("NAME" "a.bin") NIL NIL "BASE64" 13', "application/octet-stream"),
        (b'"TEXT" "" NIL NIL NIL "7BIT" 13 1', "text/plain"),
        (b'"" "PDF" NIL NIL NIL "BASE64" 13', "application/pdf"),
    ],
)
def test_a_part_without_a_type_is_plain_text_unless_it_has_a_name(body: bytes, media_type: str) -> None:
    structure = fetched(b"* 1 FETCH (BODYSTRUCTURE (" + body + b"))\r\n").structure

    assert structure is not None
    assert (structure.media_type, structure.size_bytes) == (media_type, 13)


@given(st.text('() "\\{}[]BODY1NIL.*<>', max_size=80), st.binary(max_size=20))
def test_any_items_are_read_or_a_protocol_error(items: str, literal: bytes) -> None:
    try:
        parse_fetch(Response((b"* 1 FETCH (BODYSTRUCTURE " + items.encode(), literal, b")")))
    except ServerProtocolError:
        return


def test_a_fetch_response_is_known_without_parsing_it() -> None:
    assert is_fetch(Response((b"* 12 fetch (UID 1)",)))
    assert not is_fetch(Response((b"* 12 EXISTS",)))


def test_three_thousand_rows_in_one_read_are_linear() -> None:
    def read(count: int) -> None:
        assert len([parse_fetch(response) for response in responses(LISTED * count)]) == count

    assert_linear(read, 300)


def test_fifty_rows_take_a_few_milliseconds() -> None:
    stream = LISTED * 50
    fastest = 1.0
    for _ in range(20):
        start = process_time()
        rows = [parse_fetch(response) for response in responses(stream)]
        fastest = min(fastest, process_time() - start)

    assert len(rows) == 50
    assert fastest < 0.03, f"50 rows took {fastest * 1000:.1f} ms; 3 to 5 on an idle core"
