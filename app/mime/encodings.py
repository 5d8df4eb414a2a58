"""Charset labels in mail, and their decoders (WHATWG Encoding Standard).

Labels come from `webencodings`. Python has most of the decoders. This module adds decoders that Python lacks, or whose
Python version rejects characters that occur in mail: EUC-JP and ISO-2022-JP with the characters of NEC and IBM and
half-width katakana, koi8-u, x-user-defined, and the C1 controls of the Windows code pages.

Two differences from the standard are deliberate. ISO-2022-KR and HZ, which the standard replaces by U+FFFD because of
script injection, are decoded: HTML is sanitised after decoding. Other charsets that Python knows (cp850) are decoded.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from functools import lru_cache

from webencodings.labels import LABELS

from app.mime.big5 import big5, character_of

BIG5, GB18030, EUC_JP, ISO_2022_JP, KOI8_U, USER_DEFINED = (
    "x-big5",
    "x-gb18030",
    "x-euc-jp",
    "x-iso-2022-jp",
    "x-koi8-u",
    "x-user-defined",
)

_CODECS = {
    "big5": BIG5,
    "euc-jp": EUC_JP,
    "euc-kr": "cp949",
    "gb18030": GB18030,
    "gbk": GB18030,
    "iso-2022-jp": ISO_2022_JP,
    "iso-8859-8-i": "iso8859-8",
    "koi8-u": KOI8_U,
    "macintosh": "mac-roman",
    "shift_jis": "cp932",
    "windows-874": "cp874",
    "x-mac-cyrillic": "mac-cyrillic",
}
"""Decoders of WHATWG encodings for which Python has no codec of that name, or a codec with fewer characters."""

_MORE_LABELS = {
    "646": "windows-1252",
    "ansi_x3.4-1986": "windows-1252",
    "big-5": "big5",
    "csiso2022kr": "iso2022_kr",
    "csiso58gb1988": "gbk",
    "euc-cn": "gb18030",
    "eucjp": "euc-jp",
    "eucjp-ms": "euc-jp",
    "eucjp-win": "euc-jp",
    "euckr": "euc-kr",
    "hz-gb-2312": "hz",
    "iso-2022-jp-1": "iso-2022-jp",
    "iso-2022-jp-2": "iso-2022-jp",
    "iso-2022-jp-3": "iso-2022-jp",
    "iso-2022-jp-ms": "iso-2022-jp",
    "iso-2022-kr": "iso2022_kr",
    "koi8": "koi8-r",
    "koi8r": "koi8-r",
    "koi8u": "koi8-u",
    "ks_c_5601": "euc-kr",
    "latin-1": "windows-1252",
    "shift-jis-2004": "shift_jis",
    "tis620": "windows-874",
    "tis-620-2533": "windows-874",
    "tis-620.2533": "windows-874",
    "uhc": "euc-kr",
    "unicode-1-1-utf-7": "utf-7",
    "x-mac-ce": "mac-latin2",
    "x-mac-centraleurroman": "mac-latin2",
    "x-mac-greek": "mac-greek",
    "x-mac-icelandic": "mac-iceland",
    "x-mac-roman": "macintosh",
    "x-mac-turkish": "mac-turkish",
    "x-sjis-jp": "shift_jis",
}
"""Labels in mail that the standard lacks, or whose encoding it does not decode."""

_CODE_PAGE = re.compile(r"(?:x-)?(?:ansi|cp|dos|ibm|ms|oem|windows|win)[-_ ]?(\d{3,5})")
_CODE_PAGES = {
    "932": "shift_jis",
    "936": "gb18030",
    "949": "euc-kr",
    "950": "big5",
    "1200": "utf-16le",
    "1201": "utf-16be",
    "10000": "macintosh",
    "10006": "mac-greek",
    "10007": "x-mac-cyrillic",
    "10029": "mac-latin2",
    "10079": "mac-iceland",
    "10081": "mac-turkish",
    "12000": "utf-32-le",
    "12001": "utf-32-be",
    "20127": "us-ascii",
    "20866": "koi8-r",
    "20932": "euc-jp",
    "20936": "gb18030",
    "20949": "euc-kr",
    "21866": "koi8-u",
    **{str(28590 + number): f"iso-8859-{number}" for number in (*range(1, 10), 13, 15)},
    "38598": "iso-8859-8-i",
    **dict.fromkeys(("50220", "50221", "50222"), "iso-2022-jp"),
    "50225": "iso2022_kr",
    "51932": "euc-jp",
    "51936": "gb18030",
    "51949": "euc-kr",
    "52936": "hz",
    "54936": "gb18030",
    "65000": "utf-7",
    "65001": "utf-8",
}
"""Windows code page numbers, in labels and in TNEF, for which neither `windows-N` nor `cpN` is the right codec."""

_NO_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "mbcs", "oem"})
"""Python codecs that decode bytes to text but are not mail charsets. Some are slower than linear."""


@lru_cache(maxsize=1024)
def codec_of(label: str) -> str | None:
    """The name of the decoder for a charset label, to pass to `read`; None for an unknown label."""
    label = label.strip().strip("\"'").lower()
    encoding = _MORE_LABELS.get(label) or LABELS.get(label) or _code_page(label) or _alias(label)
    if encoding is None or encoding in _OWN:
        return encoding
    name = _CODECS.get(encoding, encoding)
    if name in _OWN:
        return name
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    is_charset = getattr(codec, "_is_text_encoding", False) and codec.name not in _NO_CHARSETS
    return codec.name if is_charset else None


def read(raw: bytes, codec: str, errors: str = "strict") -> str:
    """Decode bytes with a decoder from `codec_of`.

    With `errors` "strict", raises UnicodeError or ValueError on invalid bytes. With "replace", writes one U+FFFD for
    each invalid byte or sequence of bytes.
    """
    own = _OWN.get(codec)
    if own is not None:
        return own(raw, errors)
    text = _python(raw, codec, errors)
    if codec == "cp932" and _NO_SHIFT_JIS.search(text):
        if errors == "strict":
            raise UnicodeDecodeError("shift_jis", raw, 0, 1, "invalid byte")
        text = _NO_SHIFT_JIS.sub("\ufffd", text)
    return text.encode("utf-8", "replace").decode() if codec in ("utf-7", "utf_7") else text


def _code_page(label: str) -> str | None:
    """The encoding of a label with a code page number, such as `cp1251`, `win-1251` and `windows_1251`."""
    match = _CODE_PAGE.fullmatch(label)
    if match is None:
        return None
    name = _CODE_PAGES.get(match[1], f"windows-{match[1]}")
    return LABELS.get(name) or (name if match[1] in _CODE_PAGES else f"cp{match[1]}")


def _alias(label: str) -> str | None:
    """The WHATWG encoding for a label that Python knows as an alias, else Python's name of the codec."""
    try:
        name = codecs.lookup(label).name
    except (LookupError, ValueError):
        return None
    return LABELS.get(name) or LABELS.get(name.replace("_", "-")) or _MORE_LABELS.get(name) or name


