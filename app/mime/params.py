"""Parameters of Content-Type and Content-Disposition (RFC 2045 §5.1, RFC 2183), and RFC 2231 in them."""

from __future__ import annotations

import re
from itertools import islice
from urllib.parse import unquote_to_bytes

from app.mime.charset import decode_short
from app.mime.words import charset_of, clean, decode_words

Params = tuple[tuple[str, str], ...]

MAX_PARAMS = 200
"""Read of one field, pieces of RFC 2231 counted."""
MAX_VALUE_CHARS = 64 * 1024

_ATOM = r"[!#$%&'*+.^_`|~{}0-9A-Za-z-]++"
_MEDIA_TYPE = re.compile(rf"\s*+({_ATOM})\s*+(?:/\s*+({_ATOM}))?")
_PARAM = re.compile(r';\s*+([^\s=;"]++)\s*+=\s*+(?:"([^"\\]*+(?:\\.[^"\\]*+)*)\\?"?|([^;]*+))', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_TRAILING_COMMENT = re.compile(r"(\S++)\s++\(.*\)", re.DOTALL)
_PIECE = re.compile(r"(.+?)\*(\d{1,6})(\*?)")


def parse_value(text: str) -> tuple[str, Params]:
    """A value with parameters: ("text/plain", (("charset", "utf-8"),)). Type and names in lower case.

    Values stay undecoded, but RFC 2231 continuations are joined under `name`, or `name*` where a piece is encoded.
    A type without a subtype keeps only what there is; no type at all is "".
    """
    found = _MEDIA_TYPE.match(text)
    kind = (found[1] + (f"/{found[2]}" if found[2] else "")).lower() if found else ""
    return kind, _params(text, found.end() if found else 0)


def decoded_param(params: Params, name: str) -> str | None:
    """A parameter for people: RFC 2231 in any form, RFC 2047 words where a program put them; None where absent."""
    values = dict(reversed(_joined(list(params[:MAX_PARAMS]))))
    extended = values.get(f"{name}*")
    if extended is not None:
        return clean(extended_value(extended))
    plain = values.get(name)
    return decode_words(plain, charset_of(plain)) if plain is not None else None


def _params(text: str, start: int) -> Params:
    if text.find(";", start) < 0:
        return ()
    found = islice(_PARAM.finditer(text, start), MAX_PARAMS)
    return tuple(_joined([(match[1].lower(), _param_value(match)) for match in found]))


def _param_value(match: re.Match[str]) -> str:
    quoted = match[2]
    if quoted is not None:
        return _ESCAPE.sub(r"\1", quoted) if "\\" in quoted else quoted
    bare = match[3].strip()
    commented = _TRAILING_COMMENT.fullmatch(bare) if bare.endswith(")") else None
    return commented[1] if commented else bare


def _joined(params: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Continuations joined (RFC 2231 §3), after the whole ones as Dovecot orders them."""
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
    return whole + [_join(name, found) for name, found in pieces.items()]


def _join(name: str, found: list[tuple[int, bool, str]]) -> tuple[str, str]:
    ordered = sorted(found, key=lambda piece: piece[0])
    if not any(is_encoded for _, is_encoded, _ in ordered):
        return name, "".join(value for _, _, value in ordered)[:MAX_VALUE_CHARS]
    encoded = "".join(value if is_encoded else value.replace("%", "%25") for _, is_encoded, value in ordered)
    return f"{name}*", encoded[:MAX_VALUE_CHARS]


def extended_value(value: str) -> str:
    """charset'language'percent-encoded (RFC 2231 §4); without the quotes it is taken as UTF-8."""
    charset, quote, rest = value.partition("'")
    _, second_quote, encoded = rest.partition("'")
    if not (quote and second_quote):
        charset, encoded = "", value
    return decode_short(unquote_to_bytes(encoded.encode("utf-8", "surrogateescape")), charset or None)
