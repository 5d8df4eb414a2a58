"""Bytes to text: the label first, read as browsers read it (WHATWG Encoding), then UTF-8, then a guess."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from functools import lru_cache

MAX_GUESSED_BYTES = 64 * 1024
MIN_GUESSED_BYTES = 256
"""Below this a guess is worth less than the Western default: there is too little to count."""

_WHATWG = {
    "ascii": "cp1252",
    "us-ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "iso8859-1": "cp1252",
    "iso_8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "l1": "cp1252",
    "ansi_x3.4-1968": "cp1252",
    "iso-8859-9": "cp1254",
    "latin5": "cp1254",
    "iso-8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gb_2312-80": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "cp936": "gb18030",
    "ms936": "gb18030",
    "euc-cn": "gb18030",
    "big5": "big5hkscs",
    "big5-hkscs": "big5hkscs",
    "x-x-big5": "big5hkscs",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "ksc5601": "cp949",
    "euc-kr": "cp949",
    "korean": "cp949",
    "windows-949": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "ms_kanji": "cp932",
    "windows-31j": "cp932",
    "iso-2022-jp": "iso2022_jp_ext",
    "iso-8859-8-i": "iso8859_8",
    "iso-8859-8-e": "iso8859_8",
    "x-mac-roman": "mac_roman",
    "macintosh": "mac_roman",
    "unicode-1-1-utf-7": "utf-7",
    "utf8": "utf-8",
    "unicode-1-1-utf-8": "utf-8",
    "cp-850": "cp850",
    "win-1251": "cp1251",
}

_TEXT_FREE = frozenset({"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "mbcs", "oem"})
"""Python's codecs that decode bytes to text but are no charset of mail; some are slower than linear."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Text and the charset that gave it; `is_guess` where no label said so, `is_damaged` where bytes were replaced."""

    text: str
    charset: str
    is_guess: bool = False
    is_damaged: bool = False


@lru_cache(maxsize=512)
def codec_of(label: str) -> str | None:
    """Python's codec for a charset label of mail, None for one that is unknown."""
    label = label.strip().strip("\"'").lower()
    name = _WHATWG.get(label, label)
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    is_charset = getattr(found, "_is_text_encoding", False) and found.name not in _TEXT_FREE
    return _WHATWG.get(found.name, found.name) if is_charset else None


def decode(raw: bytes, label: str | None) -> Decoded:
    """Decode by label; without a usable one as UTF-8, else by a guess. Never raises.

    us-ascii says nothing of 8-bit bytes: servers name it where a message names nothing.
    """
    codec = codec_of(label) if label and not (is_ascii(label) and not raw.isascii()) else None
    if codec is not None:
        text = _strict(raw, codec)
        return Decoded(text, codec) if text is not None else _mislabelled(raw, codec)
    text = _utf8(raw)
    return Decoded(text, "utf-8", is_guess=not raw.isascii()) if text is not None else _guess(raw)


def decode_short(raw: bytes, label: str | None = None) -> str:
    """Decode a piece of a header: label, then UTF-8, then windows-1252. No guess: there is too little to count."""
    codec = (codec_of(label) if label else None) or "utf-8"
    text = _strict(raw, codec)
    if text is None:
        text = _strict(raw, "utf-8")
    return text if text is not None else decode_damaged(raw, "cp1252")


def decode_damaged(raw: bytes, codec: str) -> str:
    """Decode by a codec with replacements for what it cannot read. Never raises."""
    try:
        return _paired(raw.decode(codec, "replace"), codec)
    except (UnicodeError, ValueError):
        return raw.decode("utf-8", "replace")


def is_ascii(label: str) -> bool:
    """Whether a label says no more of 8-bit bytes than that they should not be there."""
    return "ascii" in label.lower() or label.upper().startswith("ANSI_X3.4")


def _strict(raw: bytes, codec: str) -> str | None:
    try:
        return _paired(raw.decode(codec), codec)
    except (UnicodeError, ValueError):
        return None


def _paired(text: str, codec: str) -> str:
    """Text without half a surrogate pair, which nothing can store; UTF-7 alone decodes to one."""
    return text.encode("utf-8", "replace").decode() if codec in ("utf-7", "utf_7") else text


def _utf8(raw: bytes) -> str | None:
    """The text of UTF-8, None for anything else. A last character that was cut off, as in a preview, is left out."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        is_cut = error.reason == "unexpected end of data" and not raw[: error.start].isascii()
        return raw[: error.start].decode("utf-8") if is_cut else None


def _mislabelled(raw: bytes, codec: str) -> Decoded:
    """Bytes that are not what their label says: UTF-8 if they are that, else the label with replacements."""
    text = _utf8(raw)
    if text is not None:
        return Decoded(text, "utf-8", is_guess=codec != "utf-8")
    return Decoded(decode_damaged(raw, codec), codec, is_damaged=True)


def _guess(raw: bytes) -> Decoded:
    from charset_normalizer import from_bytes  # 10 MB of tables, for the few messages that need them

    sample = raw[:MAX_GUESSED_BYTES]
    if len(sample) >= MIN_GUESSED_BYTES:
        best = from_bytes(sample).best()
        if best is not None and best.encoding:
            return Decoded(decode_damaged(raw, best.encoding), best.encoding, is_guess=True)
    return Decoded(decode_damaged(raw, "cp1252"), "cp1252", is_guess=True)
