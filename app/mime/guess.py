"""The charset of 8-bit text that nothing labels, guessed from its bytes."""

from __future__ import annotations

SAMPLE_BYTES = 16 * 1024
"""How much of a text is looked at."""
SHORT_BYTES = 256
"""In shorter text, a few accented letters between ASCII letters are Western: there is too little to tell more."""

_CANDIDATES = (
    *("gb18030", "big5hkscs", "cp932", "euc-jp", "cp949", "iso-2022-jp", "hz-gb-2312", "koi8-r", "koi8-u"),
    *("windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254", "windows-1255", "windows-1256"),
    *("tis-620", "cp874", "iso-8859-2", "iso-8859-7"),
)
_WESTERN = "windows-1252"
_HIGH = bytes(range(0x80, 0x100))


def guessed_label(raw: bytes) -> str:
    """A charset label for text that is not UTF-8; windows-1252 where nothing speaks for another. Bounded work."""
    sample = raw[:SAMPLE_BYTES]
    if len(sample) < SHORT_BYTES and _is_sparse(sample):
        return _WESTERN
    from chardet import detect  # 3 MB of tables, for the few messages that need them

    found = detect(sample, include_encodings=_CANDIDATES, compat_names=False, no_match_encoding=_WESTERN)["encoding"]
    return found or _WESTERN


def is_mostly_utf8(raw: bytes) -> bool:
    """Whether more of the characters beyond ASCII are UTF-8 than are not."""
    text = raw[:SAMPLE_BYTES].decode("utf-8", "replace")
    bad = text.count("\ufffd")
    return len(text) - sum(map(str.isascii, text)) > 2 * bad


def _is_sparse(sample: bytes) -> bool:
    """Whether most letters are ASCII."""
    ascii_letters = sum(map(str.isalpha, sample.translate(None, _HIGH).decode("ascii")))
    high = len(sample) - len(sample.translate(None, _HIGH))
    return 2 * high < ascii_letters + 2
