"""Parses lines about the connection itself: greeting, capabilities, completions, BYE."""

from __future__ import annotations

import re
from functools import lru_cache

from app.backends.imap.connection.answers import is_throttling, shown, throttled
from app.errors import MailServerError, Unreachable

_TAGGED = re.compile(rb"([A-Z0-9]{1,20}) (OK|NO|BAD)(?: (.*))?", re.IGNORECASE | re.DOTALL)
_CAPABILITIES = re.compile(rb"\* CAPABILITY ([^\r\n]*)|[^\[]*\[CAPABILITY ([^\]]*)\]", re.IGNORECASE)
_GREETING = re.compile(rb"\* (OK|PREAUTH|BYE)(?: |\Z)", re.IGNORECASE)
_NAME = re.compile(rb"\* (?:[0-9]+ )?([A-Za-z]+)")
_BYE = re.compile(rb"\* BYE(?: |\Z)", re.IGNORECASE)
_CUT_OFF = b"User is authenticated but not connected"
"""Microsoft 365 returns this BAD to every command when it throttles the account; the connection is unusable then."""


def greeting(text: bytes) -> bytes | None:
    """OK, PREAUTH or BYE; None if the line is not a greeting."""
    match = _GREETING.match(text)
    return match[1].upper() if match else None


def tagged(line: bytes) -> tuple[bytes, str, bytes] | None:
    """A completion: tag, OK, NO or BAD, and the text after it. None for any other line."""
    match = _TAGGED.fullmatch(line)
    return (match[1], match[2].decode("ascii").upper(), match[3] or b"") if match else None


def name(text: bytes) -> bytes | None:
    """The name of an untagged response, in upper case."""
    match = _NAME.match(text)
    return match[1].upper() if match else None


def capabilities(text: bytes) -> frozenset[str] | None:
    """Capabilities in a response or response code, in upper case; None if there are none."""
    match = _CAPABILITIES.match(text)
    return _capability_set(match[1] or match[2] or b"") if match else None


@lru_cache(maxsize=256)
def _capability_set(names: bytes) -> frozenset[str]:
    """Parse capabilities. Connections to servers with the same capabilities share one set."""
    return frozenset(names.decode("ascii", "replace").upper().split())


def is_goodbye(text: bytes) -> bool:
    return _BYE.match(text) is not None


def goodbye(text: bytes, otherwise: str) -> MailServerError:
    """The error for a BYE: Throttled, or Unreachable with the detail `otherwise`."""
    return throttled(shown(text[2:])) if is_throttling(text) else Unreachable(otherwise)


def cut_off(line: bytes) -> MailServerError | None:
    """The error for a tagged line after which the connection is unusable, or None."""
    return throttled(shown(line.partition(b" ")[2])) if _CUT_OFF in line else None
