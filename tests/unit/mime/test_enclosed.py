"""winmail.dat and calendars: parts inside parts."""

from __future__ import annotations

import base64
import struct

import pytest
from app.mailstore.content import read_content
from app.mime.body import choose_body
from app.mime.enclosed import containers, opened
from app.mime.invitation import MAX_ATTENDEES, read_invitation
from app.mime.names import attachment_name
from app.mime.rtf import inflate_rtf, read_rtf
from app.mime.structure import parse_structure
from app.mime.tnef import MAX_FILES, read_tnef
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.mime.test_cms import ENVELOPED_DATA, element, signed

SIGNATURE = struct.pack("<IH", 0x223E9F78, 1)
NEW_FILE = struct.pack("<BHHIH", 2, 0x9002, 6, 0, 0)


def attribute(level: int, name: int, value: bytes) -> bytes:
    return struct.pack("<BHHI", level, name, 6, len(value)) + value + b"\0\0"


def properties(*entries: tuple[int, int, bytes]) -> bytes:
    """(id, type, value) as MAPI has them; fixed-size values are padded to four bytes."""
    packed = struct.pack("<I", len(entries))
    for name, kind, value in entries:
        packed += struct.pack("<HH", kind, name)
        packed += struct.pack("<II", 1, len(value)) + value + b"\0" * (-len(value) % 4) if kind > 0xC else value
    return packed


def file(*entries: tuple[int, int, bytes], title: bytes = b"", data: bytes = b"") -> bytes:
    parts = NEW_FILE + (attribute(2, 0x8010, title) if title else b"") + (attribute(2, 0x800F, data) if data else b"")
    return parts + (attribute(2, 0x9005, properties(*entries)) if entries else b"")


def message(tnef: bytes, text: bytes = b"") -> bytes:
    encoded = base64.encodebytes(tnef)
    head = b"Subject: s\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\n" + text
    return head + (
        b"\n--b\nContent-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding: base64\n\n"
        + encoded
        + b"--b--\n"
    )


def open_message(content: bytes) -> tuple[list[str], list[str | None], dict[str, bytes]]:
    """Texts, names of attachments, and contents of the parts that were found."""
    structure = parse_structure(content).structure
    spans = {part.section: part.span or (0, 0, 0) for part in containers(structure)}
    found = opened(structure, {section: content[span[1] : span[2]] for section, span in spans.items()})
    choice = choose_body(found.structure)
    texts = [found.contents[part.section].decode() for part in choice.text if part.section in found.contents]
    return texts, [attachment_name(part) for part in choice.attachments], dict(found.contents)


def test_the_text_and_the_files_of_a_winmail_dat_are_those_of_the_message() -> None:
    tnef = (
        SIGNATURE
        + attribute(1, 0x800C, b"The words\0")
        + file(title=b"a.txt\0", data=b"one")
        + file(
            (0x3707, 0x1F, "Übersicht.pdf\0".encode("utf-16-le")), (0x370E, 0x1E, b"application/pdf\0"), data=b"%PDF"
        )
    )

    texts, names, contents = open_message(message(tnef))

    assert (texts, names) == (["The words"], ["a.txt", "Übersicht.pdf"])
    assert [contents[section] for section in ("2.1", "2.2")] == [b"one", b"%PDF"]
    assert read_content(message(tnef), "blob").preview == "The words"


def test_a_text_beside_the_winmail_dat_is_not_shown_twice() -> None:
    tnef = SIGNATURE + attribute(1, 0x800C, b"The words\0") + file(title=b"a.txt\0", data=b"one")

    texts, names, _ = open_message(message(tnef, b"The words"))

    assert (texts, names) == ([], ["a.txt"])


