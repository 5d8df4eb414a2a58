"""Random secrets for clients, such as tokens. Only their hashes are stored."""

from __future__ import annotations

import hashlib
import re
import secrets

SECRET_PREFIX = "pgs_"  # noqa: S105 - a fixed prefix, so that scanners can find leaked secrets
_SECRET_BYTES = 32
SECRET_LIMIT_CHARS = 200
_SECRET = re.compile(re.escape(SECRET_PREFIX) + r"[A-Za-z0-9_-]{43}")


def new_secret() -> str:
    """A new secret: `pgs_` and 256 random bits as 43 characters of `A–Z a–z 0–9 _ -`."""
    return SECRET_PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def is_secret(text: str) -> bool:
    """Whether a text has the form of a secret."""
    return _SECRET.fullmatch(text) is not None


def hash_secret(secret: str) -> str:
    """The secret's SHA-256 in hex. A secret with 256 random bits needs no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
