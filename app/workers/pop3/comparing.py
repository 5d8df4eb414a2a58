"""What a list of a POP3 server says to a ledger. Pure: from two lists to what is to be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.backends.pop3.session import Entry
from app.mail.pop3 import Keeping, Retention
from app.mailstore.pop3_ledger import Key, Line, State

DAY_MS = 24 * 3600 * 1000
SUSPECT_COUNT, SUSPECT_SHARE = 10, 0.5
"""When more than both is missing from a list at once, a second list must say so too."""
_ON_SERVER = (State.LISTED, State.SEEN, State.STORED, State.KEPT, State.DELETE_PENDING)

Listed = Mapping[Key, Entry]
Lines = Mapping[Key, Line]


def keyed(entries: Sequence[Entry], names: Sequence[str]) -> dict[Key, Entry]:
    """Messages by what they go by: those of one name are counted in the order of the list."""
    counts: Counter[str] = Counter()
    found: dict[Key, Entry] = {}
    for entry, name in zip(entries, names, strict=True):
        found[Key(name, counts[name])] = entry
        counts[name] += 1
    return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """`fresh` is on the server and not in the ledger; `missing` the other way; `back` was gone and is there again."""

    fresh: tuple[Key, ...]
    missing: tuple[Line, ...]
    back: tuple[Line, ...]


def compare(listed: Listed, lines: Lines) -> Comparison:
    fresh = tuple(key for key in listed if key not in lines)
    missing = tuple(line for key, line in lines.items() if key not in listed and line.state is not State.DELETED)
    back = tuple(lines[key] for key in listed if key in lines and lines[key].state in (State.GONE, State.DELETED))
    return Comparison(fresh, missing, back)


def lost_by_id(listed: Listed, lines: Lines) -> list[Line]:
    """The lines of what may be on the server still, under another id.

    What we deleted there is not among them: an equal message that comes now is another one, and must not be lost. What
    was deleted here alone is, but only where no id is left of those that were known: then the server renumbered all.
    """
    states = {State.SEEN, State.STORED, State.GONE}
    if not any(key in lines for key in listed):
        states.add(State.KEPT)
    return [line for key, line in lines.items() if key not in listed and line.state in states]


def is_suspicious(missing: Collection[Line], lines: Lines) -> bool:
    """Whether so much is missing that the list itself may be at fault."""
    expected = sum(line.state in _ON_SERVER for line in lines.values())
    unexpected = sum(line.state in _ON_SERVER and line.state is not State.DELETE_PENDING for line in missing)
    return unexpected > SUSPECT_COUNT and unexpected > SUSPECT_SHARE * expected


def same_messages(missing: Collection[Line], fresh: Mapping[Key, tuple[int, str]]) -> dict[Key, Line]:
    """Which missing message each fresh one is: equal in header and size. `fresh` maps key → (size, header hash).

    Copies that are equal in both are one another's equals: they are taken in order.
    """
    waiting: dict[tuple[int, str], list[Line]] = {}
    for line in sorted(missing, key=lambda one: one.key, reverse=True):
        if line.header_hash is not None:
            waiting.setdefault((line.size_bytes, line.header_hash), []).append(line)
    found: dict[Key, Line] = {}
    for key, facts in fresh.items():
        if candidates := waiting.get(facts):
            found[key] = candidates.pop()
    return found


def removable(listed: Listed, lines: Lines, retention: Retention, now_ms: int) -> list[Line]:
    """What may leave the server by the rule: stored here, or deleted here by its owner; oldest first."""
    there = [lines[key] for key in listed if key in lines]
    candidates = [line for line in there if line.state in (State.STORED, State.KEPT)]
    match retention.keeping:
        case Keeping.KEEP:
            return []
        case Keeping.MIRROR_DELETE:
            return [line for line in candidates if line.state is State.KEPT]
        case Keeping.REMOVE_AFTER_DOWNLOAD:
            return candidates
        case Keeping.KEEP_DAYS:
            before = now_ms - retention.count * DAY_MS
            return [line for line in candidates if line.stored_at_ms <= before]
        case Keeping.KEEP_LAST:
            beyond = {line.key for line in there[: -retention.count]}
            return [line for line in candidates if line.key in beyond]
