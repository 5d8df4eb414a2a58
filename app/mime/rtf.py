"""RTF in TNEF, as Outlook writes it: decompression (MS-OXRTFCP) and extraction of text or HTML (MS-OXRTFEX)."""

from __future__ import annotations

import re
import struct

from app.mime.charset import decode_short

MAX_RTF_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 500

_COMPRESSED, _PLAIN = 0x75465A4C, 0x414C454D
_DICTIONARY = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans "
    rb"SerifSymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0" + b"\r\n" + rb"\par "
    rb"\pard\plain\f0\fs20\b\i\u\tab\tx"
)
_TOKEN = re.compile(
    rb"\\'([0-9a-fA-F]{2})|\\([a-zA-Z]{1,32})(-?\d{1,9})? ?|\\([^a-zA-Z])|([{}])|([^\\{}\r\n]+)|[\r\n]+|\\", re.DOTALL
)
_HIDDEN = frozenset(
    b"fonttbl colortbl stylesheet info pict object pntext pntxta pntxtb header footer themedata".split()
)
_CHARACTERS = {
    b"par": b"\n", b"line": b"\n", b"row": b"\n", b"cell": b"\t", b"tab": b"\t", b"lquote": b"'", b"rquote": b"'",
    b"ldblquote": b'"', b"rdblquote": b'"', b"bullet": b"*", b"endash": b"-", b"emdash": b"-",
}  # fmt: skip
_SYMBOLS = {b"\\": b"\\", b"{": b"{", b"}": b"}", b"~": b" ", b"_": b"-", b"\n": b"\n", b"\r": b"\n"}


def inflate_rtf(data: bytes) -> bytes:
    """Decompress RTF, up to MAX_RTF_BYTES or the first damage. Return b"" if `data` is not compressed RTF."""
    if len(data) < 16:
        return b""
    _, size, form, _ = struct.unpack_from("<IIII", data)
    if form == _PLAIN:
        return data[16 : 16 + min(size, MAX_RTF_BYTES)]
    return _inflated(data, min(size, MAX_RTF_BYTES)) if form == _COMPRESSED else b""


def _inflated(data: bytes, size: int) -> bytes:
    window = bytearray(_DICTIONARY.ljust(4096, b"\x00"))
    write, position, inflated = len(_DICTIONARY), 16, bytearray()
    while position < len(data) and len(inflated) < size:
        control, position = data[position], position + 1
        for bit in range(8):
            if control >> bit & 1 and position + 1 < len(data):
                reference = data[position] << 8 | data[position + 1]
                position += 2
                start, length = reference >> 4, (reference & 15) + 2
                if start == write:
                    return bytes(inflated[:size])
            elif position < len(data):
                start, length = write, 1
                window[write] = data[position]
                position += 1
            else:
                break
            for offset in range(length):
                byte = window[(start + offset) & 4095]
                inflated.append(byte)
                window[write] = byte
                write = (write + 1) & 4095
    return bytes(inflated[:size])


class _Reader:
    """The state of one pass: open groups, whether text is hidden, and the text read so far."""

    def __init__(self, *, is_html: bool) -> None:
        self._is_html = is_html
        self._groups: list[tuple[bool, bool]] = []
        self._is_hidden = False
        self._is_rtf_only = False
        self._is_optional = False
        self._skipped = 0
        self.charset = "windows-1252"
        self._pieces: list[str] = []
        self._bytes: list[bytes] = []

    def read(self, rtf: bytes) -> str:
        for match in _TOKEN.finditer(rtf):
            code, word, number, symbol, brace, text = match.groups()
            if brace:
                self._brace(brace)
            elif word:
                self._word(word.lower() if word.isupper() else word, int(number) if number else None)
            elif symbol == b"*":
                self._is_optional = True
            else:
                self._write(bytes((int(code, 16),)) if code else _SYMBOLS.get(symbol, b"") if symbol else text or b"")
        self._flush()
        return "".join(self._pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def _brace(self, brace: bytes) -> None:
        self._is_optional = False
        if brace == b"{" and len(self._groups) < MAX_DEPTH:
            self._groups.append((self._is_hidden, self._is_rtf_only))
        elif brace == b"}" and self._groups:
            self._is_hidden, self._is_rtf_only = self._groups.pop()

    def _word(self, word: bytes, number: int | None) -> None:
        if self._is_optional:
            self._is_optional = False
            self._is_hidden = self._is_hidden or word not in (b"htmltag", b"mhtmltag") or word == b"mhtmltag"
        elif word in _HIDDEN:
            self._is_hidden = True
        elif word == b"htmlrtf":
            self._is_rtf_only = number != 0
        elif word == b"ansicpg" and number:
            self.charset = f"cp{number}"
        elif word == b"u" and number is not None:
            self._character(number & 0xFFFF)
        else:
            self._write(_CHARACTERS.get(word, b""))

    def _character(self, number: int) -> None:
        """Add a Unicode character, and skip the next byte: its replacement for old programs."""
        if not (self._is_hidden or self._is_rtf_only):
            self._flush()
            self._pieces.append(chr(number))
        self._skipped = 1

    def _write(self, raw: bytes) -> None:
        if self._skipped and raw:
            raw, self._skipped = raw[1:], 0
        if raw and not (self._is_hidden or (self._is_html and self._is_rtf_only)):
            self._bytes.append(raw)

    def _flush(self) -> None:
        self._pieces.append(decode_short(b"".join(self._bytes), self.charset))
        self._bytes.clear()


def read_rtf(rtf: bytes) -> tuple[str, bool]:
    """Return the text of RTF, or the HTML that it encapsulates, and whether it is HTML. Never raises; linear."""
    is_html = b"\\fromhtml" in rtf[:2_000]
    return _Reader(is_html=is_html).read(rtf[:MAX_RTF_BYTES]).strip(), is_html
