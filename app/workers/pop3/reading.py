"""What a message of a POP3 server is to the index: its hashes, when it came, its arrival."""

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
"""As much of a header counts."""
FUTURE_MS = 24 * 3600 * 1000
_VOLATILE = re.compile(rb"^(?:X-)?(?:Status|UIDL|Content-Length):[^\n]*\n", re.IGNORECASE | re.MULTILINE)
"""qpopper and UW ipop3d write what was read, and their own ids, into the header."""


def header_hash(header: bytes) -> str:
    """What a message is known by when its unique id changed; the same for TOP's answer and for the whole message."""
    lines = header[:HASHED_BYTES].replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
    return hashlib.sha256(_VOLATILE.sub(b"", lines)).hexdigest()


def received_at(header: bytes, date_ms: int | None, now_ms: int) -> int:
    """When the server got a message (POP3 does not tell): by its topmost Received, else its Date, else now."""
    for name, value in split_fields(header):
        if name == "received":
            told = parse_date(unfold(value).rpartition(";")[2])
            return told if told is not None and 0 < told < now_ms + FUTURE_MS else now_ms
    return date_ms if date_ms is not None and 0 < date_ms < now_ms else now_ms


def arrival(content: StoredContent, inbox: MailboxId, now_ms: int, *, is_announced: bool) -> Arrived:
    """A message that is stored whole."""
    return replace(
        content.arrived,
        mailbox_id=inbox,
        received_at_ms=received_at(header_of(content.arrived), content.arrived.overview.date_ms, now_ms),
        is_announced=is_announced,
        is_on_server=True,
    )


def glimpse(header: bytes, size_bytes: int, inbox: MailboxId, now_ms: int) -> Arrived:
    """A message of which the header alone is here: what a list shows, but for its preview."""
    seen = read_content(header, "")
    return replace(
        seen,
        mailbox_id=inbox,
        received_at_ms=received_at(header, seen.overview.date_ms, now_ms),
        size_bytes=size_bytes,
        structure=None,
        preview=None,
        blob=None,
        problems=(),
        is_on_server=True,
    )


def header_of(arrived: Arrived) -> bytes:
    return arrived.rendered.header if arrived.rendered is not None else b""
