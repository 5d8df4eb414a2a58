"""Mailbox names on the wire: modified UTF-7 (RFC 3501 §5.1.3) to and from text."""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64

_SHIFTED = re.compile(r"&([^-&]*)-", re.ASCII)
_TO_SHIFT = re.compile(r"&|[^\x20-\x7e]+")
_BASE64 = re.compile(r"[A-Za-z0-9+,]+", re.ASCII)


def encode_utf7(name: str) -> str:
    """A name in modified UTF-7, which is ASCII.

    Raises ValueError for a lone surrogate, which no encoding can carry.
    """
    if name.isascii() and "&" not in name and name.isprintable():
        return name
    return _TO_SHIFT.sub(lambda match: _shifted(match[0]), name)


def decode_utf7(encoded: str) -> str:
    """The name of a modified UTF-7 form.

    Raises ValueError for anything that `encode_utf7` would not have written, so one name has one form.
    """
    if not encoded.isascii():
        raise ValueError("modified UTF-7 is ASCII")
    if "&" not in encoded:
        return encoded
    name = _SHIFTED.sub(lambda match: _unshifted(match[1]), encoded)
    if encode_utf7(name) != encoded:
        raise ValueError("not the proper modified UTF-7 of a name")
    return name


def read_name(wire: str) -> str:
    """The name that a server meant: modified UTF-7 where it is that, else the text as it stands.

    Servers send raw `&` and UTF-8 against the RFC, and such a mailbox must still be seen. To be told apart by what
    was sent, keep the wire form too: `encode_utf7(read_name(w))` need not be `w`.
    """
    try:
        return decode_utf7(wire)
    except ValueError:
        return wire


def _shifted(run: str) -> str:
    if run == "&":
        return "&-"
    encoded = b64encode(run.encode("utf-16-be")).decode("ascii")
    return f"&{encoded.rstrip('=').replace('/', ',')}-"


def _unshifted(encoded: str) -> str:
    if not encoded:
        return "&"
    if not _BASE64.fullmatch(encoded):
        raise ValueError("not base64 in modified UTF-7")
    padded = encoded.replace(",", "/") + "=" * (-len(encoded) % 4)
    try:
        return a2b_base64(padded).decode("utf-16-be")
    except Base64Error as error:
        raise ValueError("not base64 in modified UTF-7") from error
