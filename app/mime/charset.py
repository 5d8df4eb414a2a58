"""Bytes to text: the label first, read as browsers read it (WHATWG Encoding), then UTF-8, then a guess.

An invalid byte becomes one U+FFFD and does not affect the text around it.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from app.mime.encodings import ISO_2022_JP, codec_of, read
from app.mime.guess import guessed_label, is_mostly_utf8

WESTERN = "windows-1252"

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_ESCAPES = (b"\x1b$B", b"\x1b$@", b"\x1b$(", b"\x1b(I", b"\x1b(J")
"""What ISO-2022-JP begins with, and no other text of mail has."""
_WITH_ESCAPES = frozenset({ISO_2022_JP, "iso2022_kr"})


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text and the charset that gave it; `is_guess` where no label said so, `is_damaged` where bytes were replaced."""

    text: str
    charset: str
    is_guess: bool = False
    is_damaged: bool = False


def decode(raw: bytes, label: str | None) -> Decoded:
    """Decode by label; without a usable one as UTF-8, else by a guess. Never raises.

    us-ascii says nothing of 8-bit bytes: servers name it where a message names nothing.
    """
    codec = _codec(raw, label)
    if codec is None:
        return _unlabelled(raw)
    text = _strict(raw, codec)
    return Decoded(text, codec) if text is not None else _mislabelled(raw, codec)


def decode_short(raw: bytes, label: str | None = None, fallback: str = WESTERN) -> str:
    """Decode a piece of a header: by label, else as UTF-8, else by `fallback`, the label of a guess. Never raises."""
    codec = _codec(raw, label)
    text = _strict(raw, codec or "utf-8")
    if text is None and codec is not None and not has_escapes(raw):
        text = _strict(raw, "utf-8")
    if text is None:
        text = decode_damaged(raw, codec or ("utf-8" if is_mostly_utf8(raw) else codec_of(fallback) or "cp1252"))
    return text.removeprefix("\ufeff")


def is_sound(raw: bytes, label: str) -> bool:
    """Whether all bytes are characters of the charset that a label names, UTF-8 where it names none."""
    return _strict(raw, _codec(raw, label) or "utf-8") is not None


def decode_damaged(raw: bytes, codec: str) -> str:
    """Decode by a codec with replacements for what it cannot read. Never raises."""
    try:
        return read(raw, codec, "replace")
    except (UnicodeError, ValueError):
        return raw.decode("utf-8", "replace")


def is_ascii(label: str) -> bool:
    """Whether a label says no more of 8-bit bytes than that they should not be there."""
    return "ascii" in label.lower() or label.upper().startswith("ANSI_X3.4")


def has_escapes(raw: bytes) -> bool:
    """Whether ASCII bytes are ISO-2022-JP."""
    return b"\x1b" in raw and any(escape in raw for escape in _ESCAPES)


def _codec(raw: bytes, label: str | None) -> str | None:
    """The decoder that a label names, None where it says nothing of these bytes; a byte order mark says more."""
    if raw[:1] in (b"\xef", b"\xff", b"\xfe"):
        for mark, codec in _BOMS:
            if raw.startswith(mark) and (codec == "utf-8" or not label or "utf-16" in label.lower()):
                return codec
    if not label or (is_ascii(label) and not raw.isascii()):
        return None
    found = codec_of(label)
    return None if found not in _WITH_ESCAPES and raw.isascii() and has_escapes(raw) else found


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
    """Bytes that are not what their label says: UTF-8 if they are that, else the label with replacements."""
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
    """The text of UTF-8, None for anything else. A last character that was cut off, as in a preview, is left out."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        is_cut = error.reason == "unexpected end of data" and not raw[: error.start].isascii()
        return raw[: error.start].decode("utf-8") if is_cut else None
