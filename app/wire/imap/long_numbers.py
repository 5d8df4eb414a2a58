"""Splitting of long responses of numbers (SEARCH, ESEARCH, VANISHED) into several that are quick to parse.

A line may contain 8 MB of numbers, which take half a second to parse. Servers may send such a result in several
responses too, so callers merge them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.wire.imap.framing import Response

BYTES_AT_ONCE = 32 * 1024
"""Bytes of numbers that are parsed at once, in about 3 ms, or up to 15 ms if the numbers are short."""

_SEARCH = re.compile(rb"(\* SEARCH) ([0-9 ]+)(.*)", re.IGNORECASE | re.DOTALL)
_SET = re.compile(rb"(\* (?:ESEARCH .*?\bALL|VANISHED(?: \(EARLIER\))?)) ([0-9:,*]+)(.*)", re.IGNORECASE | re.DOTALL)


def cut(response: Response) -> Iterator[Response]:
    """The response, or several equivalent ones if its numbers are longer than `BYTES_AT_ONCE`."""
    match = None
    if len(response.text) > BYTES_AT_ONCE and len(response.parts) == 1:
        match = _SEARCH.fullmatch(response.text) or _SET.fullmatch(response.text)
    if match is None:
        yield response
        return
    head, numbers, rest = match.groups()
    separator = b" " if b" " in numbers else b","
    start = 0
    while start < len(numbers):
        end = numbers.find(separator, start + BYTES_AT_ONCE)
        end = len(numbers) if end < 0 else end
        yield Response((b"%b %b%b" % (head, numbers[start:end], rest),))
        start = end + 1
