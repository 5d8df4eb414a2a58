"""TNEF, Outlook's winmail.dat: the message text and the files in it (MS-OXTNEF, MS-OXRTFCP).

One pass over slices of the given bytes; whatever cannot be read is left out. Not by tnefparse, which takes quadratic
time and loses all files with one bad attribute.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from app.mime.body import meta_charset
from app.mime.charset import decode
from app.mime.rtf import inflate_rtf, read_rtf

MAX_ATTRIBUTES = 10_000
MAX_PROPERTIES = 10_000
MAX_FILES = 500

_SIGNATURE = 0x223E9F78
_BODY, _MAPI, _CODEPAGE = 0x800C, 0x9003, 0x9007
_NEW_FILE, _FILE_TITLE, _FILE_DATA, _FILE_MAPI = 0x9002, 0x8010, 0x800F, 0x9005
_FILE_PATH = 0x9001
_FILE_LEVEL = 2

_PR_BODY, _PR_RTF, _PR_HTML, _PR_CODEPAGE = 0x1000, 0x1009, 0x1013, 0x3FDE
_PR_DISPLAY_NAME, _PR_DATA, _PR_NAME, _PR_LONG_NAME = 0x3001, 0x3701, 0x3704, 0x3707
_PR_TYPE, _PR_CONTENT_ID = 0x370E, 0x3712
_STRING, _UNICODE, _OBJECT, _BINARY = 0x1E, 0x1F, 0x0D, 0x102
_VARIABLE = frozenset({_STRING, _UNICODE, _OBJECT, _BINARY})
_FIXED_BYTES = {2: 4, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 10: 4, 11: 4, 20: 8, 64: 8, 72: 16}
_MULTIPLE = 0x1000
_OBJECT_ID_BYTES = 16
_EMBEDDED = struct.pack("<I", _SIGNATURE)


@dataclass(slots=True)
class TnefFile:
    """A file in a TNEF stream. `media_type` and `content_id` are "" where the stream does not say."""

    name: str = ""
    media_type: str = ""
    content_id: str = ""
    content: bytes = b""


@dataclass(slots=True)
class Tnef:
    """What a TNEF stream holds; "" for a form of the text that it has not."""

    text: str = ""
    html: str = ""
    files: list[TnefFile] = field(default_factory=list)


def read_tnef(data: bytes) -> Tnef | None:
    """The text and the files; None for bytes that are no TNEF. Never raises; linear."""
    if len(data) < 6 or struct.unpack_from("<I", data)[0] != _SIGNATURE:
        return None
    found = Tnef()
    pages = (value for level, name, value in islice(_attributes(data), MAX_ATTRIBUTES) if name == _CODEPAGE)
    codepage = _page(next(pages, b""))
    for level, name, value in islice(_attributes(data), MAX_ATTRIBUTES):
        if level == _FILE_LEVEL:
            _add_to_file(found, name, value, codepage)
        elif name == _BODY:
            found.text = _text(value, codepage)
        elif name == _MAPI:
            _add_texts(found, dict(_properties(value)), codepage)
    return found


def _attributes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(level, name, value) of each attribute; the last one may be cut off."""
    position = 6
    while position + 9 <= len(data):
        level, name, _, length = struct.unpack_from("<BHHI", data, position)
        yield level, name, data[position + 9 : position + 9 + length]
        position += 9 + length + 2


def _properties(data: bytes) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """(id, (type, value)) of each MAPI property; of several values the first. Ends at what cannot be read."""
    if len(data) < 4:
        return
    count, position = min(struct.unpack_from("<I", data)[0], MAX_PROPERTIES), 4
    for _ in range(count):
        try:
            kind, name = struct.unpack_from("<HH", data, position)
            position = _after_name(data, position + 4) if name >= 0x8000 else position + 4
            value, position = _value(data, position, kind)
        except (struct.error, KeyError):
            return
        yield name, (kind & ~_MULTIPLE, value)


