"""Values in a form that every database accepts.

PostgreSQL rejects NUL in text and in JSON, and index entries of more than 2,704 bytes. No database accepts a lone
surrogate, which UTF-8 cannot encode, or an integer beyond 64 bits. The drivers pass every parameter through
`storable_value`, so that values to write and values to look up change in the same way, on SQLite too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import orjson

REPLACEMENT = "\ufffd"
KEY_BYTES = 1_000
"""The maximum of an indexed text (UTF-8 bytes): two of them fit into one entry of a PostgreSQL index."""
MIN_TIME_MS, MAX_TIME_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999 in UTC: the range of RFC 3339 and of IMAP's date-time (RFC 9051 §9)."""
MIN_INTEGER, MAX_INTEGER = -(1 << 63), (1 << 63) - 1

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_DIGEST_BYTES = 64


def storable(text: str, limit_bytes: int | None = None) -> str:
    """Replace each NUL and lone surrogate by U+FFFD, and shorten the text to `limit_bytes` of UTF-8.

    A longer text keeps its beginning and ends in "~" and the SHA-256 of the whole, so that different texts stay
    different.
    """
    if (not text.isascii() or "\0" in text) and _UNSTORABLE.search(text):
        text = _UNSTORABLE.sub(REPLACEMENT, text)
    if limit_bytes is None or 4 * len(text) <= limit_bytes:
        return text
    raw = text.encode()
    if len(raw) <= limit_bytes:
        return text
    beginning = raw[: limit_bytes - _DIGEST_BYTES - 1].decode(errors="ignore")
    return f"{beginning}~{hashlib.sha256(raw).hexdigest()}"


def storable_integer(number: int) -> int:
    """Return the nearest 64-bit integer."""
    return min(max(number, MIN_INTEGER), MAX_INTEGER)


def storable_time(time_ms: int) -> int:
    """Return the nearest time (ms since 1970 UTC) in the years 1 to 9999."""
    return min(max(time_ms, MIN_TIME_MS), MAX_TIME_MS)


def storable_value(value: object, limit_bytes: int | None = None) -> object:
    """Return a parameter of a statement with texts and integers made storable, other types unchanged."""
    if type(value) is str:
        return storable(value, limit_bytes)
    if type(value) is int:
        return storable_integer(value)
    return value


def json_bytes(value: object) -> bytes:
    """Encode a value as JSON. Texts and integers that JSON cannot hold are made storable."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_storable_tree(value))


def _storable_tree(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {storable(str(name)): _storable_tree(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable_tree(item) for item in value]
    return storable_value(value)
