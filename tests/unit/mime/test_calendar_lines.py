"""Lines of calendars as programs write them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from app.mime.calendar_lines import named_zone, usual_line
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("line", "usual"),
    [
        ("DTSTART:2026-07-01T10:00:00Z", "DTSTART:20260701T100000Z"),
        ("dtend: 20260701T1000Z ", "dtend:20260701T100000Z"),
        ("DTSTART:20260701", "DTSTART;VALUE=DATE:20260701"),
        ("DTSTART;TZID=Europe/Berlin:20260701T100000Z", "DTSTART:20260701T100000Z"),
        ("DTSTART;TZID=tzone://Microsoft/Utc:20260701T100000", 'DTSTART;TZID="tzone://Microsoft/Utc":20260701T100000'),
        (
            "DTSTART;TZID=/mozilla.org/20050126_1/Europe/Berlin:20260701T100000",
            'DTSTART;TZID="Europe/Berlin":20260701T100000',
        ),
        ('ATTENDEE;CN="Doe, \\"J\\"":mailto:j@x.org', "ATTENDEE;CN=\"Doe, 'J'\":mailto:j@x.org"),
        ("ORGANIZER;CN=Team: A:MAILTO:a@x.org", 'ORGANIZER;CN="Team: A":MAILTO:a@x.org'),
        (
            "SUMMARY;ENCODING=QUOTED-PRINTABLE;CHARSET=ISO-8859-1:Gr=FC=DFe=0D=0Ax",
            "SUMMARY;CHARSET=ISO-8859-1:Grüße\\nx",
        ),
        ("SUMMARY:DTSTART:20260701", "SUMMARY:DTSTART:20260701"),
    ],
)
def test_a_line_whose_meaning_is_clear_is_spelt_as_rfc_5545_has_it(line: str, usual: str) -> None:
    assert usual_line(line) == usual


@pytest.mark.parametrize(
    ("name", "hours"),
    [
        ("GMT+0200", 2),
        ("UTC-5", -5),
        ("(GMT-05:00) Eastern Time (US & Canada)", -5),
        ("(UTC+05:30) Chennai", 5.5),
        ("europe/berlin", 2),
        ("US-Eastern", -4),
        ("america/new york", -4),
        ("Nowhere/Land", 0),
        ("GMT+99", 0),
        ("", 0),
    ],
)
def test_a_zone_is_known_by_its_offset_or_in_other_letters(name: str, hours: float) -> None:
    assert datetime(2026, 7, 1, 10, tzinfo=named_zone(name)).utcoffset() == timedelta(hours=hours)


@given(st.text(alphabet='DTSTARTENCODING=QUOTED-PRINTABLE;:"/ 0123456789ZT,', max_size=200))
def test_any_line_is_a_line(line: str) -> None:
    assert "\n" not in usual_line(line)
