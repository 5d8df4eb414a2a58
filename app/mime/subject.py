"""The base subject of a message: its subject without reply, forward and list markers (RFC 5256 §2.1)."""

from __future__ import annotations

import re

SUBJECT_LIMIT = 500
"""Characters of a subject that are read."""

_BLOB = r"\[[^\[\]]{0,200}\]\s*"
_LEADER = re.compile(rf"(?:{_BLOB}){{0,10}}(?:re|fwd?)\s*(?:{_BLOB})?:\s*", re.IGNORECASE)
_BLOBS = re.compile(_BLOB)
_TRAILER = re.compile(r"\s*\(fwd\)\Z", re.IGNORECASE)
_FORWARDED = re.compile(r"\[fwd:(.*)\]\Z", re.IGNORECASE | re.DOTALL)


def base_subject(subject: str) -> tuple[str, bool]:
    """Return the base of a decoded subject, runs of spaces collapsed, and whether it marks a reply or a forward."""
    text, is_answer = " ".join(subject[:SUBJECT_LIMIT].split()), False
    while True:
        text, has_trailer = _without_trailers(text)
        text, has_leader = _without_leaders(text)
        forwarded = _FORWARDED.match(text)
        is_answer = is_answer or has_trailer or has_leader or forwarded is not None
        if forwarded is None:
            return text, is_answer
        text = forwarded[1].strip()


def _without_trailers(text: str) -> tuple[str, bool]:
    """Remove every `(fwd)` at the end. Return the text, and whether there was any."""
    has_any = False
    while (trailer := _TRAILER.search(text, max(0, len(text) - 10))) is not None:
        text, has_any = text[: trailer.start()], True
    return text, has_any


def _without_leaders(text: str) -> tuple[str, bool]:
    """Remove `Re:`, `Fwd:` and `[list]` at the start. Return the text, and whether there was any `Re:` or `Fwd:`.

    A `[list]` with nothing after it stays.
    """
    has_any = False
    while True:
        leader = _LEADER.match(text)
        blob = _BLOBS.match(text) if leader is None else None
        if leader is not None:
            text, has_any = text[leader.end() :], True
        elif blob is not None and blob.end() < len(text):
            text = text[blob.end() :]
        else:
            return text, has_any
