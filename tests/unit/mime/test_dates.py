"""The Date header."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from app.mime.dates import parse_date
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mon, 1 Jan 2024 10:20:30 +0100", "2024-01-01T09:20:30"),
        ("1 Jan 2024 10:20 -0000", "2024-01-01T10:20:00"),
        ("Mon, 01 Jan 2024 10:20:30 +0100 (CET)", "2024-01-01T09:20:30"),
        ("Mon, 01 Jan 2024 10:20:30 GMT", "2024-01-01T10:20:30"),
        ("Mon, 01 Jan 2024 10:20:30 EST", "2024-01-01T15:20:30"),
        ("Mon, 01 Jan 2024 10:20:30 UT", "2024-01-01T10:20:30"),
        ("Sat, 30 Dec 95 10:20:30 Z", "1995-12-30T10:20:30"),
        ("1 Jan 05 10:20:30", "2005-01-01T10:20:30"),
        ("1 Jan 101 10:20:30", "2001-01-01T10:20:30"),
        ("Mon, 1-January-2024 10.20.30 +0530", "2024-01-01T04:50:30"),
        ("Mon Jan  1 10:20:30 2024", "2024-01-01T10:20:30"),
        ("2024-01-01T10:20:30.123+01:00", "2024-01-01T09:20:30"),
        ("31 Dec 2016 23:59:60 +0000", "2016-12-31T23:59:59"),
        ("Monday,\t1 Jan 2024 10:20:30 +0000", "2024-01-01T10:20:30"),
    ],
)
def test_dates_are_read_as_mail_spells_them(text: str, expected: str) -> None:
    moment = datetime.fromisoformat(expected).replace(tzinfo=UTC)

    assert parse_date(text) == int(moment.timestamp()) * 1000


@pytest.mark.parametrize(
    "text", ["", "yesterday", "32 Jan 2024 10:00:00", "1 Foo 2024 10:00:00", "1 Jan 2024 25:00", "x" * 300]
)
def test_what_is_no_date_is_none(text: str) -> None:
    assert parse_date(text) is None


@given(st.text(alphabet="0123456789:-+/., JanFebMonT()Z", max_size=60))
def test_any_text_is_a_date_or_none(text: str) -> None:
    assert isinstance(parse_date(text), int | None)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Wed, 19 May 2010 17:29:42 GMT+0800", "Wed, 19 May 2010 09:29:42 +0000"),
        ("Wed, 19 May 2010 17:29:42 UTC+08:00", "Wed, 19 May 2010 09:29:42 +0000"),
        ("Wed, 19 May 2010 17:29:42 UT -0130", "Wed, 19 May 2010 18:59:42 +0000"),
        ("Wed May 19 2010 17:29:42 GMT+0800 (CST)", "Wed, 19 May 2010 09:29:42 +0000"),
        ("Wed, 19 May 2010 17:29:42 +08", "Wed, 19 May 2010 09:29:42 +0000"),
        ("Wed, 19 May 2010 05:29:42 PM -0700", "Thu, 20 May 2010 00:29:42 +0000"),
        ("Wed, 19 May 2010 12:29:42 AM", "Wed, 19 May 2010 00:29:42 +0000"),
        ("Wed, 19 May 2010 17:29:42 GMT", "Wed, 19 May 2010 17:29:42 +0000"),
        ("May 19, 2010 17:29:42 EST", "Wed, 19 May 2010 22:29:42 +0000"),
        ("Wed, May 19 10 17:29:42", "Wed, 19 May 2010 17:29:42 +0000"),
        ("Wed May 19 17:29:42 2010 +0800", "Wed, 19 May 2010 09:29:42 +0000"),
        ("Wed May 19 17:29:42 +0800 2010", "Wed, 19 May 2010 09:29:42 +0000"),
        ("Wed, 19 May 2010 17:29:42 + 0800", "Wed, 19 May 2010 09:29:42 +0000"),
        ("2010/05/19 17:29:42 +0800", "Wed, 19 May 2010 09:29:42 +0000"),
        ("Wed, 19 May 2010 24:00:00 +0800", "Wed, 19 May 2010 16:00:00 +0000"),
        ("Wed, 19 May 2010 17:29:42 CEST", "Wed, 19 May 2010 15:29:42 +0000"),
        ("Wed, 19 May 2010 17:29:42 JST", "Wed, 19 May 2010 08:29:42 +0000"),
        ("Wed, 19 May 2010 17:29:42 XYZ", "Wed, 19 May 2010 17:29:42 +0000"),
    ],
)
def test_zones_and_orders_of_other_programs_are_understood(text: str, same: str) -> None:
    assert parse_date(text) == parse_date(same)
