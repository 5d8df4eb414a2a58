"""Detection of the charset of unlabelled 8-bit text."""

from __future__ import annotations

SAMPLE_BYTES = 16 * 1024
"""Bytes of a text that are examined."""
SHORT_BYTES = 256
"""In shorter text, a few accented letters among ASCII letters count as Western: detection needs more text."""

_CANDIDATES = (
    *("gb18030", "big5hkscs", "cp932", "euc-jp", "cp949", "iso-2022-jp", "hz-gb-2312", "koi8-r", "koi8-u"),
    *("windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254", "windows-1255", "windows-1256"),
    *("tis-620", "cp874", "iso-8859-2", "iso-8859-7"),
)
_WESTERN = "windows-1252"
_HIGH = bytes(range(0x80, 0x100))


def guessed_label(raw: bytes) -> str:
    """A charset label for text that is not UTF-8; windows-1252 if detection finds nothing better. Bounded work."""
    sample = raw[:SAMPLE_BYTES]
    if len(sample) < SHORT_BYTES and _is_sparse(sample):
        return _WESTERN
    from chardet import detect  # imported late: 3 MB of tables that few messages need

    label = detect(sample, include_encodings=_CANDIDATES, compat_names=False, no_match_encoding=_WESTERN)["encoding"]
    return label or _WESTERN


def is_mostly_utf8(raw: bytes) -> bool:
    """Whether most of the non-ASCII characters are valid UTF-8."""
    text = raw[:SAMPLE_BYTES].decode("utf-8", "replace")
    bad = text.count("\ufffd")
    return len(text) - sum(map(str.isascii, text)) > 2 * bad


def _is_sparse(sample: bytes) -> bool:
    """Whether most letters are ASCII."""
    ascii_letters = sum(map(str.isalpha, sample.translate(None, _HIGH).decode("ascii")))
    high = len(sample) - len(sample.translate(None, _HIGH))
    return 2 * high < ascii_letters + 2
