"""IMAP dates (RFC 9051 §9): INTERNALDATE as ms since 1970 UTC, search dates as `datetime.date`."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone

from app.mail.storable import storable_time

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_MONTH_NUMBERS = {name.lower(): number for number, name in enumerate(MONTHS, 1)}
_DATE_TIME = re.compile(
    r" ?([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})", re.ASCII
)
_LENIENT_DATE_TIME = re.compile(
    r" *+([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4}) ++([0-9]{1,2}):([0-9]{2}):([0-9]{2})"
    r"(?: ++(?:([+-])([0-9]{2}):?([0-9]{2})|UTC?|GMT|Z))?+ *",
    re.ASCII | re.IGNORECASE,
)
_DATE = re.compile(r"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})", re.ASCII)
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def parse_date_time(text: str, *, is_lenient: bool = False) -> int:
    """Parse an INTERNALDATE without its quotes. Return ms since 1970 UTC. A leap second counts as the next second.

    `is_lenient` accepts deviations of servers from the RFC: a missing or named zone, extra spaces, one-digit hours.
    A time outside the years 1 to 9999 in UTC becomes the nearest time in them. Raises ValueError.
    """
    match = (_LENIENT_DATE_TIME if is_lenient else _DATE_TIME).fullmatch(text)
    if match is None:
        raise ValueError("not an IMAP date and time")
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
    days = _day(year, month, day).toordinal() - _EPOCH_DAY
    if int(hour) > 23 or int(minute) > 59 or int(second) > 60 or int(zone_minutes or 0) > 59:
        raise ValueError("not an IMAP date and time")
    seconds = days * 86_400 + int(hour) * 3_600 + int(minute) * 60 + int(second)
    zone = int(zone_hours or 0) * 3_600 + int(zone_minutes or 0) * 60
    return storable_time((seconds + zone if sign == "-" else seconds - zone) * 1_000)


def render_date_time(time_ms: int, zone_minutes: int = 0) -> str:
    """Format ms since 1970 UTC as an INTERNALDATE of 26 characters, without quotes: ` 1-Jan-2024 09:00:00 +0000`.

    A time outside the years 1 to 9999 is written as the nearest time in UTC.
    """
    time = datetime.fromtimestamp(storable_time(time_ms) // 1_000, UTC)
    try:
        time = time.astimezone(timezone(timedelta(minutes=zone_minutes)))
    except OverflowError:
        zone_minutes = 0
    sign = "-" if zone_minutes < 0 else "+"
    hours, minutes = divmod(abs(zone_minutes), 60)
    return (
        f"{time.day:2d}-{MONTHS[time.month - 1]}-{time.year:04d} "
        f"{time.hour:02d}:{time.minute:02d}:{time.second:02d} {sign}{hours:02d}{minutes:02d}"
    )


def parse_date(text: str) -> date:
    """Parse a search date such as `1-Jan-2024`. Raises ValueError."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError("not an IMAP date")
    day, month, year = match.groups()
    return _day(year, month, day)


def render_date(day: date) -> str:
    """Format a search date, as in `1-Jan-2024`."""
    return f"{day.day}-{MONTHS[day.month - 1]}-{day.year:04d}"


def _day(year: str, month: str, day: str) -> date:
    number = _MONTH_NUMBERS.get(month.lower())
    if number is None:
        raise ValueError("not a month")
    return date(int(year), number, int(day))