def test_unicode_html_and_code_pages_are_read() -> None:
    tnef = (
        SIGNATURE
        + attribute(1, 0x9007, struct.pack("<I", 1251))
        + attribute(
            1,
            0x9003,
            properties(
                (0x3FDE, 3, struct.pack("<I", 65001)),
                (0x1000, 0x1F, "Привет\0".encode("utf-16-le")),
                (0x1013, 0x102, "<p>Привет</p>".encode()),
            ),
        )
        + file(title="Счёт.txt\0".encode("cp1251"), data=b"x")
    )

    found = read_tnef(tnef)

    assert found is not None
    assert (found.text, found.html, found.files[0].name) == ("Привет", "<p>Привет</p>", "Счёт.txt")


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        (
            attribute(1, 0x800C, "Привет\0".encode("cp1251")) + attribute(1, 0x9007, struct.pack("<II", 1251, 0)),
            "Привет",
        ),
        (
            attribute(1, 0x9007, struct.pack("<II", 20866, 0)) + attribute(1, 0x800C, "Привет".encode("koi8-r")),
            "Привет",
        ),
        (attribute(1, 0x9007, struct.pack("<II", 28592, 0)) + attribute(1, 0x800C, b"\xb3\0"), "ł"),
        (attribute(1, 0x800C, "Привет\0".encode()), "Привет"),
    ],
)
def test_text_is_read_by_the_code_page_wherever_it_is_told_and_guessed_without(attributes: bytes, text: str) -> None:
    found = read_tnef(SIGNATURE + attributes)

    assert found is not None
    assert found.text == text


def test_html_may_name_its_charset_itself() -> None:
    html = "<meta charset=windows-1251>Привет".encode("cp1251")

    found = read_tnef(SIGNATURE + attribute(1, 0x9003, properties((0x1013, 0x102, html))))

    assert found is not None
    assert found.html.endswith("Привет")


def test_a_file_may_lack_its_beginning_and_be_named_by_its_path() -> None:
    found = read_tnef(SIGNATURE + attribute(2, 0x9001, b"C:\\tmp\\a.txt\0") + attribute(2, 0x800F, b"one"))

    assert found is not None
    assert [(one.name, one.content) for one in found.files] == [("C:\\tmp\\a.txt", b"one")]


def test_a_message_inside_a_winmail_dat_is_a_file() -> None:
    inner = SIGNATURE + attribute(1, 0x800C, b"inner\0")

    found = read_tnef(SIGNATURE + file((0x3001, 0x1E, b"Inner message\0"), (0x3701, 0x0D, b"\0" * 16 + inner)))

    assert found is not None
    assert [(one.name, one.media_type, one.content) for one in found.files] == [
        ("Inner message", "application/ms-tnef", inner)
    ]


def test_compressed_rtf_is_inflated_and_read() -> None:
    literal = b"{\\rtf1 hello}"
    tokens = b"".join(b"\x00" + literal[start : start + 8] for start in range(0, len(literal), 8))
    packed = struct.pack("<IIII", len(tokens) + 12, len(literal), 0x75465A4C, 0) + tokens

    assert inflate_rtf(packed) == literal
    assert inflate_rtf(struct.pack("<IIII", 0, 5, 0x414C454D, 0) + b"plain") == b"plain"
    assert inflate_rtf(b"short") == inflate_rtf(b"\0" * 40) == b""


@pytest.mark.parametrize(
    ("rtf", "expected"),
    [
        (rb"{\rtf1{\fonttbl{\f0 Arial;}}\pard Hello \b there\b0\par Caf\'e9}", ("Hello there\nCafé", False)),
        (rb"{\rtf1\ansicpg1251 \'cf\'f0}", ("Пр", False)),
        (rb"{\rtf1 \u8364? \u-10179?\u-8704?}", ("€ 😀", False)),
        (
            rb"{\rtf1\fromhtml1 {\*\htmltag <p>}\htmlrtf {\par\htmlrtf0 Hi\htmlrtf }\htmlrtf0{\*\htmltag </p>}}",
            ("<p>Hi</p>", True),
        ),
        (b"}}}}", ("", False)),
        (b"{" * 2_000 + b"deep", ("deep", False)),
    ],
)
def test_rtf_is_read_as_text_or_as_the_html_in_it(rtf: bytes, expected: tuple[str, bool]) -> None:
    assert read_rtf(rtf) == expected


