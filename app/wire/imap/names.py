"""Mailbox names: conversion between text and modified UTF-7 (RFC 3501 §5.1.3)."""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64

_SHIFTED = re.compile(r"&([^-&]*)-", re.ASCII)
_TO_SHIFT = re.compile(r"&|[^\x20-\x7e]+")
_BASE64 = re.compile(r"[A-Za-z0-9+,]+", re.ASCII)


def encode_utf7(name: str) -> str:
    """Encode a name in modified UTF-7, which is ASCII.

    Raises ValueError for a lone surrogate, which cannot be encoded.
    """
    if name.isascii() and "&" not in name and name.isprintable():
        return name
    return _TO_SHIFT.sub(lambda match: _shifted(match[0]), name)


def decode_utf7(encoded: str) -> str:
    """Decode modified UTF-7.

    Raises ValueError for any form that `encode_utf7` does not produce, so that each name has one form.
    """
    if not encoded.isascii():
        raise ValueError("modified UTF-7 is ASCII")
    if "&" not in encoded:
        return encoded
    name = _SHIFTED.sub(lambda match: _unshifted(match[1]), encoded)
    if encode_utf7(name) != encoded:
        raise ValueError("not the canonical modified UTF-7 of a name")
    return name


def read_name(wire: str) -> str:
    """A name from a client: decoded if it is valid modified UTF-7, else unchanged."""
    try:
        return decode_utf7(wire)
    except ValueError:
        return wire


def shown_as(wire: str) -> str:
    """A name from a server, for people. Invalid modified UTF-7 is decoded as far as possible.

    Servers send raw `&`, UTF-8 and Latin-1 against the RFC; such mailboxes must still be readable. Commands use
    `wire_of(known_as(wire))`.
    """
    try:
        name = _SHIFTED.sub(lambda match: _unshifted(match[1]), wire) if wire.isascii() else wire
        name.encode()
    except ValueError:
        return wire.encode("utf-8", "surrogateescape").decode("utf-8" if wire.isascii() else "latin-1")
    return name


RAW = "\ue000"
"""Marks a name whose wire form is not canonical. The name continues with the bytes of the wire form, each as the
character U+0000 to U+00FF."""


def known_as(wire: str, *, is_utf8: bool = False) -> str:
    """The internal name of a mailbox, from its wire form (with invalid UTF-8 surrogate-escaped).

    It is the readable name if `wire_of` restores the same bytes from it, else RAW and the bytes.
    """
    raw = wire.encode("utf-8", "surrogateescape")
    try:
        name = wire if is_utf8 else decode_utf7(wire)
        if not name.startswith(RAW) and wire_of(name, is_utf8=is_utf8) == raw:
            return name
    except ValueError:
        pass
    return RAW + raw.decode("latin-1")


def wire_of(name: str, *, is_utf8: bool = False) -> bytes:
    """The wire form of a name from `known_as`: the server's own bytes, or the name in modified UTF-7 or UTF-8.

    Raises ValueError for a lone surrogate.
    """
    if name.startswith(RAW):
        return name.removeprefix(RAW).encode("latin-1")
    return (name if is_utf8 else encode_utf7(name)).encode()


def rebased(name: str, old: str, new: str) -> str:
    """The name of a mailbox below `old` after `old` was renamed to `new`."""
    wire = wire_of(new) + wire_of(name)[len(wire_of(old)) :]
    return known_as(wire.decode("utf-8", "surrogateescape"))


def is_below(name: str, above: str, delimiter: str) -> bool:
    return wire_of(name).startswith(wire_of(above) + delimiter.encode())


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
