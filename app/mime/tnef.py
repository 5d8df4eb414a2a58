"""TNEF, Outlook's winmail.dat: the message text and files in it (MS-OXTNEF, MS-OXRTFCP).

One pass over slices of the input; unreadable attributes are skipped. tnefparse is not used because it takes quadratic
time and loses all files if one attribute is invalid.
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
    """A file in a TNEF stream. `media_type` and `content_id` are "" if the stream does not name them."""

    name: str = ""
    media_type: str = ""
    content_id: str = ""
    content: bytes = b""


@dataclass(slots=True)
class Tnef:
    """The content of a TNEF stream. `text` or `html` is "" if the stream has no such form."""

    text: str = ""
    html: str = ""
    files: list[TnefFile] = field(default_factory=list)


def read_tnef(data: bytes) -> Tnef | None:
    """Read the text and the files; None if `data` is not TNEF. Never raises; linear."""
    if len(data) < 6 or struct.unpack_from("<I", data)[0] != _SIGNATURE:
        return None
    tnef = Tnef()
    pages = (value for level, name, value in islice(_attributes(data), MAX_ATTRIBUTES) if name == _CODEPAGE)
    codepage = _page(next(pages, b""))
    for level, name, value in islice(_attributes(data), MAX_ATTRIBUTES):
        if level == _FILE_LEVEL:
            _add_to_file(tnef, name, value, codepage)
        elif name == _BODY:
            tnef.text = _text(value, codepage)
        elif name == _MAPI:
            _add_texts(tnef, dict(_properties(value)), codepage)
    return tnef


def _attributes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(level, name, value) of each attribute. The last value may be truncated."""
    position = 6
    while position + 9 <= len(data):
        level, name, _, length = struct.unpack_from("<BHHI", data, position)
        yield level, name, data[position + 9 : position + 9 + length]
        position += 9 + length + 2


def _properties(data: bytes) -> Iterator[tuple[int, tuple[int, bytes]]]:
    """(id, (type, value)) of each MAPI property, with the first of several values. Ends at the first unreadable one."""
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
    """The first value of a property, and where the next property begins. Raises struct.error and KeyError."""
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
    """The label of a code page, from its number; None if there is none."""
    number = struct.unpack_from("<I", value)[0] if len(value) >= 4 else 0
    return f"cp{number}" if number else None


def _add_texts(tnef: Tnef, properties: dict[int, tuple[int, bytes]], codepage: str | None) -> None:
    charset = _page(properties.get(_PR_CODEPAGE, (3, b""))[1])
    kind, value = properties.get(_PR_BODY, (_STRING, b""))
    tnef.text = _string(kind, value, charset or codepage) or tnef.text
    kind, value = properties.get(_PR_HTML, (_BINARY, b""))
    tnef.html = _string(kind, value, charset or meta_charset(value) or codepage) or tnef.html
    rtf = b"" if tnef.html else inflate_rtf(properties.get(_PR_RTF, (_BINARY, b""))[1])
    if rtf:
        text, is_html = read_rtf(rtf)
        tnef.html, tnef.text = (text, tnef.text) if is_html else ("", tnef.text or text)


def _add_to_file(tnef: Tnef, name: int, value: bytes, codepage: str | None) -> None:
    if not tnef.files or (name == _NEW_FILE and len(tnef.files) < MAX_FILES):
        tnef.files.append(TnefFile())
    file = tnef.files[-1]
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
        file.content, file.media_type = content[_OBJECT_ID_BYTES:], "application/ms-tnef"  # an attached message
    elif content:
        file.content = content[_OBJECT_ID_BYTES:] if kind == _OBJECT else content


def _string(kind: int, value: bytes, charset: str | None) -> str:
    return _text(value, "utf-16le" if kind == _UNICODE else charset)


def _text(value: bytes, charset: str | None) -> str:
    return decode(value.rstrip(b"\0") if charset is None else value, charset).text.rstrip("\x00").replace("\x00", "")
