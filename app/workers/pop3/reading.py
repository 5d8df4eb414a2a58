"""Converts a message of a POP3 server for the index: its hashes, arrival time and row."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

from app.mail.delta import Arrived
from app.mail.types import MailboxId
from app.mailstore.content import StoredContent, read_content
from app.mime.dates import parse_date
from app.mime.fields import split_fields, unfold

HASHED_BYTES = 64 * 1024
"""Bytes of a header that are hashed."""
FUTURE_MS = 24 * 3600 * 1000
_VOLATILE = re.compile(rb"^(?:X-)?(?:Status|UIDL|Content-Length):[^\n]*\n", re.IGNORECASE | re.MULTILINE)
"""qpopper and UW ipop3d write the read status and their own ids into the header."""


def header_hash(header: bytes) -> str:
    """Hash that identifies a message whose UIDL changed; the same for the response to TOP and the whole message."""
    lines = header[:HASHED_BYTES].replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
    return hashlib.sha256(_VOLATILE.sub(b"", lines)).hexdigest()


def received_at(header: bytes, date_ms: int | None, now_ms: int) -> int:
    """Arrival time in ms, which POP3 does not report: from the topmost Received field, else Date, else now."""
    for name, value in split_fields(header):
        if name == "received":
            received_ms = parse_date(unfold(value).rpartition(";")[2])
            return received_ms if received_ms is not None and 0 < received_ms < now_ms + FUTURE_MS else now_ms
    return date_ms if date_ms is not None and 0 < date_ms < now_ms else now_ms


def arrival(content: StoredContent, inbox: MailboxId, now_ms: int, *, is_announced: bool) -> Arrived:
    """The row of a message that is stored completely."""
    return replace(
        content.arrived,
        mailbox_id=inbox,
        received_at_ms=received_at(header_of(content.arrived), content.arrived.overview.date_ms, now_ms),
        is_announced=is_announced,
        is_on_server=True,
    )


def glimpse(header: bytes, size_bytes: int, inbox: MailboxId, now_ms: int) -> Arrived:
    """The row of a message of which only the header is stored: complete except for its preview and content."""
    arrived = read_content(header, "")
    return replace(
        arrived,
        mailbox_id=inbox,
        received_at_ms=received_at(header, arrived.overview.date_ms, now_ms),
        size_bytes=size_bytes,
        structure=None,
        preview=None,
        blob=None,
        problems=(),
        is_on_server=True,
    )


def header_of(arrived: Arrived) -> bytes:
    return arrived.rendered.header if arrived.rendered is not None else b""
