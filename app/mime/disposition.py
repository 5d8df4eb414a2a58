"""Content-Disposition of an HTTP response (RFC 6266, RFC 8187)."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

from app.mime.names import safe_name

_ATTR_CHARS = "!#$&+-.^_`|~"
"""Characters that RFC 8187 §3.2.1 leaves unescaped, besides letters and digits."""


def content_disposition(filename: str | None, *, inline: bool) -> str:
    """The header's value: an ASCII name for old programs, and the whole name as UTF-8 if it differs.

    The name is made safe: it contains no path, control character or quote.
    """
    kind = "inline" if inline else "attachment"
    name = safe_name(filename) if filename else None
    if name is None:
        return kind
    fallback = _ascii(name)
    value = f'{kind}; filename="{fallback}"'
    return value if fallback == name else f"{value}; filename*=UTF-8''{quote(name, safe=_ATTR_CHARS)}"


def _ascii(name: str) -> str:
    """Remove accents, and replace other non-ASCII characters, and "%", which some browsers decode, by "_"."""
    decomposed = unicodedata.normalize("NFKD", name)
    plain_chars = (char for char in decomposed if not unicodedata.combining(char))
    return "".join(
        char if char.isascii() and char.isprintable() and char not in '"\\%' else "_" for char in plain_chars
    )
