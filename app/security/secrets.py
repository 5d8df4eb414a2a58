"""Secrets given to clients: generated at random, stored only as hashes."""

from __future__ import annotations

import hashlib
import re
import secrets

SECRET_PREFIX = "pgs_"  # noqa: S105 - what every secret begins with, so that leaked ones can be found
_SECRET_BYTES = 32
SECRET_LIMIT_CHARS = 200
_SECRET = re.compile(re.escape(SECRET_PREFIX) + r"[A-Za-z0-9_-]{43}")


def new_secret() -> str:
    """`pgs_` and 256 bits of chance as 43 characters of `A–Z a–z 0–9 _ -`."""
    return SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def is_secret(text: str) -> bool:
    """Whether a text has the form of our secrets."""
    return _SECRET.fullmatch(text) is not None


def hash_secret(secret: str) -> str:
    """SHA-256 in hex. With 256 bits of chance in it, a secret needs no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
