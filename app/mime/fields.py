"""Header fields: a header block split into names and values (RFC 5322 §2.2), within bounds.

A value is kept as the bytes after the colon, folded as it came; `unfold` makes it one line of text.
"""

from __future__ import annotations

import re
from itertools import islice

MAX_HEADER_BYTES = 256 * 1024
"""What is read of one header block; the rest is kept as bytes, but not understood."""
MAX_FIELDS = 10_000
MAX_NAME_BYTES = 1_000
"""How much of the last line of a header block is looked at."""

Fields = list[tuple[str, bytes]]
"""(lower-case name, raw value) in order of appearance."""

_FIELD = re.compile(rb"^([!-9;-~]++)[ \t]*+:([^\n]*+(?:\n[ \t][^\n]*+)*)", re.MULTILINE)
_FOLD = re.compile(rb"[\r\n]+")
_BOM = b"\xef\xbb\xbf"
_ENVELOPE_LINE = re.compile(rb">?From [^\n]*+\n")


def split_fields(block: bytes) -> Fields:
    """The fields of a header block. Lines that are none (an mbox "From " line, garbage) are skipped."""
    return [(name.lower(), value) for name, value in named_fields(block)]


def named_fields(block: bytes) -> Fields:
    """The same with the names as they are spelled. A byte order mark before the first one is skipped."""
    found = islice(_FIELD.finditer(block[:MAX_HEADER_BYTES].removeprefix(_BOM)), MAX_FIELDS)
    return [(match[1].decode("ascii"), match[2]) for match in found]


def end_of_fields(block: bytes) -> int:
    """Where the body begins in the block before a blank line: at the first line after the last field.

    So lines between the fields and the blank line, as of a part without a header, are text and not lost.
    """
    last_line = block.rstrip()[-MAX_NAME_BYTES:].rpartition(b"\n")[2]
    if not last_line or len(block) > MAX_HEADER_BYTES or last_line[:1] in b" \t" or _FIELD.match(last_line):
        return len(block)
    end = max((match.end() + 1 for match in _FIELD.finditer(block)), default=0)
    envelope = _ENVELOPE_LINE.match(block)
    return max(end, envelope.end() if envelope else 0)


def unfold(value: bytes) -> str:
    """One line of text: line ends removed, tabs made spaces, ends stripped; 8-bit bytes as surrogateescape'd UTF-8."""
    if b"\n" in value or b"\r" in value:
        value = _FOLD.sub(b"", value)
    return value.replace(b"\t", b" ").strip().decode("utf-8", "surrogateescape")


def first_value(fields: Fields, name: str) -> str | None:
    """The unfolded value of the first field with this lower-case name, None where there is none."""
    return next((unfold(value) for key, value in fields if key == name), None)


def problems_of(size_bytes: int, count: int) -> tuple[str, ...]:
    """What was not read of a header of this size, of which `count` fields were read, for people."""
    if size_bytes > MAX_HEADER_BYTES:
        return (f"only the first {MAX_HEADER_BYTES} bytes of the header were read",)
    if count >= MAX_FIELDS:
        return (f"only the first {MAX_FIELDS} header fields were read",)
    return ()
