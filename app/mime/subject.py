"""The base subject of a message: what is left of it when marks of answers and lists are taken off (RFC 5256 §2.1)."""

from __future__ import annotations

import re

SUBJECT_LIMIT = 500
"""Characters of a subject that count."""

_BLOB = r"\[[^\[\]]{0,200}\]\s*"
_LEADER = re.compile(rf"(?:{_BLOB}){{0,10}}(?:re|fwd?)\s*(?:{_BLOB})?:\s*", re.IGNORECASE)
_BLOBS = re.compile(_BLOB)
_TRAILER = re.compile(r"\s*\(fwd\)\Z", re.IGNORECASE)
_FORWARDED = re.compile(r"\[fwd:(.*)\]\Z", re.IGNORECASE | re.DOTALL)


def base_subject(subject: str) -> tuple[str, bool]:
    """A decoded subject's base, runs of space as one, and whether it was marked as an answer or a forward."""
    text, is_answer = " ".join(subject[:SUBJECT_LIMIT].split()), False
    while True:
        cut = _without_marks(text)
        if cut != text:
            text, is_answer = cut, True
            continue
        blob = _BLOBS.match(text)
        if blob is None or blob.end() == len(text):
            return text, is_answer
        text = text[blob.end() :]


def _without_marks(text: str) -> str:
    """One mark fewer, or the same."""
    trailer = _TRAILER.search(text, max(0, len(text) - 10))
    if trailer is not None:
        return text[: trailer.start()]
    leader = _LEADER.match(text)
    if leader is not None:
        return text[leader.end() :]
    forwarded = _FORWARDED.match(text)
    return forwarded[1].strip() if forwarded is not None else text