@given(st.binary(max_size=300))
def test_no_bytes_make_the_readers_fail(data: bytes) -> None:
    read_tnef(SIGNATURE + data)
    read_tnef(SIGNATURE + attribute(1, 0x9003, data) + NEW_FILE + attribute(2, 0x9005, data))
    inflate_rtf(b"\0" * 4 + struct.pack("<II", 4096, 0x75465A4C) + data)
    read_rtf(data)


def test_the_number_of_files_is_bounded() -> None:
    found = read_tnef(SIGNATURE + NEW_FILE * (MAX_FILES * 3))

    assert found is not None
    assert len(found.files) == MAX_FILES


def test_what_is_inside_an_opaque_signature_is_the_message_and_the_signature_stays_a_file() -> None:
    inner = (
        b"Content-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nw=C3=B6rds\r\n--i\r\n"
        b"Content-Type: application/pdf; name=a.pdf\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n--i--\r\n"
    )
    kind = b"application/pkcs7-mime; smime-type=signed-data; name=smime.p7m"
    content = b"Subject: s\nContent-Type: %s\nContent-Transfer-Encoding: base64\n\n%s" % (
        kind,
        base64.encodebytes(signed(element(4, inner))),
    )

    texts, names, contents = open_message(content)

    assert (texts, names) == (["wörds"], ["a.pdf", "smime.p7m"])
    assert contents["1.signed.2"] == b"%PDF"
    assert read_content(content, "blob").preview == "wörds"


@pytest.mark.parametrize("kind", [b"application/pkcs7-mime; smime-type=enveloped-data", b"application/pkcs7-mime"])
def test_what_is_encrypted_stays_closed(kind: bytes) -> None:
    data = base64.encodebytes(signed(element(4, b"words"), kind=ENVELOPED_DATA))
    content = b"Subject: s\nContent-Type: %s\nContent-Transfer-Encoding: base64\n\n%s" % (kind, data)

    texts, _, contents = open_message(content)

    assert (texts, contents) == ([], {})


def test_what_is_no_winmail_dat_stays_an_attachment() -> None:
    assert open_message(message(b"no tnef"))[1] == ["winmail.dat"]
    assert read_tnef(b"") is None


# ---- calendars

