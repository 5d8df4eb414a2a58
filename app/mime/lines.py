"""Line ends."""

from __future__ import annotations

import re

_BARE_LF = re.compile(rb"(?<!\r)\n")


def normalise_newlines(data: bytes) -> bytes:
    """Replace bare LF by CRLF (RFC 5321 §2.3.8). Linear.

    A bare CR, as in `=\\r\\r\\n`, is content and stays.
    """
    if data.count(b"\n") == data.count(b"\r\n"):
        return data
    return _BARE_LF.sub(b"\r\n", data)
