"""Prepared summaries: the JSON object of a message, built once on arrival and stored as bytes."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from app.mail.storable import json_bytes, storable_time
from app.mail.types import Address, Overview, ThreadId


def iso(ms: int) -> str:
    """Format a time as RFC 3339 in UTC, to the second: `2026-01-31T08:15:00Z`. Years outside 1–9999 are clamped."""
    return datetime.fromtimestamp(storable_time(ms) // 1000, UTC).isoformat()[:19] + "Z"


def addresses_to_json(addresses: tuple[Address, ...]) -> list[dict[str, str]]:
    """Return addresses as the API shows them."""
    return [{"name": item.name, "address": item.address} for item in addresses]


def addresses_of(value: list[dict[str, str]]) -> tuple[Address, ...]:
    return tuple(Address(item["name"], item["address"]) for item in value)


def patched(summary: bytes, **changes: object) -> bytes:
    """Return a prepared summary with some fields replaced."""
    return json_bytes({**orjson.loads(summary), **changes})


_ON_SERVER_FIELD = b'"on_server":'


def shown_summary(summary: bytes, view: bytes = b"summary") -> bytes:
    """Return a prepared summary as responses show it: `view` first; `on_server` null if it has none (not POP3).

    A JSON text cannot contain a bare quote, so it is never mistaken for the field.
    """
    on_server = b"" if _ON_SERVER_FIELD in summary else b',"on_server":null'
    return b"".join((b'{"view":"', view, b'",', summary[1:-1], on_server, b"}"))


_THREAD_FIELD = b'"thread_id":"'


def thread_id_in(summary: bytes) -> ThreadId:
    """Return the thread id of a prepared summary without parsing it: a JSON text cannot contain a bare quote."""
    start = summary.index(_THREAD_FIELD) + len(_THREAD_FIELD)
    return ThreadId(summary[start : summary.index(b'"', start)].decode())


def overview_in(summary: bytes, bcc: tuple[Address, ...] = ()) -> Overview:
    """Return the header of a prepared summary, to compose a reply; `date_ms` is to the second."""
    fields = orjson.loads(summary)
    lists = {name: addresses_of(fields[name]) for name in ("from", "reply_to", "to", "cc")}
    date = fields["date"]
    return Overview(
        fields["subject"],
        lists["from"],
        lists["from"],
        lists["reply_to"],
        lists["to"],
        lists["cc"],
        bcc,
        None if date is None else int(datetime.fromisoformat(date).timestamp()) * 1000,
        fields["message_id_header"],
        tuple(fields["in_reply_to"]),
        tuple(fields["references"]),
    )
