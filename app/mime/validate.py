"""Validation of header and envelope values from API clients. Errors point to the invalid field."""

from __future__ import annotations

import ipaddress
import re

from app.errors import InvalidRequest

MAX_ADDRESS_CHARS = 320
MAX_LOCAL_BYTES = 64
MAX_DOMAIN_CHARS = 255
MAX_HEADER_CHARS = 10_000

_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a1-\U0010ffff]"
_LOCAL = re.compile(rf'{_ATEXT}+(?:\.{_ATEXT}+)*|"[A-Za-z0-9!#$%&\'*+/=?^_`{{|}}~.\-]+"')
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")
_MESSAGE_ID = re.compile(r"<[\x21-\x3b\x3d\x3f-\x7e]{1,900}>")

_ADDRESSING = ("from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date")
_THREADING = ("message-id", "in-reply-to", "references", "mime-version")
_TRACE = ("return-path", "received", "delivered-to", "dkim-signature", "authentication-results")
_ARC = ("arc-seal", "arc-message-signature", "arc-authentication-results")
_OWN_FIELDS = frozenset((*_ADDRESSING, *_THREADING, *_TRACE, *_ARC))
"""Fields that Postgate or servers on the way write, never the client."""
_OWN_PREFIXES = ("content-", "resent-")


def header_text(text: str, pointer: str) -> str:
    """Return `text` if a header may contain it: no control characters but tabs, and no lone surrogates.

    Raises InvalidRequest.
    """
    if len(text) > MAX_HEADER_CHARS:
        raise InvalidRequest.at(pointer, f"Must have at most {MAX_HEADER_CHARS} characters")
    if not text.isprintable() and _UNSAFE.search(text):
        raise InvalidRequest.at(pointer, "Must not contain line ends or other control characters")
    return text


def validate_address(address: str, pointer: str, *, allow_utf8: bool = False) -> str:
    """Return an unambiguous addr-spec, with its domain in A-labels. Raises InvalidRequest.

    Refuses several @, spaces, comments, brackets, control characters, quoted local parts with special characters, and
    non-ASCII local parts unless `allow_utf8` (RFC 6531).
    """
    header_text(address, pointer)
    local, at, domain = address.partition("@")
    if not at or "@" in domain or len(address) > MAX_ADDRESS_CHARS:
        raise InvalidRequest.at(pointer, "Invalid e-mail address: it must have exactly one @")
    if not _LOCAL.fullmatch(local) or len(local.encode()) > MAX_LOCAL_BYTES:
        raise InvalidRequest.at(pointer, "Invalid e-mail address: the part before the @ is not valid")
    if not local.isascii() and not allow_utf8:
        raise InvalidRequest.at(pointer, "Non-ASCII characters before the @ need SMTPUTF8, which is not supported")
    return f"{local}@{_domain(domain, pointer)}"


def is_address(text: str) -> bool:
    """Whether `text` is a valid address, non-ASCII local parts (SMTPUTF8) included."""
    try:
        validate_address(text, "", allow_utf8=True)
    except InvalidRequest:
        return False
    return True


def validate_header(name: str, value: str, pointer: str) -> None:
    """Check a client's own header: its name is valid and not reserved, its value is safe. Raises InvalidRequest."""
    lower = name.lower()
    if not _FIELD_NAME.fullmatch(name):
        raise InvalidRequest.at(f"{pointer}/name", "Invalid header field name")
    if lower in _OWN_FIELDS or lower.startswith(_OWN_PREFIXES):
        raise InvalidRequest.at(f"{pointer}/name", f"The header {name} cannot be set")
    header_text(value, f"{pointer}/value")


def validate_message_id(message_id: str, pointer: str) -> str:
    """Return a Message-ID in angle brackets, in visible ASCII. Raises InvalidRequest."""
    if not _MESSAGE_ID.fullmatch(message_id):
        raise InvalidRequest.at(pointer, "Must be a Message-ID in angle brackets")
    return message_id


def _domain(domain: str, pointer: str) -> str:
    if domain.startswith("[") and domain.endswith("]"):
        return _literal(domain, pointer)
    ascii_domain = domain if domain.isascii() else _a_labels(domain, pointer)
    labels = ascii_domain.split(".")
    if len(ascii_domain) > MAX_DOMAIN_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidRequest.at(pointer, "Invalid e-mail address: the domain is not valid")
    return ascii_domain


def _literal(domain: str, pointer: str) -> str:
    inner = domain[1:-1]
    try:
        ipaddress.ip_address(inner[5:] if inner[:5].lower() == "ipv6:" else inner)
    except ValueError as error:
        raise InvalidRequest.at(pointer, "Invalid e-mail address: the domain is not valid") from error
    return domain


def _a_labels(domain: str, pointer: str) -> str:
    import idna  # imported late: large tables that few domains need

    try:
        return idna.encode(domain[:MAX_DOMAIN_CHARS], uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise InvalidRequest.at(pointer, "Invalid e-mail address: the domain is not valid") from error
