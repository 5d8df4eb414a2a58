"""Invitations: the first event of a text/calendar part (RFC 5545, RFC 5546), parsed by icalendar."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from itertools import islice
from typing import Any

from app.mail.storable import storable
from app.mail.types import Address
from app.mime.calendar_lines import named_zone, usual_line
from app.mime.text import PREVIEW_CHARS

MAX_CALENDAR_BYTES = 256 * 1024
MAX_ATTENDEES = 500
MAX_TEXT_CHARS = 20_000

_LINE_END = re.compile(r"\r\n?|\n")
_FOLD = re.compile(r"(?:\r\n?|\n)[ \t]")
_LINE = re.compile(r"[A-Za-z][A-Za-z0-9-]*(?:;[^:\r\n]*)?:.*|[ \t].*")
_MAILTO = re.compile(r"mailto:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Attendee:
    """A person who is invited. `status`: needs_action, accepted, declined, tentative or delegated."""

    name: str
    address: str
    status: str
    is_optional: bool


@dataclass(frozen=True, slots=True)
class Invitation:
    """An event. `method`: request, cancel, reply and so on (RFC 5546 §1.4).

    Times are RFC 3339 in UTC, None if unknown. `time_zone` is the original zone of the times, None for UTC and for
    times without a zone. `recurrence` is an RRULE.
    """

    method: str
    uid: str
    sequence: int
    status: str | None
    summary: str
    description: str
    location: str
    organizer: Address | None
    attendees: tuple[Attendee, ...]
    starts_at: str | None
    ends_at: str | None
    is_all_day: bool
    time_zone: str | None
    recurrence: str | None


def read_invitation(text: str) -> Invitation | None:
    """The first event of a calendar, or None. Never raises."""
    text = "\n".join(map(usual_line, _LINE_END.split(_FOLD.sub("", text.removeprefix("\ufeff")))))
    calendar = _calendar(text) or _calendar(_repaired(text))
    event = next(iter(calendar.walk("VEVENT")), None) if calendar is not None else None
    if event is None:
        return None
    start, end = _moment(event, "DTSTART"), _moment(event, "DTEND")
    if end is None and start is not None:
        end = _tried(lambda: start + event["DURATION"].dt)
    people = event.get("ATTENDEE") or []
    return Invitation(
        method=_text(calendar, "METHOD").lower() or "publish",
        uid=_text(event, "UID"),
        sequence=_tried(lambda: int(event["SEQUENCE"])) or 0,
        status=_text(event, "STATUS").lower() or None,
        summary=_text(event, "SUMMARY"),
        description=_text(event, "DESCRIPTION"),
        location=_text(event, "LOCATION"),
        organizer=_tried(lambda: _address(event["ORGANIZER"])),
        attendees=tuple(_attendees(people if isinstance(people, list) else [people])),
        starts_at=_rfc3339(start),
        ends_at=_rfc3339(end),
        is_all_day=start is not None and not isinstance(start, datetime),
        time_zone=_tried(lambda: _zone(start)),
        recurrence=_tried(lambda: storable(event["RRULE"].to_ical().decode()[:MAX_TEXT_CHARS])),
    )


def invitation_text(invitation: Invitation) -> str:
    """An invitation as readable text, for a message without other text."""
    times = [_time_text(moment, invitation) for moment in (invitation.starts_at, invitation.ends_at) if moment]
    lines = [invitation.summary, " – ".join(times), invitation.location]
    if invitation.organizer is not None:
        lines.append(f"{invitation.organizer.name} <{invitation.organizer.address}>".strip())
    head = "\n".join(line for line in lines if line)
    return f"{head}\n\n{invitation.description}".strip()


def _calendar(text: str) -> Any:
    from icalendar import Calendar  # imported late: only some messages have a calendar

    return _tried(lambda: Calendar.from_ical(text))


def _repaired(text: str) -> str:
    """Drop a calendar's invalid lines and its time zones, and add missing END lines."""
    valid_lines = (line for line in _without_time_zones(text.split("\n")) if _LINE.fullmatch(line))
    text = "\n".join(valid_lines)
    ends = (name for name in ("VEVENT", "VCALENDAR") if f"END:{name}" not in text.upper())
    return "\n".join((text, *(f"END:{name}" for name in ends)))


def _without_time_zones(lines: Iterable[str]) -> Iterator[str]:
    is_zone = False
    for line in lines:
        name = line.strip().upper()
        if name in ("BEGIN:VTIMEZONE", "BEGIN:VEVENT"):
            is_zone = name == "BEGIN:VTIMEZONE"
        if not is_zone:
            yield line
        if name == "END:VTIMEZONE":
            is_zone = False


def _tried(read: Callable[[], Any]) -> Any:
    """The result of `read`; None if icalendar rejects the calendar."""
    try:
        return read()
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return None


def _text(component: Any, name: str) -> str:
    value = _tried(lambda: component.get(name))
    value = value[0] if isinstance(value, list) and value else value
    return storable(str(value or "")[:MAX_TEXT_CHARS]).replace("\x00", "").strip()


def _moment(event: Any, name: str) -> date | None:
    moment = _tried(lambda: event[name].dt)
    if isinstance(moment, datetime) and moment.tzinfo is None:
        return moment.replace(tzinfo=named_zone(str(_tried(lambda: event[name].params["TZID"]) or "")))
    return moment if isinstance(moment, date) else None


def _rfc3339(moment: date | None) -> str | None:
    if moment is None:
        return None
    if not isinstance(moment, datetime):
        return f"{moment.isoformat()}T00:00:00Z"
    utc: datetime | None = _tried(lambda: moment.astimezone(UTC))
    return None if utc is None else utc.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


def _zone(moment: date | None) -> str | None:
    zone = moment.tzinfo if isinstance(moment, datetime) else None
    name = getattr(zone, "key", None) or (
        moment.tzname() if zone is not None and isinstance(moment, datetime) else None
    )
    return None if name in (None, "UTC") else storable(str(name))[:PREVIEW_CHARS]


def _time_text(moment: str, invitation: Invitation) -> str:
    return moment[:10] if invitation.is_all_day else f"{moment[:10]} {moment[11:16]} UTC"


def _address(value: Any) -> Address:
    name = str(value.params.get("CN", "")) if hasattr(value, "params") else ""
    return Address(storable(name)[:1000].strip('" '), storable(_MAILTO.sub("", str(value), count=1))[:1000].strip())


def _attendees(values: list[Any]) -> Iterator[Attendee]:
    for value in islice(values, MAX_ATTENDEES):
        person = _tried(partial(_address, value))
        params = getattr(value, "params", {})
        if person is not None:
            status = str(params.get("PARTSTAT", "NEEDS-ACTION")).lower().replace("-", "_")
            is_optional = str(params.get("ROLE", "")).upper() == "OPT-PARTICIPANT"
            yield Attendee(person.name, person.address, storable(status)[:40], is_optional)
