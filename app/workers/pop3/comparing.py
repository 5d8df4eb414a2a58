"""Compares the list of a POP3 server with the ledger and computes the actions, without I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from app.backends.pop3.session import Entry
from app.mail.pop3 import Keeping, Retention
from app.mailstore.pop3_ledger import Key, Line, Pop3State

DAY_MS = 24 * 3600 * 1000
SUSPECT_COUNT, SUSPECT_SHARE = 10, 0.5
"""When more than both is missing from a list at once, a second list must confirm it."""
_ON_SERVER = (Pop3State.LISTED, Pop3State.SEEN, Pop3State.STORED, Pop3State.KEPT, Pop3State.DELETE_PENDING)

Listed = Mapping[Key, Entry]
Lines = Mapping[Key, Line]


def keyed(entries: Sequence[Entry], names: Sequence[str]) -> dict[Key, Entry]:
    """Entries by key: messages with the same name are numbered in the order of the list."""
    counts: Counter[str] = Counter()
    keys: dict[Key, Entry] = {}
    for entry, name in zip(entries, names, strict=True):
        keys[Key(name, counts[name])] = entry
        counts[name] += 1
    return keys


@dataclass(frozen=True, slots=True)
class Comparison:
    """`fresh`: on the server, not in the ledger. `missing`: the reverse. `back`: on the server again."""

    fresh: tuple[Key, ...]
    missing: tuple[Line, ...]
    back: tuple[Line, ...]


def compare(listed: Listed, lines: Lines) -> Comparison:
    fresh = tuple(key for key in listed if key not in lines)
    missing = tuple(line for key, line in lines.items() if key not in listed and line.state is not Pop3State.DELETED)
    back = tuple(
        lines[key] for key in listed if key in lines and lines[key].state in (Pop3State.GONE, Pop3State.DELETED)
    )
    return Comparison(fresh, missing, back)


def lost_by_id(listed: Listed, lines: Lines) -> list[Line]:
    """Lines of messages that may still be on the server under another id.

    Messages that Postgate deleted on the server are excluded: an equal message that arrives now is new and must not be
    lost. Messages deleted only in the index are included only when no known id is left, because the server then
    renumbered all messages.
    """
    states = {Pop3State.SEEN, Pop3State.STORED, Pop3State.GONE}
    if not any(key in lines for key in listed):
        states.add(Pop3State.KEPT)
    return [line for key, line in lines.items() if key not in listed and line.state in states]


def is_suspicious(missing: Collection[Line], lines: Lines) -> bool:
    """Whether so much is missing that the list itself may be wrong."""
    expected = sum(line.state in _ON_SERVER for line in lines.values())
    unexpected = sum(line.state in _ON_SERVER and line.state is not Pop3State.DELETE_PENDING for line in missing)
    return unexpected > SUSPECT_COUNT and unexpected > SUSPECT_SHARE * expected


def same_messages(missing: Collection[Line], fresh: Mapping[Key, tuple[int, str]]) -> dict[Key, Line]:
    """Match fresh messages with missing ones of equal header and size. `fresh` maps key → (size, header hash).

    Identical copies are matched in order.
    """
    waiting: dict[tuple[int, str], list[Line]] = {}
    for line in sorted(missing, key=lambda line: line.key, reverse=True):
        if line.header_hash is not None:
            waiting.setdefault((line.size_bytes, line.header_hash), []).append(line)
    matches: dict[Key, Line] = {}
    for key, facts in fresh.items():
        if candidates := waiting.get(facts):
            matches[key] = candidates.pop()
    return matches


def removable(listed: Listed, lines: Lines, retention: Retention, now_ms: int) -> list[Line]:
    """Lines to delete on the server by the retention rule: stored, or deleted by the owner; oldest first."""
    on_server = [lines[key] for key in listed if key in lines]
    candidates = [line for line in on_server if line.state in (Pop3State.STORED, Pop3State.KEPT)]
    match retention.keeping:
        case Keeping.KEEP:
            return []
        case Keeping.MIRROR_DELETE:
            return [line for line in candidates if line.state is Pop3State.KEPT]
        case Keeping.REMOVE_AFTER_DOWNLOAD:
            return candidates
        case Keeping.KEEP_DAYS:
            before = now_ms - retention.count * DAY_MS
            return [line for line in candidates if line.stored_at_ms <= before]
        case Keeping.KEEP_LAST:
            beyond = {line.key for line in on_server[: -retention.count]}
            return [line for line in candidates if line.key in beyond]
