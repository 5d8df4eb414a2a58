"""Parameters of Content-Type and Content-Disposition (RFC 2045 §5.1, RFC 2183), including RFC 2231 encoding."""

from __future__ import annotations

import re
from itertools import islice
from urllib.parse import unquote_to_bytes

from app.mime.charset import decode_short
from app.mime.words import charset_of, clean, decode_words

Params = tuple[tuple[str, str], ...]

MAX_PARAMS = 200
"""Parameters that are read of one field; each RFC 2231 continuation counts."""
MAX_VALUE_CHARS = 64 * 1024

_ATOM = r"[!#$%&'*+.^_`|~{}0-9A-Za-z-]++"
_MEDIA_TYPE = re.compile(rf"\s*+({_ATOM})\s*+(?:/\s*+({_ATOM}))?")
_PARAM = re.compile(r';\s*+([^\s=;"]++)\s*+=\s*+(?:"([^"\\]*+(?:\\.[^"\\]*+)*)\\?"?|([^;]*+))', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_TRAILING_COMMENT = re.compile(r"(\S++)\s++\(.*\)", re.DOTALL)
_PIECE = re.compile(r"(.+?)\*(\d{1,6})(\*?)")


def parse_value(text: str) -> tuple[str, Params]:
    """Parse a field value such as ("text/plain", (("charset", "utf-8"),)). Type and names come in lower case.

    Values stay undecoded. RFC 2231 continuations are joined under `name`, or under `name*` if a piece is encoded.
    A type without a subtype comes without the slash; a missing type is "".
    """
    match = _MEDIA_TYPE.match(text)
    kind = (match[1] + (f"/{match[2]}" if match[2] else "")).lower() if match else ""
    return kind, _params(text, match.end() if match else 0)


def decoded_param(params: Params, name: str) -> str | None:
    """A parameter as readable text, or None: RFC 2231 encoding and misplaced RFC 2047 words are decoded."""
    values = dict(reversed(_joined(list(params[:MAX_PARAMS]))))
    extended = values.get(f"{name}*")
    if extended is not None:
        return clean(extended_value(extended))
    plain = values.get(name)
    return decode_words(plain, charset_of(plain)) if plain is not None else None


def _params(text: str, start: int) -> Params:
    if text.find(";", start) < 0:
        return ()
    matches = islice(_PARAM.finditer(text, start), MAX_PARAMS)
    return tuple(_joined([(match[1].lower(), _param_value(match)) for match in matches]))


def _param_value(match: re.Match[str]) -> str:
    quoted = match[2]
    if quoted is not None:
        return _ESCAPE.sub(r"\1", quoted) if "\\" in quoted else quoted
    bare = match[3].strip()
    commented = _TRAILING_COMMENT.fullmatch(bare) if bare.endswith(")") else None
    return commented[1] if commented else bare


def _joined(params: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Join continuations (RFC 2231 §3). Joined parameters follow the others, as in Dovecot."""
    if not any("*" in name for name, _ in params):
        return params
    whole: list[tuple[str, str]] = []
    pieces: dict[str, list[tuple[int, bool, str]]] = {}
    for name, value in params:
        piece = _PIECE.fullmatch(name)
        if piece is None:
            whole.append((name, value))
        else:
            pieces.setdefault(piece[1], []).append((int(piece[2]), bool(piece[3]), value))
    return whole + [_join(name, numbered) for name, numbered in pieces.items()]


def _join(name: str, pieces: list[tuple[int, bool, str]]) -> tuple[str, str]:
    ordered = sorted(pieces, key=lambda piece: piece[0])
    if not any(is_encoded for _, is_encoded, _ in ordered):
        return name, "".join(value for _, _, value in ordered)[:MAX_VALUE_CHARS]
    encoded = "".join(value if is_encoded else value.replace("%", "%25") for _, is_encoded, value in ordered)
    return f"{name}*", encoded[:MAX_VALUE_CHARS]


def extended_value(value: str) -> str:
    """Decode charset'language'percent-encoded (RFC 2231 §4). A value without the quotes is read as UTF-8."""
    charset, quote, rest = value.partition("'")
    _, second_quote, encoded = rest.partition("'")
    if not (quote and second_quote):
        charset, encoded = "", value
    return decode_short(unquote_to_bytes(encoded.encode("utf-8", "surrogateescape")), charset or None)
