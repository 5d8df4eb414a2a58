"""IDLE (RFC 2177)."""

from __future__ import annotations

from dataclasses import dataclass

from app.wire.imap.request import BareCommand, Readers


@dataclass(frozen=True, slots=True)
class Idle(BareCommand):
    """IDLE."""


READERS: Readers = {"IDLE": Idle()}
