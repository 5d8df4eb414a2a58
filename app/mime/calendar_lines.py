"""Repair of invalid calendar lines that programs write (RFC 5545 §3.1), and lookup of their time zone names."""

from __future__ import annotations

import re
from datetime import UTC, timedelta, timezone, tzinfo
from functools import cache
from quopri import decodestring
from zoneinfo import ZoneInfo, available_timezones

from app.mime.charset import decode_short

MAX_ZONE_CHARS = 255

_PERSON = re.compile(r"(ATTENDEE|ORGANIZER)((?:;.*?)?):(mailto:.*)", re.IGNORECASE)
_COMMON_NAME = re.compile(r";CN=([^\";]*[:,][^\";]*)", re.IGNORECASE)
_TIME = re.compile(
    r"(DTSTART|DTEND)((?:;.*)?):\s*(\d{4})-?(\d\d)-?(\d\d)(?:[T ](\d\d):?(\d\d)(?::?(\d\d)(?:\.\d+)?)?)?\s*(Z?)\s*",
    re.IGNORECASE,
)
_ZONE = re.compile(r";TZID=(?:\"([^\"]*)\"|([^\";]*))", re.IGNORECASE)
_QUOTED_PRINTABLE = re.compile(r"([^:]*);ENCODING=QUOTED-PRINTABLE([^:]*):(.*)", re.IGNORECASE)
_CHARSET = re.compile(r";CHARSET=([^;:]*)", re.IGNORECASE)
_PREFIXED = re.compile(r"/.*?/([A-Z][A-Za-z]+/[A-Za-z/_+-]+)")
_OFFSET = re.compile(r"\W*(?:GMT|UTC)\s*([+-])(\d{1,2}):?(\d\d)?\b", re.IGNORECASE)


def usual_line(line: str) -> str:
    """Rewrite an unfolded line as RFC 5545 requires. A line without a known deviation is returned unchanged."""
    if match := _PERSON.fullmatch(line):
        params = _COMMON_NAME.sub(r';CN="\1"', match[2].replace('\\"', "'"))
        return f"{match[1]}{params}:{match[3]}"
    if match := _TIME.fullmatch(line):
        return _usual_time(match)
    if match := _QUOTED_PRINTABLE.fullmatch(line):
        charset = _CHARSET.search(line)
        text = decode_short(decodestring(match[3].encode()), charset[1] if charset else None)
        return f"{match[1]}{match[2]}:{text}".replace("\r", "").replace("\n", "\\n")
    return line


def named_zone(name: str) -> tzinfo:
    """The zone of a TZID that icalendar does not know: an offset, or a name in another spelling. UTC if unknown."""
    name = name.strip()
    if match := _OFFSET.match(name):
        minutes = int(match[2]) * 60 + int(match[3] or 0)
        return timezone(timedelta(minutes=minutes if match[1] == "+" else -minutes)) if minutes < 1440 else UTC
    known = _zones().get(name.replace(" ", "_").lower()) or _zones().get(name.replace("-", "/", 1).lower())
    return ZoneInfo(known) if known else UTC


def _usual_time(match: re.Match[str]) -> str:
    name, params, year, month, day, hour, minute, second, utc = match.groups()
    if hour is None:
        return f"{name};VALUE=DATE:{year}{month}{day}"
    zone = _ZONE.search(params)
    tzid = "" if zone is None or utc else _usual_zone(zone[1] or zone[2] or "")
    named = f';TZID="{tzid}"' if tzid else ""
    return f"{name}{named}:{year}{month}{day}T{hour}{minute}{second or '00'}{utc.upper()}"


def _usual_zone(name: str) -> str:
    """A zone's name without a program's prefix, such as /mozilla.org/20050126_1/Europe/Berlin has."""
    prefixed = _PREFIXED.fullmatch(name) if len(name) <= MAX_ZONE_CHARS else None
    return prefixed[1] if prefixed and prefixed[1] in available_timezones() else name


@cache
def _zones() -> dict[str, str]:
    """Zone names by their lower-case form."""
    return {name.lower(): name for name in available_timezones()}
