"""Encoding of strings, ENVELOPE, BODY and BODYSTRUCTURE for the server's responses (RFC 9051 §7.5.2).

The inverse of `structure`. Any bytes are safe: a string that cannot be quoted becomes a literal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from app.mail.types import BodyPart, Envelope, EnvelopeAddress

_QUOTABLE = re.compile(rb"[\x20-\x7e]*\Z")
_TO_ESCAPE = re.compile(rb'([\\"])')
_PLAIN = re.compile(r"[ !#-\[\]-~]*\Z", re.ASCII)
_REPLACEMENT = "\ufffd".encode()
_NO_PART = BodyPart("1", "text/plain", (("charset", "us-ascii"),), lines=0)
"""The part that is reported for an empty multipart, because the grammar requires one. Dovecot does the same."""


def string(value: str | bytes) -> bytes:
    """Encode a string: quoted if it is printable ASCII, else as a literal.

    Text is sent as UTF-8, with surrogate-escaped bytes restored. NUL, which IMAP strings cannot contain, becomes
    U+FFFD.
    """
    if isinstance(value, str):
        if _PLAIN.match(value):
            return b'"%b"' % value.encode("ascii")
        value = value.encode("utf-8", "surrogateescape")
    if _QUOTABLE.match(value):
        return b'"%b"' % _TO_ESCAPE.sub(rb"\\\1", value)
    value = value.replace(b"\x00", _REPLACEMENT)
    return b"{%d}\r\n%b" % (len(value), value)


def nstring(value: str | bytes | None) -> bytes:
    """Encode a string or NIL."""
    return b"NIL" if value is None else string(value)


def literal(value: bytes) -> bytes:
    """Encode bytes as a literal, unchanged."""
    return b"{%d}\r\n%b" % (len(value), value)


def envelope(value: Envelope) -> bytes:
    """Encode an ENVELOPE. `sender` and `reply_to` get no default here: the header parser has set them."""
    fields = [
        nstring(value.date),
        nstring(value.subject),
        *map(_addresses, (value.from_, value.sender, value.reply_to, value.to, value.cc, value.bcc)),
        nstring(value.in_reply_to),
        nstring(value.message_id),
    ]
    return b"(%b)" % b" ".join(fields)


def _addresses(addresses: Iterable[EnvelopeAddress]) -> bytes:
    written = [
        b"(%b %b %b %b)"
        % (nstring(address.name), nstring(address.route), nstring(address.mailbox), nstring(address.host))
        for address in addresses
    ]
    return b"(%b)" % b"".join(written) if written else b"NIL"


def structure(part: BodyPart, *, is_extended: bool = True) -> bytes:
    """Encode a BODYSTRUCTURE, or a BODY unless `is_extended`.

    Recursive: the MIME parser bounds the tree's depth.
    """
    fields = _multipart(part, is_extended) if part.is_multipart else _single(part, is_extended)
    return b"(%b)" % b" ".join(fields)


def _multipart(part: BodyPart, is_extended: bool) -> list[bytes]:
    children = b"".join([structure(child, is_extended=is_extended) for child in part.children or (_NO_PART,)])
    fields = [children, string(part.media_type.partition("/")[2])]
    if is_extended:
        fields += [_pairs(part.params), *_shared_extension(part)]
    return fields


def _single(part: BodyPart, is_extended: bool) -> list[bytes]:
    main, _, sub = part.media_type.partition("/")
    fields = [
        string(main),
        string(sub),
        _pairs(part.params),
        nstring(part.content_id),
        nstring(part.description),
        string(part.encoding),
        b"%d" % part.size_bytes,
    ]
    if part.media_type in ("message/rfc822", "message/global") and part.envelope is not None and part.children:
        fields += [envelope(part.envelope), structure(part.children[0], is_extended=is_extended)]
        fields.append(b"%d" % (part.lines or 0))
    elif main == "text":
        fields.append(b"%d" % (part.lines or 0))
    if is_extended:
        fields += [nstring(part.md5), *_shared_extension(part)]
    return fields


def _shared_extension(part: BodyPart) -> list[bytes]:
    disposition = b"NIL"
    if part.disposition is not None:
        disposition = b"(%b %b)" % (string(part.disposition), _pairs(part.disposition_params))
    return [disposition, _languages(part.language), nstring(part.location)]


def _languages(tags: tuple[str, ...]) -> bytes:
    if len(tags) < 2:
        return nstring(tags[0] if tags else None)
    return b"(%b)" % b" ".join(map(string, tags))


def _pairs(pairs: Iterable[tuple[str, str]]) -> bytes:
    written = [b"%b %b" % (string(name), string(value)) for name, value in pairs]
    return b"(%b)" % b" ".join(written) if written else b"NIL"