EVENT = (
    "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@example.org\r\n"
    "DTSTART;TZID=Europe/Berlin:20261124T100000\r\nDURATION:PT30M\r\nSUMMARY:Standup\\, daily\r\nLOCATION:Room 5\r\n"
    "DESCRIPTION:First line\\nSecond li\r\n ne\r\nSEQUENCE:2\r\nSTATUS:CONFIRMED\r\nRRULE:FREQ=WEEKLY;COUNT=3\r\n"
    'ORGANIZER;CN="Ann Example":mailto:ann@example.org\r\n'
    "ATTENDEE;PARTSTAT=ACCEPTED;ROLE=OPT-PARTICIPANT;CN=Bob:MAILTO:bob@example.net\r\n"
    "ATTENDEE:mailto:carol@example.net\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)


def test_an_invitation_is_read() -> None:
    found = read_invitation(EVENT)

    assert found is not None
    assert (found.method, found.uid, found.sequence, found.status) == ("request", "1@example.org", 2, "confirmed")
    assert (found.summary, found.location, found.description) == (
        "Standup, daily",
        "Room 5",
        "First line\nSecond line",
    )
    assert (found.starts_at, found.ends_at) == ("2026-11-24T09:00:00Z", "2026-11-24T09:30:00Z")
    assert (found.time_zone, found.is_all_day, found.recurrence) == ("Europe/Berlin", False, "FREQ=WEEKLY;COUNT=3")
    assert found.organizer is not None
    assert (found.organizer.name, found.organizer.address) == ("Ann Example", "ann@example.org")
    assert [(one.name, one.address, one.status, one.is_optional) for one in found.attendees] == [
        ("Bob", "bob@example.net", "accepted", True),
        ("", "carol@example.net", "needs_action", False),
    ]


@pytest.mark.parametrize(
    ("line", "starts_at", "is_all_day"),
    [
        ("DTSTART;VALUE=DATE:20261224", "2026-12-24T00:00:00Z", True),
        ("DTSTART:20261124T100000Z", "2026-11-24T10:00:00Z", False),
        ("DTSTART:20261124T100000", "2026-11-24T10:00:00Z", False),
        ("DTSTART;TZID=W. Europe Standard Time:20261124T100000", "2026-11-24T09:00:00Z", False),
        ("DTSTART:nonsense", None, False),
        ("X-NOTHING:1", None, False),
    ],
)
def test_times_of_an_event_are_in_utc(line: str, starts_at: str | None, is_all_day: bool) -> None:
    found = read_invitation(f"BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:s\n{line}\nEND:VEVENT\nEND:VCALENDAR\n")

    assert found is not None
    assert (found.summary, found.starts_at, found.is_all_day) == ("s", starts_at, is_all_day)


def test_a_broken_line_of_a_calendar_costs_nothing_else() -> None:
    found = read_invitation(EVENT.replace("LOCATION:Room 5", "this is no line of a calendar\r\nLOCATION:Room 5"))

    assert found is not None
    assert (found.summary, found.location) == ("Standup, daily", "Room 5")


@pytest.mark.parametrize(
    "calendar",
    [
        "\ufeffBEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Standup\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Standup\nEND:VEVENT\n",
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nSUMMARY:Stand\n up\n",
        "BEGIN:VCALENDAR\nBEGIN:VTIMEZONE\nTZID:X\nEND:VTIMEZONE\nBEGIN:VEVENT\nSUMMARY:Standup\nEND:VEVENT\nEND:VCALENDAR",
        "BEGIN:VCALENDAR\rBEGIN:VEVENT\rSUMMARY:Standup\rEND:VEVENT\rEND:VCALENDAR\r",
    ],
)
def test_a_calendar_that_is_not_closed_or_has_a_broken_time_zone_has_its_event(calendar: str) -> None:
    invitation = read_invitation(calendar)

    assert invitation is not None
    assert invitation.summary == "Standup"


def test_many_time_zones_that_are_not_closed_take_linear_time() -> None:
    calendar = "BEGIN:VCALENDAR\n" + "BEGIN:VTIMEZONE\n" * 15_000 + "BEGIN:VEVENT\nSUMMARY:Standup\nEND:VEVENT\n"

    invitation = read_invitation(calendar)

    assert invitation is not None
    assert invitation.summary == "Standup"


def test_a_message_that_is_only_a_calendar_shows_its_event() -> None:
    content = b"Subject: s\r\nContent-Type: text/calendar; method=REQUEST\r\n\r\n" + EVENT.encode()

    texts, _, _ = open_message(content)

    assert texts[0].startswith("Standup, daily\n2026-11-24 09:00 UTC – 2026-11-24 09:30 UTC\nRoom 5\nAnn Example")
    assert (read_content(content, "blob").preview or "").startswith("Standup, daily")


@pytest.mark.parametrize("text", ["", "BEGIN:VCALENDAR", "BEGIN:VEVENT\nEND:VEVENT", "\x00", "a:b\n" * 100])
def test_text_without_an_event_is_no_invitation(text: str) -> None:
    found = read_invitation(text)

    assert found is None or not found.summary


def test_the_number_of_attendees_is_bounded() -> None:
    crowd = "ATTENDEE:mailto:x@example.org\r\n" * (MAX_ATTENDEES + 10)
    found = read_invitation(EVENT.replace("SEQUENCE:2\r\n", crowd))

    assert found is not None
    assert len(found.attendees) == MAX_ATTENDEES


@given(st.text(alphabet=':;=,\n\rTZ0123"\\ \x00é-', max_size=60), st.integers(0, len(EVENT)))
def test_no_calendar_makes_the_reader_fail(noise: str, position: int) -> None:
    read_invitation(EVENT[:position] + noise + EVENT[position:])
