"""Compares messages with search criteria (RFC 9051 §6.4.4). Pure: rows and texts in, true or false out.

Each criterion becomes a function of a row and, if neither the row nor the full-text index decides, of the message's
text. The matcher also collects the columns that the criteria need.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from operator import attrgetter

from app.mail.searchable import Searchable, contains, fold, has_field
from app.mailstore.texts import TextMatches
from app.mailstore.views import HEADER_LIMIT_BYTES, MessageValues
from app.mime.searchable import own_header
from app.servers.imap.uids import holds
from app.servers.imap.view import MailboxView
from app.wire.imap.dates import MONTHS
from app.wire.imap.search import (
    All,
    And,
    DateField,
    DateMatch,
    HasFlag,
    HeaderMatch,
    Larger,
    ModifiedSince,
    Not,
    Numbers,
    ObjectId,
    Older,
    Or,
    SavedResult,
    SearchKey,
    Smaller,
    TextField,
    TextMatch,
    Younger,
)

_HEADER_DATE = re.compile(rb'^\("[^"\d]{0,20}(\d{1,2})[ -]{1,3}([A-Za-z]{3})[A-Za-z]{0,9}[ -]{1,3}(\d{4})')
_MONTH_NUMBERS = {name.lower().encode(): number for number, name in enumerate(MONTHS, 1)}
_ADDRESS_COLUMNS = {
    TextField.FROM: "from_folded",
    TextField.TO: "to_folded",
    TextField.CC: "cc_folded",
    TextField.BCC: "bcc_folded",
    TextField.SUBJECT: "subject_folded",
}
_COMPARISONS: dict[str, Callable[[date, date], bool]] = {
    "BEFORE": lambda day, limit: day < limit,
    "ON": lambda day, limit: day == limit,
    "SINCE": lambda day, limit: day >= limit,
}


Predicate = Callable[[MessageValues, Searchable | None], bool | None]
"""Returns None if only the message's text decides, and it was not given."""


class Matcher:
    """Compiled criteria for rows with `columns`.

    `text_matches` has the results of the full-text index for some criteria. YOUNGER and OLDER count from `now_ms`.
    """

    def __init__(
        self,
        key: SearchKey,
        view: MailboxView,
        now_ms: int,
        text_matches: Mapping[SearchKey, TextMatches] | None = None,
    ) -> None:
        self._view = view
        self._now_ms = now_ms
        self._text_matches = text_matches or {}
        self._columns = dict.fromkeys(("uid", "blob", "size_bytes"))
        self.criteria = 0
        """The largest number of criteria that a row is compared with."""
        self.has_modseq = False
        self.meets = self._predicate(key)

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def _need(self, *columns: str) -> None:
        """Read these columns of every row."""
        self._columns.update(dict.fromkeys(columns))

    def _predicate(self, key: SearchKey) -> Predicate:
        self.criteria += 1
        match key:
            case And(keys):
                return _all(self._cheapest_first(keys))
            case Or(left, right):
                return _negated(_all([_negated(predicate) for predicate in self._cheapest_first((left, right))]))
            case Not(inner):
                return _negated(self._predicate(inner))
            case TextMatch(field, text) if field in _ADDRESS_COLUMNS:
                return self._address(_ADDRESS_COLUMNS[field], fold(text))
            case TextMatch() | HeaderMatch():
                return self._text(key)
            case DateMatch(field, day):
                return self._date(field, day)
            case _:
                return self._plain(key)

    def _cheapest_first(self, keys: tuple[SearchKey, ...]) -> list[Predicate]:
        return [self._predicate(key) for key in sorted(keys, key=_cost)]

    def _plain(self, key: SearchKey) -> Predicate:
        match key:
            case All():
                return lambda _row, _text: True
            case Numbers() | SavedResult():
                return self._numbers(key)
            case HasFlag(flag):
                return self._flag(flag)
            case Larger(size_bytes):
                return lambda row, _: row.size_bytes > size_bytes
            case Smaller(size_bytes):
                return lambda row, _: row.size_bytes < size_bytes
            case _:
                return self._stamp(key)

    def _stamp(self, key: SearchKey) -> Predicate:
        match key:
            case ModifiedSince(modseq):
                self.has_modseq = True
                self._need("modseq")
                return lambda row, _: row.modseq >= modseq
            case Younger(seconds):
                self._need("received_at_ms")
                limit = self._now_ms - seconds * 1000
                return lambda row, _: row.received_at_ms >= limit
            case Older(seconds):
                self._need("received_at_ms")
                limit = self._now_ms - seconds * 1000
                return lambda row, _: row.received_at_ms <= limit
            case ObjectId(id_, is_thread):
                self._need("thread_id")
                return lambda row, _: (row.thread_id if is_thread else row.blob) == id_
            case _:
                raise TypeError(f"{key!r} is not a search key")

    def _numbers(self, key: Numbers | SavedResult) -> Predicate:
        is_uid = key.is_uid
        numbers = key if isinstance(key, SavedResult) else key.numbers
        uids = self._view.resolve(numbers, is_uid=is_uid, is_search=True)
        return lambda row, _: holds(uids, row.uid)

    def _flag(self, flag: str) -> Predicate:
        if flag.lower() == "\\recent":
            recent = self._view.recent
            return lambda row, _: row.uid in recent
        self._need("flags")
        flag_name = flag.lower()
        return lambda row, _: flag_name in row.flags.lower().split(" ")

    def _address(self, column: str, folded: str) -> Predicate:
        self._need(column)
        read = attrgetter(column)
        return lambda row, _: folded in read(row)

    def _text(self, key: TextMatch | HeaderMatch) -> Predicate:
        folded, matches = fold(key.text), self._text_matches.get(key)
        if isinstance(key, HeaderMatch):
            has = self._header(key.name, folded)
            if matches is None:
                return has
            may, unknown = matches.found, matches.unindexed
            return lambda row, text: (holds(may, row.uid) or holds(unknown, row.uid)) and has(row, text)
        has_text = _unread(key.field.value.lower(), folded)
        if matches is None:
            return has_text
        found, unindexed = matches.found, matches.unindexed
        return lambda row, text: holds(found, row.uid) or (holds(unindexed, row.uid) and has_text(row, text))

    def _header(self, name: str, folded: str) -> Predicate:
        """Return a predicate on the header in the row, or on the message if the header is too long for the row."""
        self._need("header", "header_bytes")
        unread = _unread(f"header:{name}", folded)

        def has(row: MessageValues, text: Searchable | None) -> bool | None:
            if row.header_bytes > HEADER_LIMIT_BYTES:
                return unread(row, text)
            return has_field(own_header(row.header), name, folded)

        return has

    def _date(self, field: DateField, day: date) -> Predicate:
        compare = _COMPARISONS[field.value.removeprefix("SENT").removeprefix("SAVED")]
        if field.value.startswith("SAVED"):
            self._need("received_at_ms", "saved_at_ms")
            return lambda row, _: compare(_day(row.received_at_ms if row.saved_at_ms is None else row.saved_at_ms), day)
        if not field.value.startswith("SENT"):
            self._need("received_at_ms")
            return lambda row, _: compare(_day(row.received_at_ms), day)
        self._need("imap_envelope", "date_ms")

        def is_sent(row: MessageValues, _: Searchable | None) -> bool:
            sent_on = _day_in_header(row.imap_envelope) or (None if row.date_ms is None else _day(row.date_ms))
            return sent_on is not None and compare(sent_on, day)

        return is_sent


