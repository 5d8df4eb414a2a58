from __future__ import annotations

from datetime import date

import pytest
from app.mail.storable import MAX_TIME_MS, MIN_TIME_MS
from app.wire.imap.dates import parse_date, parse_date_time, render_date, render_date_time
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        (" 1-Jan-1970 00:00:00 +0000", 0),
        ("12-Mar-2024 10:11:12 +0100", 1_710_234_672_000),
        ("01-jan-1970 01:00:60 +0200", -3_540_000),
        ("1-Jan-1970 00:00:00 -0130", 5_400_000),
    ],
)
def test_internaldate_is_read_in_any_zone(text: str, time_ms: int) -> None:
    assert parse_date_time(text) == time_ms


@given(st.integers(-62_000_000_000, 250_000_000_000), st.integers(-720, 840))
def test_internaldate_comes_back_in_seconds(seconds: int, zone_minutes: int) -> None:
    written = render_date_time(seconds * 1_000 + 999, zone_minutes)

    assert len(written) == 26
    assert parse_date_time(written) == seconds * 1_000


@pytest.mark.parametrize(
    "text",
    ["", "31-Feb-2024 00:00:00 +0000", "1-Foo-2024 00:00:00 +0000", "1-Jan-2024 24:00:00 +0000"],
)
def test_what_is_no_internaldate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"date|day|month"):
        parse_date_time(text)


@pytest.mark.parametrize("zone_minutes", [-720, 0, 840])
def test_a_time_that_has_no_internaldate_is_written_as_the_nearest_one(zone_minutes: int) -> None:
    for time_ms in (10**18, 10**40):
        assert "-9999 " in render_date_time(time_ms, zone_minutes)
        assert "-0001 " in render_date_time(-time_ms, zone_minutes)


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1-Jan-0001 00:00:00 +9959", MIN_TIME_MS),
        ("31-Dec-9999 23:59:59 -9959", MAX_TIME_MS),
    ],
)
def test_an_internaldate_whose_zone_leads_beyond_the_calendar_is_the_nearest_time(text: str, time_ms: int) -> None:
    assert parse_date_time(text) == time_ms


def test_search_dates_come_back() -> None:
    assert parse_date("01-feb-2024") == parse_date("1-Feb-2024") == date(2024, 2, 1)
    assert render_date(date(2024, 2, 1)) == "1-Feb-2024"
    for text in ("1-Foo-2024", "30-Feb-2024", "1 Feb 2024", ""):
        with pytest.raises(ValueError, match=r"date|day|month"):
            parse_date(text)
