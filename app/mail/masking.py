"""Keeps secrets out of what servers say: a server may repeat a password or token that it was sent, in any encoding."""

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
"""A secret that is longer is also found by its beginning: a server may cut it off."""
_SHORT_CHARS = 4
"""A secret below this length is masked as a whole word alone: it may be a part of any word."""
MATCHERS_LIMIT = 64
"""Accounts whose secrets can be looked for without preparing that again."""
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=")


class Masker:
    """Masks secrets in every encoding that they are sent in: plain, quoted, as JSON, HTML, URL, UTF-7, hex and base64.

    Base64 is recognised whatever stands around the secret, as in SASL PLAIN, XOAUTH2 and OAUTHBEARER.
    """

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(filter(None, secrets))

    def add(self, secret: str) -> None:
        """Mask this secret too."""
        if secret:
            self._secrets |= {secret}

    def add_response(self, response: bytes) -> None:
        """Mask a SASL response that holds a secret, and the proof in it (RFC 5802 §3); not a user name alone."""
        text = response.decode("utf-8", "replace")
        if len(text) > 1 and any(mark in text for mark in ("\0", "\1", ",p=")):
            self.add(text)
            self.add(text.rpartition(",p=")[2])

    def mask(self, text: str) -> str:
        """The text with each secret replaced by `…`."""
        if not self._secrets:
            return text
        pattern, blobs = _forms_of(self._secrets)
        shown, end = [], 0
        for match in pattern.finditer(text):
            if match.start() < end and match.end() <= end:
                continue
            begin, stop = _extended(blobs, text, match.start(), match.end())
            shown.append(text[end : max(begin, end)])
            end = max(stop, end)
        return MASK.join([*shown, text[end:]]) if shown else text

    def mask_bytes(self, text: bytes) -> bytes:
        if not self._secrets:
            return text
        return self.mask(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


@lru_cache(maxsize=MATCHERS_LIMIT)
def _forms_of(secrets: frozenset[str]) -> tuple[re.Pattern[str], frozenset[str]]:
    """What finds these secrets, and their forms in base64. Made when it is needed: it takes some 100 KB."""
    forms: set[str] = set()
    blobs: set[str] = set()
    for secret in secrets:
        octets = secret.encode("utf-8", "surrogatepass")
        forms |= {secret, *_escaped(secret), octets.hex()}
        blobs |= _base64_forms(octets)
    patterns = [_pattern_of(form) for form in sorted(forms | blobs, key=len, reverse=True)]
    return re.compile("|".join(patterns), re.IGNORECASE), frozenset(blobs)


def _extended(blobs: frozenset[str], text: str, begin: int, end: int) -> tuple[int, int]:
    """With the rest of the base64 text that a secret was found in."""
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
    """The parts of base64 texts that are the same whatever stands before and after the secret."""
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
