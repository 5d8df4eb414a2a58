"""JSON bodies of many megabytes, whose attachments are not decoded in one go.

Parsing 33 MB of JSON takes 50 ms in which nobody else has a turn. Nearly all of it is base64 in `content_base64`: these
texts are taken out before the rest is parsed, and the caller decodes them in slices.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from orjson import loads

LARGE_BODY_BYTES = 512 * 1024
"""A body from this size on is looked through for long texts."""
LONG_TEXT_BYTES = 64 * 1024
SCANNED_BYTES = 4 * 1024 * 1024
"""How much is looked through before others have their turn: a millisecond or two."""
_FIELD = b'"content_base64"'
_BACKSLASH = b"\\"[0]
_SPACE = b" \t\r\n"


async def parse_large(body: bytes | bytearray) -> Any:
    """The value of a JSON text, its long `content_base64` as memoryviews of `body`. Raises json.JSONDecodeError."""
    prefix = secrets.token_hex(16)
    texts: dict[str, memoryview] = {}
    kept: list[bytes | memoryview] = []
    view, copied, position = memoryview(body), 0, 0
    while (field := await _find(body, _FIELD, position)) >= 0:
        position = field + len(_FIELD)
        start = _start_of_text(body, position)
        if start < 0 or body[field - 1] == _BACKSLASH:  # the end of another name
            continue
        end = await _find(body, b'"', start)
        if end < 0:
            break
        position = end + 1
        if end - start >= LONG_TEXT_BYTES and body[end - 1] != _BACKSLASH:
            name = f"{prefix}{len(texts)}"
            texts[name] = view[start:end]
            kept += [view[copied:start], name.encode()]
            copied = end
    return _put_back(loads(b"".join([*kept, view[copied:]])), texts)


async def _find(body: bytes | bytearray, wanted: bytes, position: int) -> int:
    """`body.find`, with pauses in which others have their turn."""
    while position < len(body):
        found = body.find(wanted, position, position + SCANNED_BYTES + len(wanted) - 1)
        if found >= 0:
            return found
        position += SCANNED_BYTES
        await asyncio.sleep(0)
    return -1


def _start_of_text(body: bytes | bytearray, position: int) -> int:
    """Where the text begins that follows a field's name at `position`; -1 where another value does."""
    after = bytes(body[position : position + 100]).lstrip(_SPACE)
    if after[:1] != b":" or after[1:].lstrip(_SPACE)[:1] != b'"':
        return -1
    return body.index(b'"', position) + 1


def _put_back(value: Any, texts: dict[str, memoryview]) -> Any:
    """The texts in the places of their names, in the attachments of a message."""
    attachments = value.get("attachments") if isinstance(value, dict) and texts else None
    for attachment in attachments if isinstance(attachments, list) else ():
        if isinstance(attachment, dict) and isinstance(name := attachment.get("content_base64"), str):
            attachment["content_base64"] = texts.get(name, name)
    return value
