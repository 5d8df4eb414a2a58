from __future__ import annotations

from datetime import date

import pytest
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


def test_a_time_that_has_no_internaldate_is_refused() -> None:
    with pytest.raises(ValueError, match="IMAP"):
        render_date_time(10**18)


def test_search_dates_come_back() -> None:
    assert parse_date("01-feb-2024") == parse_date("1-Feb-2024") == date(2024, 2, 1)
    assert render_date(date(2024, 2, 1)) == "1-Feb-2024"
    for text in ("1-Foo-2024", "30-Feb-2024", "1 Feb 2024", ""):
        with pytest.raises(ValueError, match=r"date|day|month"):
            parse_date(text)
