"""Responses that are almost only numbers (SEARCH, ESEARCH, VANISHED), cut into several that are quick to parse.

A line may hold 8 MB of numbers, which take half a second to parse. Servers may split such an answer themselves, so
readers merge what several responses tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from app.wire.imap.framing import Response

BYTES_AT_ONCE = 32 * 1024
"""Numbers that are parsed in one go: some 3 ms, and up to 15 ms where they are short."""

_SEARCH = re.compile(rb"(\* SEARCH) ([0-9 ]+)(.*)", re.IGNORECASE | re.DOTALL)
_SET = re.compile(rb"(\* (?:ESEARCH .*?\bALL|VANISHED(?: \(EARLIER\))?)) ([0-9:,*]+)(.*)", re.IGNORECASE | re.DOTALL)


def cut(response: Response) -> Iterator[Response]:
    """The response, or several that together tell the same where its numbers are longer than `BYTES_AT_ONCE`."""
    found = None
    if len(response.text) > BYTES_AT_ONCE and len(response.parts) == 1:
        found = _SEARCH.fullmatch(response.text) or _SET.fullmatch(response.text)
    if found is None:
        yield response
        return
    head, numbers, rest = found.groups()
    separator = b" " if b" " in numbers else b","
    start = 0
    while start < len(numbers):
        end = numbers.find(separator, start + BYTES_AT_ONCE)
        end = len(numbers) if end < 0 else end
        yield Response((b"%b %b%b" % (head, numbers[start:end], rest),))
        start = end + 1
