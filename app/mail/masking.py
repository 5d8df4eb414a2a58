"""Masks secrets in server responses: a server may repeat a password or token, in any encoding."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, quote_plus

MASK = "…"
_PREFIX_CHARS = 12
"""A longer secret is also found by its first characters: a server may truncate it."""
_SHORT_CHARS = 4
"""A shorter secret is masked only as a whole word: it may be part of any word."""
MATCHERS_LIMIT = 64
"""Accounts whose prepared patterns stay cached."""
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")


class Masker:
    """Masks secrets in every encoding in which they are sent: plain, quoted, JSON, HTML, URL, UTF-7, hex and base64.

    Base64 is recognised whatever surrounds the secret, as in SASL PLAIN, XOAUTH2 and OAUTHBEARER.
    """

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(filter(None, secrets))

    def add(self, secret: str) -> None:
        """Also mask this secret."""
        if secret:
            self._secrets |= {secret}

    def add_response(self, response: bytes) -> None:
        """Mask a SASL response that holds a secret, and the proof in it (RFC 5802 §3), but not a user name alone."""
        text = response.decode("utf-8", "replace")
        if len(text) > 1 and any(mark in text for mark in ("\0", "\1", ",p=")):
            self.add(text)
            self.add(text.rpartition(",p=")[2])

    def mask(self, text: str) -> str:
        """Return the text with each secret replaced by `…`."""
        if not self._secrets:
            return text
        pattern, blobs = _forms_of(self._secrets)
        masked, end = [], 0
        for match in pattern.finditer(text):
            if match.start() < end and match.end() <= end:
                continue
            begin, stop = _extended(blobs, text, match.start(), match.end())
            masked.append(text[end : max(begin, end)])
            end = max(stop, end)
        return MASK.join([*masked, text[end:]]) if masked else text

    def mask_bytes(self, text: bytes) -> bytes:
        if not self._secrets:
            return text
        return self.mask(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


@lru_cache(maxsize=MATCHERS_LIMIT)
def _forms_of(secrets: frozenset[str]) -> tuple[re.Pattern[str], frozenset[str]]:
    """Return the pattern of these secrets, and their base64 forms. Made on demand: it takes about 100 KB."""
    forms: set[str] = set()
    blobs: set[str] = set()
    for secret in secrets:
        octets = secret.encode("utf-8", "surrogatepass")
        forms |= {secret, *_escaped(secret), octets.hex()}
        blobs |= _base64_forms(octets)
    patterns = [_pattern_of(form) for form in sorted(forms | blobs, key=len, reverse=True)]
    return re.compile("|".join(patterns), re.IGNORECASE), frozenset(blobs)


def _extended(blobs: frozenset[str], text: str, begin: int, end: int) -> tuple[int, int]:
    """Extend the match to the rest of the base64 text around it."""
    if not any(blob.casefold() in text[begin:end].casefold() for blob in blobs):
        return begin, end
    while begin > 0 and text[begin - 1] in _BASE64:
        begin -= 1
    while end < len(text) and text[end] in _BASE64:
        end += 1
    return begin, end


def _escaped(secret: str) -> set[str]:
    quoted = secret.replace("\\", "\\\\").replace('"', '\\"')
    utf_7 = secret.encode("utf-7", "replace").decode("ascii", "replace")
    url = secret.encode("utf-8", "replace")
    return {
        quoted,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
        quote(url, safe=""),
        quote(url),
        quote_plus(url),
        utf_7,
        utf_7.replace("+", "&").replace("/", ","),
    }


def _base64_forms(octets: bytes) -> set[str]:
    """Return the parts of base64 texts that do not depend on what surrounds the secret."""
    forms = {base64.b64encode(octets).decode()}
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + octets).decode().rstrip("=")
        core = encoded[-(-offset * 8 // 6) : (offset + len(octets)) * 8 // 6]
        if len(core) >= _SHORT_CHARS:
            forms |= {core, core.replace("+", "-").replace("/", "_")}
    return forms


def _pattern_of(form: str) -> str:
    whole = re.escape(form)
    if len(form) < _SHORT_CHARS:
        return rf"(?<!\w){whole}(?!\w)"
    if len(form) > _PREFIX_CHARS:
        return rf"{whole}|{re.escape(form[:_PREFIX_CHARS])}[^\s\"]*+"
    return whole
