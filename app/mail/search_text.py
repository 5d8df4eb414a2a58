"""The search language of `q=`: words and operators in one line, as a user types them into a search box.

    from:ann subject:"trip to Rome" is:unread -newsletter (invoice OR receipt) after:2026-01-31

Adjacent terms must all match; `OR` binds more tightly, `-` excludes a term or a group. The operators are `from: to:
cc: bcc: subject: in: is: has: before: after: larger: smaller: keyword:`. A word with another prefix, such as a URL,
is a plain word. Dates are `2026-01-31` (midnight UTC) or RFC 3339 times; sizes are bytes, or end in K, M or G.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app.errors import InvalidRequest
from app.mail import filter as f
from app.mail.types import flag_of

LENGTH_LIMIT_CHARS = 2_000
TERM_LIMIT_CHARS = 500

_TOKEN = re.compile(
    r'\s+|(?P<open>-?\()|(?P<close>\))|(?P<or>OR(?=[\s()]|$))|(?P<minus>-(?=[^\s()]))?'
    r'(?:(?P<name>[A-Za-z]+):(?=[^\s()]))?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s()"]+))'
)  # fmt: skip
_SIZE = re.compile(r"(\d{1,12})([kmg]?)b?", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_FLAGS = {
    "flagged": "\\Flagged",
    "starred": "\\Flagged",
    "answered": "\\Answered",
    "draft": "\\Draft",
    "seen": "\\Seen",
}
_KEYWORD = re.compile(r"[!#$&'+\-./0-9:;<=>?@A-Z\[^_`a-z|}~]{1,100}")
ANYWHERE = "anywhere"


@dataclass(frozen=True, slots=True)
class SearchText:
    """A parsed `q`. `is_anywhere`: it contains `in:anywhere`, so Trash and Junk are searched too."""

    tree: f.Filter
    is_anywhere: bool = False


@dataclass(slots=True)
class _Group:
    """Terms that must all match, in order. After `OR`, the last one is joined to the next."""

    terms: list[f.Filter]
    is_negated: bool = False
    is_joining: bool = False

    def add(self, term: f.Filter) -> None:
        if self.is_joining and self.terms:
            before = self.terms.pop()
            term = f.Any((*before.of, term)) if isinstance(before, f.Any) else f.Any((before, term))
        self.is_joining = False
        self.terms.append(term)

    def filter(self) -> f.Filter:
        tree = self.terms[0] if len(self.terms) == 1 else f.All(tuple(self.terms))
        return f.Not(tree) if self.is_negated else tree


def parse_search_text(text: str) -> SearchText:
    """Return the filter of a search text. Linear, without recursion.

    Forgiving, as search boxes are: a missing quote or bracket is assumed at the end, a stray `OR` or `)` is ignored.
    Raises InvalidRequest at the parameter `q` for a value that an operator cannot parse, and for more than
    `filter.LEAF_LIMIT` terms or `filter.DEPTH_LIMIT` nested groups.
    """
    groups, count, is_anywhere = [_Group([])], 0, False
    for match in _TOKEN.finditer(text):
        if match["open"]:
            groups.append(_Group([], is_negated=match["open"].startswith("-")))
            _check(len(groups) < f.DEPTH_LIMIT, f"Groups must be nested at most {f.DEPTH_LIMIT} deep")
        elif match["close"] and len(groups) > 1:
            _close(groups)
        elif match["or"]:
            groups[-1].is_joining = True
        elif match["word"] or match["phrase"]:
            count += 1
            _check(count <= f.LEAF_LIMIT, f"At most {f.LEAF_LIMIT} terms are allowed")
            name, value = (match["name"] or "").lower(), match["phrase"] or match["word"]
            if (name, value.lower()) == ("in", ANYWHERE):
                is_anywhere = True
                continue
            term = _term(name, match["name"], value)
            groups[-1].add(f.Not(term) if match["minus"] else term)
    while len(groups) > 1:
        _close(groups)
    return SearchText(groups[0].filter(), is_anywhere)


def _close(groups: list[_Group]) -> None:
    """End the innermost group. An empty group is ignored."""
    group = groups.pop()
    if group.terms:
        groups[-1].add(group.filter())


def _term(name: str, spelt: str | None, value: str) -> f.Filter:
    _check(len(value) <= TERM_LIMIT_CHARS, f"A term must have at most {TERM_LIMIT_CHARS} characters")
    _check(value.isprintable(), "A term must not contain control characters")
    read = _OPERATORS.get(name)
    if read is not None:
        return read(value)
    return f.Text("text", f"{spelt}:{value}" if spelt else value)


def _contains(field: str) -> Callable[[str], f.Filter]:
    return lambda value: f.Contains(field, value)


def _is(value: str) -> f.Filter:
    lower = value.lower()
    if lower == "unread":
        return f.Not(f.HasFlag("\\Seen"))
    if lower == "read":
        return f.HasFlag("\\Seen")
    if lower not in _FLAGS:
        raise _invalid(f"`is:{value}` is unknown; use unread, read, {', '.join(sorted(_FLAGS))}")
    return f.HasFlag(_FLAGS[lower])


def _has(value: str) -> f.Filter:
    _check(value.lower() in ("attachment", "attachments"), f"`has:{value}` is unknown; use has:attachment")
    return f.HasAttachments(True)


def _before(value: str) -> f.Filter:
    return f.ReceivedBetween(None, _time_ms("before", value))


def _after(value: str) -> f.Filter:
    return f.ReceivedBetween(_time_ms("after", value), None)


def _larger(value: str) -> f.Filter:
    return f.SizeBetween(_size_bytes("larger", value), None)


def _smaller(value: str) -> f.Filter:
    return f.SizeBetween(None, _size_bytes("smaller", value))


def _keyword(value: str) -> f.Filter:
    _check(_KEYWORD.fullmatch(value) is not None, f"`keyword:{value}` is not an IMAP keyword")
    return f.HasFlag(flag_of(value))


_OPERATORS: dict[str, Callable[[str], f.Filter]] = {
    **{field: _contains(field) for field in ("from", "to", "cc", "bcc", "subject")},
    "in": f.InMailboxNamed,
    "is": _is,
    "has": _has,
    "before": _before,
    "after": _after,
    "larger": _larger,
    "smaller": _smaller,
    "keyword": _keyword,
}
OPERATORS: Sequence[str] = tuple(_OPERATORS)


def _time_ms(name: str, value: str) -> int:
    try:
        time = datetime.fromisoformat(value.upper().replace("/", "-"))
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
        return round(time.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise _invalid(f"`{name}:{value}` is not a date such as 2026-01-31") from None


def _size_bytes(name: str, value: str) -> int:
    match = _SIZE.fullmatch(value)
    if match is None:
        raise _invalid(f"`{name}:{value}` is not a size such as 500K or 5M")
    return int(match[1]) * _UNITS[match[2].lower()]


def _check(holds: bool, detail: str) -> None:
    if not holds:
        raise _invalid(detail)


def _invalid(detail: str) -> InvalidRequest:
    return InvalidRequest.parameter("q", detail)
