"""Charset labels of mail and the decoders behind them (WHATWG Encoding Standard).

Labels come from `webencodings`. Python has most of the decoders; this module adds those that Python lacks or that it
reads more narrowly than mail is written: EUC-JP and ISO-2022-JP with NEC's and IBM's characters and with half-width
katakana, koi8-u, x-user-defined, and the C1 controls of the Windows code pages.

Two deliberate differences from the standard: ISO-2022-KR and HZ, which it replaces by U+FFFD because of scripts, are
decoded, since what is shown is sanitised after decoding; and other charsets that Python knows (cp850) are decoded too.
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
"""Names of WHATWG encodings that are not names of Python's codecs, or whose codec is a smaller one."""

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
"""Labels of mail that the standard does not have, or whose encoding it refuses to decode."""

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
"""Numbers of Windows code pages, in labels of mail and in TNEF, that neither `windows-N` nor `cpN` names."""

_NO_CHARSETS = frozenset({"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "mbcs", "oem"})
"""Python's codecs that decode bytes to text but are no charset of mail; some are slower than linear."""


@lru_cache(maxsize=1024)
def codec_of(label: str) -> str | None:
    """The name of the decoder for a charset label of mail, for `read`; None for an unknown label."""
    label = label.strip().strip("\"'").lower()
    encoding = _MORE_LABELS.get(label) or LABELS.get(label) or _code_page(label) or _alias(label)
    if encoding is None or encoding in _OWN:
        return encoding
    name = _CODECS.get(encoding, encoding)
    if name in _OWN:
        return name
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    is_charset = getattr(found, "_is_text_encoding", False) and found.name not in _NO_CHARSETS
    return found.name if is_charset else None


def read(raw: bytes, codec: str, errors: str = "strict") -> str:
    """The text of bytes in the encoding that `codec_of` named. UnicodeError and ValueError where `errors` is strict.

    `errors` "replace" costs one U+FFFD for each byte, or sequence of bytes, that is not a character.
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
    """The encoding of a label that gives the number of a code page: `cp1251`, `win-1251`, `windows_1251`."""
    found = _CODE_PAGE.fullmatch(label)
    if found is None:
        return None
    name = _CODE_PAGES.get(found[1], f"windows-{found[1]}")
    return LABELS.get(name) or (name if found[1] in _CODE_PAGES else f"cp{found[1]}")


def _alias(label: str) -> str | None:
    """The WHATWG encoding behind another spelling: Python's alias of one of its labels, else the label itself."""
    try:
        found = codecs.lookup(label).name
    except (LookupError, ValueError):
        return None
    return LABELS.get(found) or LABELS.get(found.replace("_", "-")) or _MORE_LABELS.get(found) or found


# ---- bytes that are no characters

_HIGH_PAIRS = frozenset({"gb18030", "cp949", "euc_jp"})
_HIGH_RUN = re.compile(rb"[\x81-\xfe]{0,64}")
_DOUBLE_BYTE = frozenset({"gb18030", "big5hkscs", "cp949", "cp932"})


def _character_of(error: UnicodeDecodeError) -> tuple[str, int] | None:
    """A character that the standard has and Python's decoder lacks, and its number of bytes; None where there is none.

    The Windows code pages have a C1 control for a byte that they leave undefined (WHATWG §9).
    """
    raw, start, name = error.object, error.start, error.encoding.replace("_", "-")
    if name == "charmap":
        return (chr(raw[start]), 1) if raw[start] <= 0x9F else None
    if name == "gb18030" and raw[start] == 0x80:
        return "€", 1
    if name == "big5hkscs":
        found = character_of(raw[start : start + 2])
        return (found, 2) if found else None
    if name == "euc-jp":
        return _vendor_character(raw[start : start + 2])
    return None


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """One U+FFFD for an invalid sequence; ASCII that follows a lone lead byte is kept."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    found = _character_of(error)
    if found is not None:
        return found[0], error.start + found[1]
    width = max(error.end - error.start, 1)
    if error.encoding in _DOUBLE_BYTE or error.encoding == "euc_jp":
        trail = error.object[error.start + 1 : error.start + 2]
        width = 2 if 0x80 < error.object[error.start] < 0xFF and trail >= b"\x80" else 1
        if error.encoding in _HIGH_PAIRS and error.object[error.start] >= 0x80:
            width = max(width, 1 + _is_odd_run(error.object, error.start + 1))
    return "\ufffd", error.start + width


def _is_odd_run(raw: bytes, start: int) -> bool:
    """Whether a byte is left over in the pairs of high bytes that follow: the trail of a lead byte that was spoilt."""
    run = _HIGH_RUN.match(raw, start)
    return run is not None and len(run[0]) % 2 == 1


def _strict(error: UnicodeError) -> tuple[str, int]:
    found = _character_of(error) if isinstance(error, UnicodeDecodeError) and error.encoding != "charmap" else None
    if found is None or not isinstance(error, UnicodeDecodeError):
        raise error
    return found[0], error.start + found[1]


codecs.register_error("postgate-replace", _replaced)
codecs.register_error("postgate-strict", _strict)


def _python(raw: bytes, codec: str, errors: str) -> str:
    """Python's decoder with the standard's characters where it lacks them."""
    return raw.decode(codec, errors if codec == "utf-8" else f"postgate-{errors}")


# ---- Japanese

_LIKE_WINDOWS = str.maketrans("¢£¬‖−〜", "￠￡￢∥－～")
"""Python maps these of JIS X 0208 as JIS does, the standard as Windows does, as mail is written."""
_EUC_ROWS = re.compile(rb"[\xa1-\xfe]{2}")


def _euc_jp(raw: bytes, errors: str) -> str:
    return _python(raw, "euc_jp", errors).translate(_LIKE_WINDOWS)


def _vendor_character(pair: bytes) -> tuple[str, int] | None:
    """A character that only the vendors have (NEC's row 13, IBM's kanji), found by its Shift_JIS form."""
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
"""What Python makes of the bytes A0 and FD to FF, which the standard has not."""


def _iso_2022_jp(raw: bytes, errors: str) -> str:
    """ISO-2022-JP as it is written: also JIS X 0212 and 0213, and katakana in seven bits, in eight, and by SO and SI.

    A set stays designated over a line end, as in the standard.
    """
    pieces = _DESIGNATION.split(raw)
    texts = [_segment(pieces[0], _ASCII, errors)]
    for designation, segment in zip(pieces[1::2], pieces[2::2], strict=True):
        texts.append(_segment(segment, designation, errors))
    return "".join(texts)


def _segment(raw: bytes, designation: bytes, errors: str) -> str:
    """The bytes that follow a designation, up to the next one."""
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
    """ASCII and the katakana of JIS X 0201."""
    return _python(_KATAKANA.sub(b"\x8e\\g<0>", raw), "euc_jp", errors)


# ---- the rest

_GB18030_2022 = str.maketrans(
    {0xE5E5: "\u3000"}
    | {0xE78D + number: character for number, character in enumerate("︐︒︑︓︔︕︖︗︘︙")}
    | dict(
        zip((0xE7C7, 0xE81E, 0xE826, 0xE82B, 0xE82C, 0xE832, 0xE843, 0xE854, 0xE864), "ḿ龴龵龶龷龸龹龺龻", strict=True)
    )
)
"""Characters that Python, which knows the edition of 2000, has at their former private places."""
_KOI8_RU = str.maketrans({"\u255d": "\u045e", "\u256c": "\u040e"})
_PRIVATE_USE = {byte: 0xF700 + byte for byte in range(0x80, 0x100)}


def _gb18030(raw: bytes, errors: str) -> str:
    return _python(raw, "gb18030", errors).translate(_GB18030_2022)


def _koi8_u(raw: bytes, errors: str) -> str:
    """koi8-u with the two letters of Belarusian, as the standard has it."""
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
