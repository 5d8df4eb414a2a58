"""Ids: a type prefix and 24 characters. New ids consist of the time and random bits, and sort by time."""

from __future__ import annotations

import hashlib
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 72
_DIGITS = 24


def new_id(prefix: str) -> str:
    """Return `prefix_` and 24 characters of `0-9a-z`: 48 bits of milliseconds, then 72 random bits."""
    return _spelled(prefix, (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS))


def derived_id(prefix: str, *names: str) -> str:
    """Return the id that is derived from these names, always the same for the same names."""
    digest = hashlib.sha256("\0".join(names).encode()).digest()
    return _spelled(prefix, int.from_bytes(digest[: 5 * _DIGITS // 8]))


def _spelled(prefix: str, value: int) -> str:
    return prefix + "_" + "".join([_ALPHABET[(value >> shift) & 31] for shift in range(5 * (_DIGITS - 1), -5, -5)])


def content_digest(content: bytes) -> str:
    """Return a digest of a message's bytes, equal for equal content (BLAKE2b, 128 bits)."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def now_ms() -> int:
    """Wall-clock time in ms since 1970 UTC."""
    return time.time_ns() // 1_000_000
