"""Mailbox patterns: `*` is any text, `%` any text within one level (RFC 9051 §6.3.9). Pure, linear.

The reachable positions in the pattern are bits of one number, so matching never backtracks.
"""

from __future__ import annotations

import re

from app.mailstore.mailboxes import DELIMITER

PATTERN_LIMIT = 1_000
"""The number of a pattern's characters that are used."""

_WILDCARDS = re.compile(r"[*%]{2,}")


class Pattern:
    """A compiled pattern. INBOX matches in any case."""

    def __init__(self, text: str) -> None:
        text = _WILDCARDS.sub(lambda run: "*" if "*" in run[0] else "%", text[:PATTERN_LIMIT])
        if text[:6].upper() in ("INBOX", "INBOX/"):
            text = "INBOX" + text[5:]
        self._literals: dict[str, int] = {}
        self._stars = self._percents = 0
        for place, char in enumerate(text):
            if char == "*":
                self._stars |= 1 << place
            elif char == "%":
                self._percents |= 1 << place
            else:
                self._literals[char] = self._literals.get(char, 0) | 1 << place
        self._end = 1 << len(text)

    def matches(self, name: str) -> bool:
        reached = self._past_wildcards(1)
        for char in name:
            stays = self._stars if char == DELIMITER else self._stars | self._percents
            moves = (reached & self._literals.get(char, 0)) << 1
            reached = self._past_wildcards(reached & stays | moves)
            if not reached:
                return False
        return bool(reached & self._end)

    def _past_wildcards(self, reached: int) -> int:
        """A wildcard can match the empty text; two wildcards are never adjacent."""
        return reached | (reached & (self._stars | self._percents)) << 1