def scope_of(key: TextMatch | HeaderMatch) -> str | None:
    """Return the scope of a text, as in `filter.Text`; None for fields that rows have."""
    if isinstance(key, HeaderMatch):
        return f"header:{key.name}"
    return None if key.field in _ADDRESS_COLUMNS else key.field.value.lower()


def _unread(scope: str, folded: str) -> Predicate:
    return lambda _, text: None if text is None else contains(text, scope, folded)


def _all(predicates: list[Predicate]) -> Predicate:
    def meets(row: MessageValues, text: Searchable | None) -> bool | None:
        result: bool | None = True
        for predicate in predicates:
            is_met = predicate(row, text)
            if is_met is False:
                return False
            result = None if is_met is None else result
        return result

    return meets


def _negated(predicate: Predicate) -> Predicate:
    def meets(row: MessageValues, text: Searchable | None) -> bool | None:
        is_met = predicate(row, text)
        return None if is_met is None else not is_met

    return meets


def _cost(key: SearchKey) -> int:
    """Return the cost of a criterion: 0 for row columns, 1 for a header, 2 for a body."""
    match key:
        case And(keys):
            return max((_cost(condition) for condition in keys), default=0)
        case Or(left, right):
            return max(_cost(left), _cost(right))
        case Not(inner):
            return _cost(inner)
        case HeaderMatch():
            return 1
        case TextMatch(TextField.BODY | TextField.TEXT, _):
            return 2
        case _:
            return 0


def _day(time_ms: int) -> date:
    try:
        return datetime.fromtimestamp(time_ms // 1000, UTC).date()
    except (OverflowError, ValueError, OSError):
        return date.min if time_ms < 0 else date.max


def _day_in_header(envelope: bytes) -> date | None:
    """Return the day of the Date header, in its own time zone; None if it is invalid."""
    match = _HEADER_DATE.match(envelope)
    month = _MONTH_NUMBERS.get(match[2].lower()) if match else None
    if match is None or month is None:
        return None
    try:
        return date(int(match[3]), month, int(match[1]))
    except ValueError:
        return None
