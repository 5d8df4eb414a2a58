"""Ids: a type prefix, then 24 characters; of new ones they are time and chance, and sort by time."""

from __future__ import annotations

import hashlib
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 72
_DIGITS = 24


def new_id(prefix: str) -> str:
    """`prefix_` and 24 characters of `0-9a-z`: 48 bits of milliseconds, then 72 of chance."""
    return _spelled(prefix, (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS))


def derived_id(prefix: str, *names: str) -> str:
    """The id of what these names name: the same each time, and no other's."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return _spelled(prefix, int.from_bytes(digest[: 5 * _DIGITS // 8]))


def _spelled(prefix: str, value: int) -> str:
    return prefix + "_" + "".join([_ALPHABET[(value >> shift) & 31] for shift in range(5 * (_DIGITS - 1), -5, -5)])


def content_digest(content: bytes) -> str:
    """Stands for a message's bytes: two that have the same are the same (BLAKE2b, 128 bits)."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def now_ms() -> int:
    """Wall-clock time in ms since 1970 UTC."""
    return time.time_ns() // 1_000_000