# ---- invalid bytes

_HIGH_PAIRS = frozenset({"gb18030", "cp949", "euc_jp"})
_HIGH_RUN = re.compile(rb"[\x81-\xfe]{0,64}")
_DOUBLE_BYTE = frozenset({"gb18030", "big5hkscs", "cp949", "cp932"})


def _character_of(error: UnicodeDecodeError) -> tuple[str, int] | None:
    """The character that the standard has at an error of Python's decoder, and its length in bytes, or None.

    In the Windows code pages, an undefined byte is a C1 control (WHATWG §9).
    """
    raw, start, name = error.object, error.start, error.encoding.replace("_", "-")
    if name == "charmap":
        return (chr(raw[start]), 1) if raw[start] <= 0x9F else None
    if name == "gb18030" and raw[start] == 0x80:
        return "€", 1
    if name == "big5hkscs":
        character = character_of(raw[start : start + 2])
        return (character, 2) if character else None
    if name == "euc-jp":
        return _vendor_character(raw[start : start + 2])
    return None


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Error handler: one U+FFFD for an invalid sequence. ASCII after a lone lead byte is kept."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    known = _character_of(error)
    if known is not None:
        return known[0], error.start + known[1]
    width = max(error.end - error.start, 1)
    if error.encoding in _DOUBLE_BYTE or error.encoding == "euc_jp":
        trail = error.object[error.start + 1 : error.start + 2]
        width = 2 if 0x80 < error.object[error.start] < 0xFF and trail >= b"\x80" else 1
        if error.encoding in _HIGH_PAIRS and error.object[error.start] >= 0x80:
            width = max(width, 1 + _is_odd_run(error.object, error.start + 1))
    return "\ufffd", error.start + width


def _is_odd_run(raw: bytes, start: int) -> bool:
    """Whether an odd number of high bytes follows: the first is then the trail byte of a damaged lead byte."""
    run = _HIGH_RUN.match(raw, start)
    return run is not None and len(run[0]) % 2 == 1


def _strict(error: UnicodeError) -> tuple[str, int]:
    """Error handler: the standard's character, or the error."""
    known = _character_of(error) if isinstance(error, UnicodeDecodeError) and error.encoding != "charmap" else None
    if known is None or not isinstance(error, UnicodeDecodeError):
        raise error
    return known[0], error.start + known[1]


codecs.register_error("postgate-replace", _replaced)
codecs.register_error("postgate-strict", _strict)


def _python(raw: bytes, codec: str, errors: str) -> str:
    """Decode with Python's codec, adding the characters of the standard that it lacks."""
    return raw.decode(codec, errors if codec == "utf-8" else f"postgate-{errors}")


# ---- Japanese

_LIKE_WINDOWS = str.maketrans("¢£¬‖−〜", "￠￡￢∥－～")
"""Characters of JIS X 0208 that Python maps as JIS does. The standard, and mail, map them as Windows does."""
_EUC_ROWS = re.compile(rb"[\xa1-\xfe]{2}")


