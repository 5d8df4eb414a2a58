"""Splitting of a header block into field names and values (RFC 5322 §2.2), within limits.

A value is the bytes after the colon, still folded; `unfold` turns it into one line of text.
"""

from __future__ import annotations

import re
from itertools import islice

MAX_HEADER_BYTES = 256 * 1024
"""Bytes of one header block that are parsed. The rest stays in the block's bytes."""
MAX_FIELDS = 10_000
MAX_NAME_BYTES = 1_000
"""Bytes of the last line of a header block that are examined."""

Fields = list[tuple[str, bytes]]
"""(lower-case name, raw value) in order of appearance."""

_FIELD = re.compile(rb"^([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*)", re.MULTILINE)
_FOLD = re.compile(rb"[\r\n]+")
_BOM = b"\xef\xbb\xbf"
_ENVELOPE_LINE = re.compile(rb">?From [^\n]*+\n")


def split_fields(block: bytes) -> Fields:
    """The fields of a header block. Lines that are not fields (an mbox "From " line, garbage) are skipped."""
    return [(name.lower(), value) for name, value in named_fields(block)]


def named_fields(block: bytes) -> Fields:
    """The fields with their names in the original case. A byte order mark at the start is skipped."""
    matches = islice(_FIELD.finditer(block[:MAX_HEADER_BYTES].removeprefix(_BOM)), MAX_FIELDS)
    return [(match[1].decode("ascii"), match[2]) for match in matches]


def end_of_fields(block: bytes) -> int:
    """Where the body begins in the block before a blank line: at the first line after the last field.

    Lines between the fields and the blank line, as in a part without a header, thus belong to the body.
    """
    last_line = block.rstrip()[-MAX_NAME_BYTES:].rpartition(b"\n")[2]
    if not last_line or len(block) > MAX_HEADER_BYTES or last_line[:1] in b" \t" or _FIELD.match(last_line):
        return len(block)
    end = max((match.end() + 1 for match in _FIELD.finditer(block)), default=0)
    envelope = _ENVELOPE_LINE.match(block)
    return max(end, envelope.end() if envelope else 0)


def unfold(value: bytes) -> str:
    """Unfold a value into one stripped line, with spaces for tabs. Decode it as UTF-8 with surrogateescape."""
    if b"\n" in value or b"\r" in value:
        value = _FOLD.sub(b"", value)
    return value.replace(b"\t", b" ").strip().decode("utf-8", "surrogateescape")


def first_value(fields: Fields, name: str) -> str | None:
    """The unfolded value of the first field with this lower-case name, or None."""
    return next((unfold(value) for key, value in fields if key == name), None)


def problems_of(size_bytes: int, count: int) -> tuple[str, ...]:
    """Describe, for people, what was not read of a header of this size, of which `count` fields were read."""
    if size_bytes > MAX_HEADER_BYTES:
        return (f"only the first {MAX_HEADER_BYTES} bytes of the header were read",)
    if count >= MAX_FIELDS:
        return (f"only the first {MAX_FIELDS} header fields were read",)
    return ()
