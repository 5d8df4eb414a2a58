"""Content-Disposition of an HTTP answer (RFC 6266, RFC 8187)."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

from app.mime.names import safe_name

_ATTR_CHARS = "!#$&+-.^_`|~"
"""What RFC 8187 §3.2.1 lets stand, besides letters and digits."""


def content_disposition(filename: str | None, *, inline: bool) -> str:
    """The header's value: an ASCII name for old programs, and the whole one as UTF-8 where they differ.

    The name is made safe here too: it has no path, control character or quote.
    """
    kind = "inline" if inline else "attachment"
    name = safe_name(filename) if filename else None
    if name is None:
        return kind
    fallback = _ascii(name)
    value = f'{kind}; filename="{fallback}"'
    return value if fallback == name else f"{value}; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"


def _ascii(name: str) -> str:
    """Letters without their accents, "_" for what has no ASCII; no "%", which some browsers decode."""
    plain = unicodedata.normalize("NFKD", name)
    kept = (char for char in plain if not unicodedata.combining(char))
    return "".join(char if char.isascii() and char.isprintable() and char not in '"\\%' else "_" for char in kept)