def _euc_jp(raw: bytes, errors: str) -> str:
    return _python(raw, "euc_jp", errors).translate(_LIKE_WINDOWS)


def _vendor_character(pair: bytes) -> tuple[str, int] | None:
    """The vendor character (NEC's row 13, IBM's kanji) of an EUC-JP pair, looked up by its Shift_JIS form, or None."""
    if not _EUC_ROWS.fullmatch(pair):
        return None
    row, cell = pair[0] - 0xA1, pair[1] - 0xA1
    lead = (row >> 1) + (0x81 if row < 62 else 0xC1)
    trail = cell + (0x9F if row & 1 else 0x40 + (cell >= 63))
    text = bytes((lead, trail)).decode("cp932", "replace")
    return (text, 2) if len(text) == 1 and not "\ue000" <= text <= "\uf8ff" else None


_DESIGNATION = re.compile(rb"\x1b(\$\([A-DOPQ@]|\$[@AB]|\([BHIJ])")
_HIGH = bytes(byte | 0x80 if 0x21 <= byte <= 0x7E else byte for byte in range(256))
_ROMAN = str.maketrans("\\~", "¥‾")
_SHIFTED = re.compile(rb"\x0e([^\x0e\x0f\x1b\n]*+)\x0f?")
_KATAKANA = re.compile(rb"[\xa1-\xdf]")
_PAIR = re.compile(rb"[\xa1-\xfe]{2}")
_ASCII = b"(B"
_NO_SHIFT_JIS = re.compile("[\uf8f0-\uf8f3]")
"""Python's characters for the bytes A0 and FD to FF, which the standard does not define."""


def _iso_2022_jp(raw: bytes, errors: str) -> str:
    """Decode ISO-2022-JP, also with JIS X 0212 and 0213 and with 7-bit, 8-bit and shifted (SO, SI) katakana.

    A character set stays designated over a line end, as in the standard.
    """
    pieces = _DESIGNATION.split(raw)
    texts = [_segment(pieces[0], _ASCII, errors)]
    for designation, segment in zip(pieces[1::2], pieces[2::2], strict=True):
        texts.append(_segment(segment, designation, errors))
    return "".join(texts)


def _segment(raw: bytes, designation: bytes, errors: str) -> str:
    """Decode the bytes between a designation and the next."""
    if designation in (b"$@", b"$B", b"$(@", b"$(B"):
        return _euc_jp(raw.translate(_HIGH), errors)
    if designation == b"$(D":
        return _euc_jp(_PAIR.sub(b"\x8f\\g<0>", raw.translate(_HIGH)), errors)
    if designation in (b"$(O", b"$(Q", b"$(P"):
        prefix = b"\x8f" if designation == b"$(P" else b""
        return _python(_PAIR.sub(prefix + b"\\g<0>", raw.translate(_HIGH)), "euc_jis_2004", errors)
    if designation in (b"$A", b"$(A", b"$(C"):
        return _python(raw.translate(_HIGH), "cp949" if designation == b"$(C" else "gb18030", errors)
    if designation == b"(I":
        return _eight_bits(raw.translate(_HIGH), errors)
    text = _eight_bits(_SHIFTED.sub(lambda match: match[1].translate(_HIGH), raw), errors)
    return text.translate(_ROMAN) if designation == b"(J" else text


def _eight_bits(raw: bytes, errors: str) -> str:
    """Decode ASCII and the katakana of JIS X 0201."""
    return _python(_KATAKANA.sub(b"\x8e\\g<0>", raw), "euc_jp", errors)


# ---- the rest

_GB18030_2022 = str.maketrans(
    {0xE5E5: "\u3000"}
    | {0xE78D + number: character for number, character in enumerate("︐︒︑︓︔︕︖︗︘︙")}
    | dict(
        zip((0xE7C7, 0xE81E, 0xE826, 0xE82B, 0xE82C, 0xE832, 0xE843, 0xE854, 0xE864), "ḿ龴龵龶龷龸龹龺龻", strict=True)
    )
)
"""Characters that Python maps to their former private-use code points, as in the edition of 2000."""
_KOI8_RU = str.maketrans({"\u255d": "\u045e", "\u256c": "\u040e"})
_PRIVATE_USE = {byte: 0xF700 + byte for byte in range(0x80, 0x100)}


def _gb18030(raw: bytes, errors: str) -> str:
    return _python(raw, "gb18030", errors).translate(_GB18030_2022)


def _koi8_u(raw: bytes, errors: str) -> str:
    """Decode koi8-u with two Belarusian letters, as the standard does."""
    return _python(raw, "koi8-u", errors).translate(_KOI8_RU)


def _user_defined(raw: bytes, errors: str) -> str:  # noqa: ARG001 - every byte is a character
    return raw.decode("latin-1").translate(_PRIVATE_USE)


_OWN: dict[str, Callable[[bytes, str], str]] = {
    BIG5: big5,
    GB18030: _gb18030,
    EUC_JP: _euc_jp,
    ISO_2022_JP: _iso_2022_jp,
    KOI8_U: _koi8_u,
    USER_DEFINED: _user_defined,
}
