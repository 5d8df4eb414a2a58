"""Parses JSON bodies of many megabytes without blocking the event loop.

Parsing 33 MB of JSON blocks the loop for 50 ms, or for 150 ms if its text is not ASCII. Nearly all of it is in a few
texts: base64 in `content_base64`, which the caller decodes in slices, and `text` and `html`. They are extracted before
the rest is parsed.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import Any

from orjson import loads

LARGE_BODY_BYTES = 512 * 1024
"""Bodies of this size and above are searched for long texts."""
LONG_TEXT_BYTES = 64 * 1024
SCANNED_BYTES = 1024 * 1024
"""Bytes searched before yielding to the event loop: a millisecond or two."""
DECODED_BYTES = 256 * 1024
"""Bytes of a text decoded before yielding to the event loop."""
_FIELD = re.compile(rb'(?<!\\)"(content_base64|text|html)"')
_LONGEST_FIELD = len(b'\\"content_base64"')
_WHOLE_CHARACTERS = re.compile(
    rb'(?:[^"\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u(?![dD][89abAB])[0-9a-fA-F]{4}'
    rb'|\\["\\/bfnrt])*+'
)
"""A run of characters and complete escapes of a JSON string; it never splits a surrogate pair."""
_QUOTE = b'"'
_BACKSLASH = b"\\"[0]
_SPACE = b" \t\r\n"

Text = memoryview | str


async def parse_large(body: bytes | bytearray) -> Any:
    """Parse a JSON text; long `content_base64` values are memoryviews of `body`. Raises json.JSONDecodeError."""
    prefix = secrets.token_hex(16)
    texts: dict[str, Text] = {}
    rest: list[bytes | memoryview] = []
    view, copied, position = memoryview(body), 0, 0
    while (field := await _find_field(body, position)) is not None:
        name, position = field
        start = _start_of_text(body, position)
        if start < 0:
            continue
        text, position = await (_base64(body, start) if name == b"content_base64" else _decoded(body, start))
        if text is not None:
            key = f"{prefix}{len(texts)}"
            texts[key] = text
            rest += [view[copied:start], key.encode()]
            copied = position
    value = loads(b"".join([*rest, view[copied:]]))
    return value if _put_back(value, texts) == len(texts) else loads(body)


async def _find_field(body: bytes | bytearray, position: int) -> tuple[bytes, int] | None:
    """Return the next name of a field that may have a long text, and its end. Yields to the event loop."""
    while position < len(body):
        end = position + SCANNED_BYTES
        if match := _FIELD.search(body, position, end + _LONGEST_FIELD):
            return match[1], match.end()
        position = end
        await asyncio.sleep(0)
    return None


async def _base64(body: bytes | bytearray, start: int) -> tuple[Text | None, int]:
    """Return a long text without escapes that begins at `start`, or None, and its end."""
    position = start
    while (end := body.find(_QUOTE, position, position + SCANNED_BYTES)) < 0:
        position += SCANNED_BYTES
        if position >= len(body):
            return None, len(body)
        await asyncio.sleep(0)
    is_long = end - start >= LONG_TEXT_BYTES and body[end - 1] != _BACKSLASH
    return (memoryview(body)[start:end] if is_long else None), end


async def _decoded(body: bytes | bytearray, start: int) -> tuple[Text | None, int]:
    """Return a long text that begins at `start`, and its end; None if it is short or invalid."""
    pieces: list[str] = []
    position = start
    while position < len(body) and body[position] != _QUOTE[0]:
        end = _end_of_piece(body, position)
        if end == position:
            return None, start
        pieces.append(loads(b'"%b"' % bytes(body[position:end])))
        position = end
        await asyncio.sleep(0)
    is_long = position - start >= LONG_TEXT_BYTES and position < len(body)
    return ("".join(pieces) if is_long else None), position


def _end_of_piece(body: bytes | bytearray, start: int) -> int:
    """Return the end of a piece that can be decoded separately: at the closing quote or between two characters."""
    match = _WHOLE_CHARACTERS.match(body, start, start + DECODED_BYTES)
    end = match.end() if match is not None else start
    while start < end < len(body) and body[end] & 0xC0 == 0x80:  # in the middle of a UTF-8 character
        end -= 1
    return end


def _start_of_text(body: bytes | bytearray, position: int) -> int:
    """Return the start of the text after a field's name that ends at `position`; -1 if the value is not a text."""
    after = bytes(body[position : position + 100]).lstrip(_SPACE)
    if after[:1] != b":" or after[1:].lstrip(_SPACE)[:1] != _QUOTE:
        return -1
    return body.index(_QUOTE, position) + 1


def _put_back(value: Any, texts: dict[str, Text]) -> int:
    """Replace the placeholders in a message and its attachments by the texts; return how many were replaced."""
    holders = [value] if isinstance(value, dict) and texts else []
    attachments = holders[0].get("attachments") if holders else None
    holders += (
        [attachment for attachment in attachments if isinstance(attachment, dict)]
        if isinstance(attachments, list)
        else []
    )
    placeholders = [
        (holder, name, texts[key])
        for holder in holders
        for name in ("content_base64", "text", "html")
        if isinstance(key := holder.get(name), str) and key in texts
    ]
    for holder, name, text in placeholders:
        holder[name] = text
    return len(placeholders)
