"""States and cursors: positions that clients carry for us, signed so that no one makes up or trades them.

A state is `seq.signature`, a list cursor `payload.signature`; both bind their account, which is not in the text. They
use `A–Z a–z 0–9 _ - .` alone. A state serves as a log position everywhere: `since`, `after`, `Last-Event-ID`, ETag.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Any

import orjson

from app.errors import InvalidRequest
from app.mail.types import AccountId
from app.security.vault import Vault

_SIGNATURE_BYTES = 12
STATE_LIMIT_CHARS = 64
CURSOR_LIMIT_CHARS = 4096
_SEQ_DIGITS = 19


class States:
    """Issues and reads states and cursors."""

    def __init__(self, vault: Vault) -> None:
        self._keys = vault.signing_keys("states")

    def issue(self, account_id: AccountId, seq: int) -> str:
        """The state after event `seq` of an account."""
        return f"{seq}.{self._sign(self._keys[0], 'state', account_id, str(seq))}"

    def read(self, text: str, account_id: AccountId, parameter: str = "since") -> int:
        """The event number of a state. InvalidRequest for what we did not issue for this account."""
        number, _, signature = text[:STATE_LIMIT_CHARS].partition(".")
        is_number = number.isascii() and number.isdigit() and len(number) <= _SEQ_DIGITS
        if not is_number or not self._is_signed("state", account_id, number, signature):
            raise InvalidRequest.parameter(parameter, "This is not a state of this account")
        return int(number)

    def seal_cursor(self, account_id: AccountId, place: object) -> str:
        """A list cursor that carries `place` (JSON values, no secret: the caller can decode it)."""
        payload = _encode(orjson.dumps(place))
        return f"{payload}.{self._sign(self._keys[0], 'cursor', account_id, payload)}"

    def open_cursor(self, text: str, account_id: AccountId, parameter: str = "cursor") -> Any:
        """What was sealed. InvalidRequest for what we did not issue for this account."""
        payload, _, signature = text[:CURSOR_LIMIT_CHARS].partition(".")
        if not self._is_signed("cursor", account_id, payload, signature):
            raise InvalidRequest.parameter(parameter, "This is not a cursor of this list")
        try:
            return orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (binascii.Error, orjson.JSONDecodeError):
            raise InvalidRequest.parameter(parameter, "This is not a cursor of this list") from None

    def _is_signed(self, kind: str, account_id: AccountId, text: str, signature: str) -> bool:
        given = signature.encode("utf-8", "replace")
        signatures = [self._sign(key, kind, account_id, text).encode() for key in self._keys]
        return any(hmac.compare_digest(given, one) for one in signatures)

    @staticmethod
    def _sign(key: bytes, kind: str, account_id: AccountId, text: str) -> str:
        message = f"{kind} {account_id} {text}".encode("utf-8", "replace")
        return _encode(hmac.digest(key, message, "sha256")[:_SIGNATURE_BYTES])


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
