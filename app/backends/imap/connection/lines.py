"""What the lines of a server say to the connection itself: greeting, capabilities, how a command ended, goodbye."""

from __future__ import annotations

import re
from functools import lru_cache

from app.backends.imap.connection.answers import is_enough, shown, throttled
from app.errors import MailServerError, Unreachable

_TAGGED = re.compile(rb"([A-Z0-9]{1,20}) (OK|NO|BAD)(?: (.*))?", re.IGNORECASE | re.DOTALL)
_CAPABILITIES = re.compile(rb"\* CAPABILITY ([^\r\n]*)|[^\[]*\[CAPABILITY ([^\]]*)\]", re.IGNORECASE)
_GREETING = re.compile(rb"\* (OK|PREAUTH|BYE)(?: |\Z)", re.IGNORECASE)
_NAME = re.compile(rb"\* (?:[0-9]+ )?([A-Za-z]+)")
_BYE = re.compile(rb"\* BYE(?: |\Z)", re.IGNORECASE)
_CUT_OFF = b"User is authenticated but not connected"
"""Microsoft 365's BAD to any command where it has had enough of the account: nothing more works on the connection."""


def greeting(text: bytes) -> bytes | None:
    """OK, PREAUTH or BYE; None for what is no greeting."""
    match = _GREETING.match(text)
    return match[1].upper() if match else None


def tagged(line: bytes) -> tuple[bytes, str, bytes] | None:
    """How a command ended: its tag, OK, NO or BAD, and the text after it. None for any other line."""
    match = _TAGGED.fullmatch(line)
    return (match[1], match[2].decode("ascii").upper(), match[3] or b"") if match else None


def name(text: bytes) -> bytes | None:
    """The name of an untagged response, upper case."""
    match = _NAME.match(text)
    return match[1].upper() if match else None


def capabilities(text: bytes) -> frozenset[str] | None:
    """Those that a response or a response code tells, upper case; None where it tells none."""
    match = _CAPABILITIES.match(text)
    return _capability_set(match[1] or match[2] or b"") if match else None


@lru_cache(maxsize=256)
def _capability_set(names: bytes) -> frozenset[str]:
    """One set for all connections to servers that offer the same."""
    return frozenset(names.decode("ascii", "replace").upper().split())


def is_goodbye(text: bytes) -> bool:
    return _BYE.match(text) is not None


def goodbye(text: bytes, otherwise: str) -> MailServerError:
    """Why a server said BYE: it has had enough of the account, or `otherwise`."""
    return throttled(shown(text[2:])) if is_enough(text) else Unreachable(otherwise)


def cut_off(line: bytes) -> MailServerError | None:
    """The error of a tagged line after which nothing more works on the connection."""
    return throttled(shown(line.partition(b" ")[2])) if _CUT_OFF in line else None
