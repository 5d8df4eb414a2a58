"""Trace fields that a receiving server puts on top of a message (RFC 5321 §4.4)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime

_UNSAFE = re.compile(r"[^\x21-\x7e]|[()\\;]")
_NO_PATH = re.compile(r"[\x00-\x20\x7f<>]")
_MAX_NAME_CHARS = 255


def received_field(
    *, helo: str, peer: str, by: str, protocol: str, queue_id: str, date_ms: int, recipient: str | None = None
) -> bytes:
    """A folded Received field with its CRLF. `protocol` is SMTP, ESMTPSA, LMTP … (RFC 3848).

    Pass `recipient` only for messages with a single recipient. `helo` is reduced to visible ASCII, so it can neither
    end the field nor open a comment.
    """
    date = format_datetime(datetime.fromtimestamp(date_ms // 1000, UTC))
    lines = [
        f"Received: from {_safe(helo) or 'unknown'} ([{_safe(peer)}])",
        f"\tby {_safe(by)} with {protocol} id {queue_id}",
    ]
    if recipient is not None:
        lines.append(f"\tfor <{_safe(recipient)}>")
    return ("\r\n".join(lines) + f";\r\n\t{date}\r\n").encode("ascii")


def return_path_field(sender: str) -> bytes:
    """A Return-Path field with its CRLF. `sender` is "" for the null sender. Non-ASCII characters stay (RFC 6531)."""
    path = _NO_PATH.sub("", sender)
    return f"Return-Path: <{path}>\r\n".encode("utf-8", "replace")


def _safe(text: str) -> str:
    return _UNSAFE.sub("", text[:_MAX_NAME_CHARS])
