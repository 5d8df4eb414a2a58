"""Line ends."""

from __future__ import annotations

import re

_LINE_END = re.compile(rb"\r\n|\r|\n")


def normalise_newlines(data: bytes) -> bytes:
    """Bare LF and bare CR made CRLF, as RFC 5321 §2.3.8 wants lines to end. Linear; sane bytes come back unchanged."""
    pairs = data.count(b"\r\n")
    if data.count(b"\n") == pairs and data.count(b"\r") == pairs:
        return data
    return _LINE_END.sub(b"\r\n", data)
