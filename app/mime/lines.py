"""Line ends."""

from __future__ import annotations

import re

_BARE_LF = re.compile(rb"(?<!\r)\n")


def normalise_newlines(data: bytes) -> bytes:
    """Bare LF made CRLF, as RFC 5321 §2.3.8 wants lines to end. Linear; sane bytes come back unchanged.

    A bare CR is content, as in `=\\r\\r\\n`, and stays.
    """
    if data.count(b"\n") == data.count(b"\r\n"):
        return data
    return _BARE_LF.sub(b"\r\n", data)
