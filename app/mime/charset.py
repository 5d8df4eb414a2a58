"""Decoding of text: by the label, read as browsers do (WHATWG Encoding), then as UTF-8, then by a guess.

An invalid byte becomes one U+FFFD; the text around it is kept.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from app.mime.encodings import ISO_2022_JP, codec_of, read
from app.mime.guess import guessed_label, is_mostly_utf8

WESTERN = "windows-1252"

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_ESCAPES = (b"\x1b$B", b"\x1b$@", b"\x1b$(", b"\x1b(I", b"\x1b(J")
"""Escape sequences of ISO-2022-JP that occur in no other charset of mail."""
_WITH_ESCAPES = frozenset({ISO_2022_JP, "iso2022_kr"})


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text and its charset. `is_guess`: no label named the charset. `is_damaged`: bytes were replaced."""

    text: str
    charset: str
    is_guess: bool = False
    is_damaged: bool = False


def decode(raw: bytes, label: str | None) -> Decoded:
    """Decode by label; without a usable label as UTF-8, else by a guess. Never raises.

    The label us-ascii is ignored for 8-bit bytes: mail servers report it if a message has no label.
    """
    codec = _codec(raw, label)
    if codec is None:
        return _unlabelled(raw)
    text = _strict(raw, codec)
    return Decoded(text, codec) if text is not None else _mislabelled(raw, codec)


def decode_short(raw: bytes, label: str | None = None, fallback: str = WESTERN) -> str:
    """Decode a piece of a header by label, else as UTF-8, else by the label `fallback`. Never raises."""
    codec = _codec(raw, label)
    text = _strict(raw, codec or "utf-8")
    if text is None and codec is not None and not has_escapes(raw):
        text = _strict(raw, "utf-8")
    if text is None:
        text = decode_damaged(raw, codec or ("utf-8" if is_mostly_utf8(raw) else codec_of(fallback) or "cp1252"))
    return text.removeprefix("\ufeff")


def is_sound(raw: bytes, label: str) -> bool:
    """Whether all bytes are valid in the charset of a label, or in UTF-8 if the label names none."""
    return _strict(raw, _codec(raw, label) or "utf-8") is not None


def decode_damaged(raw: bytes, codec: str) -> str:
    """Decode by a codec, with replacements for invalid bytes. Never raises."""
    try:
        return read(raw, codec, "replace")
    except (UnicodeError, ValueError):
        return raw.decode("utf-8", "replace")


def is_ascii(label: str) -> bool:
    """Whether a label names ASCII, which says nothing about 8-bit bytes."""
    return "ascii" in label.lower() or label.upper().startswith("ANSI_X3.4")


def has_escapes(raw: bytes) -> bool:
    """Whether ASCII bytes are ISO-2022-JP."""
    return b"\x1b" in raw and any(escape in raw for escape in _ESCAPES)


def _codec(raw: bytes, label: str | None) -> str | None:
    """The decoder for a label, None if it cannot apply to these bytes. A byte order mark takes precedence."""
    if raw[:1] in (b"\xef", b"\xff", b"\xfe"):
        for mark, codec in _BOMS:
            if raw.startswith(mark) and (codec == "utf-8" or not label or "utf-16" in label.lower()):
                return codec
    if not label or (is_ascii(label) and not raw.isascii()):
        return None
    labelled = codec_of(label)
    return None if labelled not in _WITH_ESCAPES and raw.isascii() and has_escapes(raw) else labelled


def _unlabelled(raw: bytes) -> Decoded:
    if has_escapes(raw):
        return Decoded(decode_damaged(raw, ISO_2022_JP), ISO_2022_JP, is_guess=True)
    text = _utf8(raw)
    if text is not None:
        return Decoded(text, "utf-8", is_guess=not raw.isascii())
    if is_mostly_utf8(raw):
        return Decoded(decode_damaged(raw, "utf-8"), "utf-8", is_guess=True, is_damaged=True)
    codec = codec_of(guessed_label(raw)) or "cp1252"
    return Decoded(decode_damaged(raw, codec), codec, is_guess=True)


def _mislabelled(raw: bytes, codec: str) -> Decoded:
    """Decode bytes that do not match their label: as UTF-8 if valid, else by the label with replacements."""
    text = None if has_escapes(raw) else _utf8(raw)
    if text is not None:
        return Decoded(text, "utf-8", is_guess=codec != "utf-8")
    return Decoded(decode_damaged(raw, codec), codec, is_damaged=True)


def _strict(raw: bytes, codec: str) -> str | None:
    try:
        return read(raw, codec)
    except (UnicodeError, ValueError):
        return None


def _utf8(raw: bytes) -> str | None:
    """Decode UTF-8, or return None. A truncated last character, as in a preview, is dropped."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        is_cut = error.reason == "unexpected end of data" and not raw[: error.start].isascii()
        return raw[: error.start].decode("utf-8") if is_cut else None
