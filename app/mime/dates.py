"""Parsing of the Date header (RFC 5322 §3.3), including invalid forms that occur in mail."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

MAX_DATE_CHARS = 200

_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, start=1)}
_ZONES = {
    name: hours
    for hours, names in (
        *((-8, "pst"), (-7, "pdt mst"), (-6, "mdt cst"), (-5, "cdt est"), (-4, "edt")),
        *((1, "cet met mez bst west"), (2, "cest mest mesz eet"), (3, "eest msk"), (9, "jst kst")),
    )
    for name in names.split()
}
"""Hours east of UTC. RFC 5322 defines only the American zones; the others occur in mail too."""
_ZONE = (
    r"\s*+(?P<half>[AaPp][Mm]\b)?\s*+(?:(?:GMT|UTC?)\s*+(?=[+-]\d))?"
    r"(?P<zone>[+-] ?\d{1,2}(?::?\d{2})?\b|[A-Za-z]{1,5})?"
)
_TIME = r"(?P<hour>\d{1,2})[:.](?P<minute>\d{1,2})(?:[:.](?P<second>\d{1,2}))?(?:\.\d{1,9})?"
_SHAPES = (
    re.compile(
        rf"(?P<day>\d{{1,2}})[\s-]++(?P<month>[A-Za-z]{{3,9}})\.?[\s,-]++(?P<year>\d{{2,4}})[,\s]++{_TIME}{_ZONE}"
    ),
    re.compile(rf"(?P<year>\d{{4}})[-/](?P<month>\d{{2}})[-/](?P<day>\d{{2}})[Tt\s]{_TIME}{_ZONE}"),
    re.compile(
        rf"(?P<month>[A-Za-z]{{3}})\s++(?P<day>\d{{1,2}})\s++{_TIME}(?P<half>)(?:\s++(?P<zone>[A-Z]{{1,5}}|[+-]\d{{4}}))?\s++"
        r"(?P<year>\d{4})(?:\s++(?P<zone_after>[+-]\d{4}\b))?"
    ),
    re.compile(
        rf"(?P<month>[A-Za-z]{{3,9}})\.?\s++(?P<day>\d{{1,2}}),?\s++(?P<year>\d{{4}}|\d{{2}})[,\s]++{_TIME}{_ZONE}"
    ),
)
_COMMENT = re.compile(r"\([^()]*+\)")


def parse_date(text: str) -> int | None:
    """Milliseconds since 1970 UTC; None if the text is not a date. A missing or unknown zone counts as UTC."""
    text = _COMMENT.sub(" ", text[:MAX_DATE_CHARS])
    for shape in _SHAPES:
        match = shape.search(text)
        if match:
            return _milliseconds(match)
    return None


def _milliseconds(match: re.Match[str]) -> int | None:
    month, hour = match["month"], _hour(match)
    try:
        moment = datetime(
            _full_year(match["year"]),
            int(month) if month.isdigit() else _MONTHS[month[:3].lower()],
            int(match["day"]),
            0 if hour == 24 else hour,  # midnight at the end of the day (ISO 8601)
            int(match["minute"]),
            min(int(match["second"] or 0), 59),  # datetime has no leap seconds
            tzinfo=UTC,
        )
        zone = match["zone"] or match.groupdict().get("zone_after")
        return int((moment + timedelta(days=hour == 24) - _offset(zone)).timestamp()) * 1000
    except (ValueError, KeyError, OverflowError):
        return None


def _hour(match: re.Match[str]) -> int:
    hour = int(match["hour"])
    if not match["half"]:
        return hour
    return hour % 12 + (12 if match["half"].lower() == "pm" else 0)


def _full_year(digits: str) -> int:
    """Two digits below 50 mean 2000 to 2049; other short years count from 1900 (RFC 5322 §4.3)."""
    year = int(digits)
    if len(digits) == 4:
        return year
    return year + (2000 if year < 50 and len(digits) == 2 else 1900)


def _offset(zone: str | None) -> timedelta:
    if not zone:
        return timedelta(0)
    if zone[0] in "+-":
        digits = zone[1:].replace(":", "").strip()
        hours, rest = (digits, "0") if len(digits) <= 2 else (digits[:-2], digits[-2:])
        minutes = int(hours) * 60 + int(rest)
        return timedelta(minutes=-minutes if zone[0] == "-" else minutes)
    return timedelta(hours=_ZONES.get(zone.lower(), 0))
