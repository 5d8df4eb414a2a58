"""States and cursors: positions that clients store for Postgate, signed so that they cannot be forged or exchanged.

A state is `seq-time.signature`, a list cursor `payload.signature`. Both are bound to their account, which is not in
the text. They use only `A–Z a–z 0–9 _ - .`. The time (of event `seq`, ms in hexadecimal) distinguishes the log of a
database from that of its restored backup. The state of an unfinished difference is `seq-time-base.signature`, see
StatePosition. A state can be used as a log position everywhere: `since`, `after`, `Last-Event-ID`, ETag.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass
from typing import Any

import orjson

from app.errors import InvalidRequest, StateExpired
from app.mail.types import AccountId, Position
from app.security.vault import Vault

_SIGNATURE_BYTES = 12
_EXPIRED = "This cursor has expired: begin the list again"
STATE_LIMIT_CHARS = 96
CURSOR_LIMIT_CHARS = 4096
EVERY_ACCOUNT = AccountId("")
_STATE = re.compile(r"(?a:(\d{1,19})-([0-9a-f]{1,15})(?:-(\d{1,19}))?)")


LOST = Position(2**62, 0)
"""A position beyond any log: it has expired wherever it is used."""


@dataclass(frozen=True, slots=True)
class StatePosition:
    """The start of a difference.

    `base_seq` is the number of the event from which the difference was first requested: changes after it may not have
    been reported yet, although they come before `position`. Both are the same unless a part of a difference was
    returned.
    """

    position: Position
    base_seq: int


class States:
    """Issues and reads states and cursors."""

    def __init__(self, vault: Vault, epoch: str = "") -> None:
        """`epoch` is the installation's: cursors of an earlier epoch have expired."""
        self._keys = vault.signing_keys("states")
        self._epoch = epoch

    def issue(self, account_id: AccountId, position: Position, base_seq: int | None = None) -> str:
        """Return the state of a position in an account's log.

        `base_seq`: as in StatePosition, if there are more changes.
        """
        text = f"{position.seq}-{position.at_ms:x}" + ("" if base_seq is None else f"-{base_seq}")
        return f"{text}.{self._sign(self._keys[0], 'state', account_id, text)}"

    def read(self, text: str, account_id: AccountId, parameter: str = "since") -> Position:
        """Return the position of a state. Raises InvalidRequest if it was not issued for this account."""
        return self.since(text, account_id, parameter).position

    def since(self, text: str, account_id: AccountId, parameter: str = "since") -> StatePosition:
        """Return the position and base of a state. Raises as `read`."""
        place, _, signature = text[:STATE_LIMIT_CHARS].partition(".")
        if not self._is_signed("state", account_id, place, signature):
            raise InvalidRequest.parameter(parameter, "Invalid state: it was not issued for this account")
        match = _STATE.fullmatch(place)
        if match is None:  # an earlier version of Postgate issued it
            return StatePosition(LOST, LOST.seq)
        seq = int(match[1])
        return StatePosition(Position(seq, int(match[2], 16)), seq if match[3] is None else int(match[3]))

    def seal_cursor(self, list_name: str, account_id: AccountId, place: object) -> str:
        """Return a cursor of a list that carries `place` (JSON values without secrets: the caller can decode it).

        `account_id` is EVERY_ACCOUNT if the list spans accounts.
        """
        payload = _encode(orjson.dumps([self._epoch, place]))
        return f"{payload}.{self._sign(self._keys[0], f'cursor {list_name}', account_id, payload)}"

    def open_cursor(self, list_name: str, text: str, account_id: AccountId, parameter: str = "cursor") -> Any:
        """Return the `place` of a cursor. Raises InvalidRequest if it was not issued for this list and account.

        Raises StateExpired if it was issued before a restore, or by a version with another format.
        """
        payload, _, signature = text[:CURSOR_LIMIT_CHARS].partition(".")
        if self._is_signed("cursor", account_id, payload, signature):
            raise StateExpired(_EXPIRED)
        if not self._is_signed(f"cursor {list_name}", account_id, payload, signature):
            raise InvalidRequest.parameter(parameter, "Invalid cursor: it was not issued for this list")
        try:
            sealed = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        except (binascii.Error, orjson.JSONDecodeError):
            raise InvalidRequest.parameter(parameter, "Invalid cursor: it was not issued for this list") from None
        if not isinstance(sealed, list) or len(sealed) != 2 or sealed[0] != self._epoch:
            raise StateExpired(_EXPIRED)
        return sealed[1]

    def _is_signed(self, kind: str, account_id: AccountId, text: str, signature: str) -> bool:
        given = signature.encode("utf-8", "replace")
        signatures = [self._sign(key, kind, account_id, text).encode() for key in self._keys]
        return any(hmac.compare_digest(given, piece) for piece in signatures)

    @staticmethod
    def _sign(key: bytes, kind: str, account_id: AccountId, text: str) -> str:
        message = f"{kind} {account_id} {text}".encode("utf-8", "replace")
        return _encode(hmac.digest(key, message, "sha256")[:_SIGNATURE_BYTES])


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
