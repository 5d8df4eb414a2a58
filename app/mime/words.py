"""Header text for people: encoded-words (RFC 2047) are decoded, control characters are removed.

Adjacent encoded-words with the same charset are joined as bytes before decoding, because some programs split a
character over two words.
"""

from __future__ import annotations

import re

from app.mime.charset import WESTERN, decode_short, has_escapes, is_sound
from app.mime.guess import guessed_label
from app.mime.transfer import decode_transfer

_WORD = re.compile(r"=\?([^?\s*]++)(?:\*[^?\s]*+)?\?([bBqQ])\?([^?\r\n]*+(?:\?(?!=)[^?\r\n]*+){0,50})\?=")
_QUOTED = re.compile(rb"=([0-9A-Fa-f]{2})")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
BIDI_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def decode_words(text: str, fallback: str = WESTERN) -> str:
    """Decode the encoded-words of unfolded header text. Return one line. Linear; never raises.

    `fallback` is the charset of unlabelled bytes that are not UTF-8; see `charset_of`.
    """
    if text.isascii() and text.isprintable() and "=?" not in text:  # most text: this keeps the initial sync fast
        return text.strip()
    return clean(spelled_out(text, fallback))


def charset_of(text: str) -> str:
    """The probable charset of the 8-bit bytes of header text, if they are not UTF-8."""
    if text.isascii() or not _SURROGATES.search(text):
        return WESTERN
    return guessed_label(text.encode("utf-8", "surrogateescape"))


def spelled_out(text: str, fallback: str = WESTERN) -> str:
    """Decode encoded-words as `decode_words` does, but keep spaces and control characters."""
    if "=?" not in text:
        return as_utf8(text, fallback)
    pieces: list[str] = []
    pending: list[bytes] = []
    charset, end = "", 0
    for match in _WORD.finditer(text):
        between = text[end : match.start()]
        is_neighbour = bool(pending) and not between.strip()
        if not is_neighbour or match[1].lower() != charset:
            pieces.append(_decoded(pending, charset))
            pending.clear()
        if not is_neighbour:
            pieces.append(as_utf8(between, fallback))
        charset = match[1].lower()
        pending.append(_word_bytes(match[2], match[3]))
        end = match.end()
    pieces.append(_decoded(pending, charset))
    pieces.append(as_utf8(text[end:], fallback))
    return "".join(pieces)


def clean(text: str) -> str:
    """Replace each run of control characters, including NUL and line ends, by a space, and strip the ends."""
    return text.strip() if text.isprintable() else _CONTROLS.sub(" ", text).strip()


def _decoded(pending: list[bytes], charset: str) -> str:
    """Decode adjacent words of one charset: joined, or one by one if only that gives valid text (RFC 2047 §3)."""
    together = b"".join(pending)
    if len(pending) > 1 and not is_sound(together, charset) and all(is_sound(raw, charset) for raw in pending):
        return "".join(decode_short(raw, charset) for raw in pending)
    return decode_short(together, charset)


def _word_bytes(encoding: str, payload: str) -> bytes:
    raw = payload.encode("utf-8", "surrogateescape")
    if encoding in "bB":
        return decode_transfer(raw, "base64")[0]
    return _QUOTED.sub(lambda match: bytes((int(match[1], 16),)), raw.replace(b"_", b" "))


def as_utf8(text: str, fallback: str = WESTERN) -> str:
    """Decode the escaped bytes of raw header text, if there are any, as UTF-8 or by `fallback`."""
    if text.isascii():
        return decode_short(text.encode(), "iso-2022-jp") if "\x1b" in text and has_escapes(text.encode()) else text
    if not _SURROGATES.search(text):
        return text
    return decode_short(text.encode("utf-8", "surrogateescape"), None, fallback)
