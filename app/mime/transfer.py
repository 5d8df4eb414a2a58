"""Decoding of Content-Transfer-Encoding (RFC 2045 §6), at once or piece by piece in constant memory.

Damage is reported, never raised.
"""

from __future__ import annotations

import binascii
import re
from typing import Protocol

import pybase64

MAX_LINE_BYTES = 64 * 1024
"""Bytes that a line-based decoder buffers while it waits for a line end."""

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(byte for byte in range(256) if byte not in _BASE64 + b"=")
_SPACE = b" \t\r\n"
_PADDING = re.compile(rb"=++")
_BROKEN_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*+\r?\n)")
_LINE_END_SPACE = re.compile(rb"[ \t]\r?\n")
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_MISSPELT = {"base64": "base64", "quotedprintable": "quoted-printable"}
_DOUBLED_MARK = re.compile(rb"=(?==)")
_UU_BEGIN = re.compile(rb"begin [0-7]{3,4} .*")


class TransferDecoder(Protocol):
    """Decodes pieces of any size. After `finish`, `is_damaged` says whether bytes had to be skipped."""

    is_damaged: bool

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes that can be decoded so far."""
        ...

    def finish(self) -> bytes:
        """Return the rest. Do not call `feed` afterwards."""
        ...


def transfer_decoder(encoding: str) -> TransferDecoder:
    """The decoder for an encoding's name. For an unknown name, it returns bytes unchanged (RFC 2045 §6.4)."""
    return _DECODERS.get(usual_encoding(encoding), Identity)()


def usual_encoding(name: str) -> str:
    """The usual spelling of an encoding's name. Recognises `"Base64"` and `quoted printable,`."""
    return _MISSPELT.get(_NOT_IN_NAMES.sub("", name.lower()), name)


def decode_transfer(raw: bytes, encoding: str) -> tuple[bytes, bool]:
    """Decode all at once. Return the bytes, and whether they were damaged."""
    decoder = transfer_decoder(encoding)
    decoded = decoder.feed(raw)
    return decoded + decoder.finish(), decoder.is_damaged


class Identity:
    """7bit, 8bit, binary, and unknown encodings."""

    def __init__(self) -> None:
        self.is_damaged = False

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def finish(self) -> bytes:
        return b""


class Base64:
    """Base64, also with line ends anywhere, foreign characters, missing padding, or padding in the middle.

    Valid input goes through pybase64, which is ten times as fast as binascii; damaged input takes the slow path.
    """

    def __init__(self) -> None:
        self.is_damaged = False
        self._pending = b""

    def feed(self, chunk: bytes) -> bytes:
        encoded = self._pending + chunk.translate(None, _SPACE)
        whole = len(encoded) - len(encoded) % 4
        if not encoded[whole:].translate(None, _BASE64):
            try:
                decoded = pybase64.b64decode(encoded[:whole], validate=True)
            except binascii.Error:
                return self._feed_damaged(chunk)
            self._pending = encoded[whole:]
            return decoded
        return self._feed_damaged(chunk)

    def _feed_damaged(self, chunk: bytes) -> bytes:
        """Decode what can be read of damaged input."""
        encoded = chunk.translate(None, _NOT_BASE64)
        if len(encoded) != len(chunk) and chunk.translate(None, _SPACE) != encoded:
            self.is_damaged = True
        if b"=" not in encoded:
            return self._decode(self._pending + encoded)
        pieces = _PADDING.split(self._pending + encoded)
        decoded = [self._decode(piece) + self.finish() for piece in pieces[:-1]]
        decoded.append(self._decode(pieces[-1]))
        return b"".join(decoded)

    def finish(self) -> bytes:
        left, self._pending = self._pending, b""
        if len(left) == 1:
            self.is_damaged = True  # six bits do not make a byte
            return b""
        return binascii.a2b_base64(left + b"=" * (-len(left) % 4))

    def _decode(self, encoded: bytes) -> bytes:
        whole = len(encoded) - len(encoded) % 4
        self._pending = encoded[whole:]
        return binascii.a2b_base64(encoded[:whole])


class _Lines:
    """A decoder that buffers incomplete lines."""

    def __init__(self) -> None:
        self.is_damaged = False
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def feed(self, chunk: bytes) -> bytes:
        end = chunk.rfind(b"\n") + 1
        if not end and self._pending_bytes + len(chunk) <= MAX_LINE_BYTES:
            self._hold(chunk)
            return b""
        end = end or self._cut(chunk)
        ready = b"".join((*self._pending, chunk[:end]))
        self._pending, self._pending_bytes = [], 0
        self._hold(chunk[end:])
        return self._decode(ready)

    def finish(self) -> bytes:
        ready, self._pending = b"".join(self._pending), []
        return self._decode(ready)

    def _hold(self, piece: bytes) -> None:
        self._pending.append(piece)
        self._pending_bytes += len(piece)

    def _cut(self, chunk: bytes) -> int:
        """Where an overlong line may be cut without splitting an escape."""
        escape = chunk.rfind(b"=", max(len(chunk) - 2, 0))
        return escape if escape >= 0 else len(chunk)

    def _decode(self, lines: bytes) -> bytes:
        raise NotImplementedError


class QuotedPrintable(_Lines):
    """Quoted-printable (RFC 2045 §6.7). Drops spaces at line ends, and keeps broken escapes unchanged."""

    def _decode(self, lines: bytes) -> bytes:
        if _LINE_END_SPACE.search(lines):
            lines = b"\n".join(_without_end_space(line) for line in lines.split(b"\n"))
        if not self.is_damaged and _BROKEN_ESCAPE.search(lines):
            self.is_damaged = not lines.endswith(b"=") or bool(_BROKEN_ESCAPE.search(lines, 0, len(lines) - 1))
        if b"==" in lines:
            lines = _DOUBLED_MARK.sub(b"=3D", lines)  # a2b_qp reads two as one
        return binascii.a2b_qp(lines)


class UuEncoded(_Lines):
    """uuencode. Lines outside of `begin` and `end` are skipped."""

    def __init__(self) -> None:
        super().__init__()
        self._is_inside = False

    def _decode(self, lines: bytes) -> bytes:
        return b"".join(self._line(line.rstrip(b"\r")) for line in lines.split(b"\n"))

    def _line(self, line: bytes) -> bytes:
        if not self._is_inside:
            self._is_inside = _UU_BEGIN.fullmatch(line) is not None
            return b""
        if line in (b"end", b""):
            self._is_inside = line == b""
            return b""
        try:
            return binascii.a2b_uu(line)
        except binascii.Error:
            self.is_damaged = True
            return _uu_leniently(line)


def _uu_leniently(line: bytes) -> bytes:
    """Decode a line that some encoders pad beyond its declared length. Only the declared length is read."""
    declared_chars = ((line[0] - 32 & 63) * 4 + 5) // 3
    try:
        return binascii.a2b_uu(line[:declared_chars])
    except binascii.Error:
        return b""


def _without_end_space(line: bytes) -> bytes:
    if line.endswith(b"\r"):
        return line[:-1].rstrip(b" \t") + b"\r"
    return line.rstrip(b" \t")


_DECODERS: dict[str, type[Identity] | type[Base64] | type[QuotedPrintable] | type[UuEncoded]] = {
    "base64": Base64,
    "quoted-printable": QuotedPrintable,
    "uuencode": UuEncoded,
    "x-uuencode": UuEncoded,
    "x-uue": UuEncoded,
    "uue": UuEncoded,
}