def _after_name(data: bytes, position: int) -> int:
    """The end of a named property's name."""
    (kind,) = struct.unpack_from("<I", data, position + 16)
    if not kind:
        return position + 24
    (length,) = struct.unpack_from("<I", data, position + 20)
    return position + 24 + _padded(length)


def _value(data: bytes, position: int, kind: int) -> tuple[bytes, int]:
    """A value, the first of several, and where the next property begins. struct.error, KeyError."""
    count, plain_kind = 1, kind & ~_MULTIPLE
    if kind & _MULTIPLE or plain_kind in _VARIABLE:
        (count,) = struct.unpack_from("<I", data, position)
        position += 4
    if plain_kind not in _VARIABLE:
        size = _FIXED_BYTES[plain_kind]
        return data[position : position + size], position + size * count
    first = b""
    for number in range(min(count, MAX_PROPERTIES)):
        (length,) = struct.unpack_from("<I", data, position)
        first = data[position + 4 : position + 4 + length] if not number else first
        position += 4 + _padded(length)
    return first, position


def _padded(length: int) -> int:
    return length + -length % 4


def _page(value: bytes) -> str | None:
    """The label of a code page by its number, None for none."""
    number = struct.unpack_from("<I", value)[0] if len(value) >= 4 else 0
    return f"cp{number}" if number else None


def _add_texts(found: Tnef, properties: dict[int, tuple[int, bytes]], codepage: str | None) -> None:
    charset = _page(properties.get(_PR_CODEPAGE, (3, b""))[1])
    kind, value = properties.get(_PR_BODY, (_STRING, b""))
    found.text = _string(kind, value, charset or codepage) or found.text
    kind, value = properties.get(_PR_HTML, (_BINARY, b""))
    found.html = _string(kind, value, charset or meta_charset(value) or codepage) or found.html
    rtf = b"" if found.html else inflate_rtf(properties.get(_PR_RTF, (_BINARY, b""))[1])
    if rtf:
        text, is_html = read_rtf(rtf)
        found.html, found.text = (text, found.text) if is_html else ("", found.text or text)


def _add_to_file(found: Tnef, name: int, value: bytes, codepage: str | None) -> None:
    if not found.files or (name == _NEW_FILE and len(found.files) < MAX_FILES):
        found.files.append(TnefFile())
    file = found.files[-1]
    if name in (_FILE_TITLE, _FILE_PATH):
        file.name = file.name or _text(value, codepage)
    elif name == _FILE_DATA:
        file.content = value
    elif name == _FILE_MAPI:
        _describe(file, dict(_properties(value)), codepage)


def _describe(file: TnefFile, properties: dict[int, tuple[int, bytes]], codepage: str | None) -> None:
    names = (_string(*properties.get(name, (_STRING, b"")), codepage) for name in (_PR_LONG_NAME, _PR_NAME))
    file.name = next((name for name in names if name), file.name)
    file.name = file.name or _string(*properties.get(_PR_DISPLAY_NAME, (_STRING, b"")), codepage)
    file.media_type = _string(*properties.get(_PR_TYPE, (_STRING, b"")), codepage).lower()
    file.content_id = _string(*properties.get(_PR_CONTENT_ID, (_STRING, b"")), codepage)
    kind, content = properties.get(_PR_DATA, (_BINARY, b""))
    if kind == _OBJECT and content[_OBJECT_ID_BYTES : _OBJECT_ID_BYTES + 4] == _EMBEDDED:
        file.content, file.media_type = content[_OBJECT_ID_BYTES:], "application/ms-tnef"  # a message in the message
    elif content:
        file.content = content[_OBJECT_ID_BYTES:] if kind == _OBJECT else content


def _string(kind: int, value: bytes, charset: str | None) -> str:
    return _text(value, "utf-16le" if kind == _UNICODE else charset)


def _text(value: bytes, charset: str | None) -> str:
    return decode(value.rstrip(b"\0") if charset is None else value, charset).text.rstrip("\x00").replace("\x00", "")
