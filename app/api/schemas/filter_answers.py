"""Filters in responses: the same JSON as in search requests."""

from __future__ import annotations

from typing import Any

from app.api.schemas.base import time_of
from app.mail import filter as f
from app.mail.types import keywords_of

_HEADER = "header:"


def filter_as_json(tree: f.Filter) -> dict[str, Any]:
    """Return a filter as the JSON that FilterInput reads: the inverse of `FilterInput.value`."""
    match tree:
        case f.All(of):
            return {"all": [filter_as_json(branch) for branch in of]}
        case f.Any(of):
            return {"any": [filter_as_json(branch) for branch in of]}
        case f.Not(f.HasFlag("\\Seen")):
            return {"unread": True}
        case f.Not(of):
            return {"not": filter_as_json(of)}
        case f.Text() | f.Contains():
            return _text_as_json(tree)
        case _:
            return _condition_as_json(tree)


def _text_as_json(leaf: f.Text | f.Contains) -> dict[str, Any]:
    match leaf:
        case f.Text(scope, value) if scope.startswith(_HEADER):
            return {"header": {"name": scope.removeprefix(_HEADER), "value": value}}
        case f.Text(name, value) | f.Contains(name, value):
            return {name: value}


def _condition_as_json(leaf: f.Filter) -> dict[str, Any]:
    match leaf:
        case f.InMailbox(mailbox_id):
            return {"mailbox_id": mailbox_id}
        case f.ReceivedBetween(since_ms, before_ms):
            return _without_none(since=_time_as_json(since_ms), before=_time_as_json(before_ms))
        case f.SizeBetween(larger_than, smaller_than):
            return _without_none(larger_than=larger_than, smaller_than=smaller_than)
        case f.HasFlag(flag):
            return _flag_as_json(flag)
        case f.HasAttachments(value):
            return {"has_attachments": value}
        case f.MessageIdHeader(value):
            return {"message_id_header": value}
        case _:
            raise TypeError(f"{leaf!r} is not a condition of the API")


def _flag_as_json(flag: str) -> dict[str, Any]:
    known = {"\\Seen": {"unread": False}, "\\Flagged": {"flagged": True}}
    return known.get(flag) or {"keyword": keywords_of(frozenset({flag}))[0]}


def _without_none(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _time_as_json(ms: int | None) -> str | None:
    return None if ms is None else time_of(ms).isoformat().replace("+00:00", "Z")
