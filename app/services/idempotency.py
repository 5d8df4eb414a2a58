"""Requests that must not be done twice: the first answer is kept and given again.

A request with a key is first committed as running. What it does and its answer are one transaction where both live in
our database (`Attempt.record` within it); where the effect is on a mail server, what a later attempt must look for is
noted first (`Attempt.note`), and a repeated attempt is told so (`Attempt.is_repeated`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from app.db import idempotency as rows
from app.db.session import Database, Row, Transaction
from app.errors import IdempotencyMismatch, IdempotencyRunning, InvalidRequest
from app.mail.identifiers import now_ms
from app.mail.storable import json_bytes
from app.security.vault import Vault

RUNNING_LIMIT_MS = 120_000
"""A request that runs longer than this on another node has died with it."""
KEY_LIMIT_CHARS = 255
_CONTEXT = "idempotency"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was sent: JSON body, and the headers that belong to it."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Attempt:
    """One go at a request. Without a key it keeps nothing."""

    service: Idempotency
    scope: str = ""
    key: str | None = None
    is_secret: bool = False
    is_repeated: bool = False
    """An earlier attempt broke off: what it did at an origin must be looked for first."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """What the earlier attempt noted."""
    is_recorded: bool = False

    async def note(self, facts: Mapping[str, object]) -> None:
        """Commit what a later attempt must look for, before anything is done at an origin."""
        if (key := self.key) is None:
            return

        async def work(transaction: Transaction) -> None:
            await rows.set_facts(transaction, self.scope, key, json_bytes(facts).decode())

        await self.service.database.write(work)

    async def record(self, transaction: Transaction, answer: Answer) -> None:
        """Keep the answer in the transaction of what it tells."""
        if self.key is None:
            return
        stored = self.service.sealed(answer, is_secret=self.is_secret)
        await rows.set_answer(transaction, self.scope, self.key, answer.status, stored, is_encrypted=self.is_secret)
        self.is_recorded = True


class Idempotency:
    """The kept answers. `is_alone`: no other process works on this database, so what does not run here runs nowhere."""

    def __init__(self, database: Database, vault: Vault, *, is_alone: bool = False) -> None:
        self.database = database
        self._vault = vault
        self._keys = vault.signing_keys("idempotency")
        self._is_alone = is_alone
        self._running: set[tuple[str, str]] = set()

    async def begin(self, scope: str, key: str, payload_hash: str, *, is_secret: bool = False) -> Answer | Attempt:
        """The kept answer, or a new attempt, which `end` must follow.

        IdempotencyRunning while the first one runs, IdempotencyMismatch for another payload.
        """
        if (scope, key) in self._running:
            raise IdempotencyRunning
        self._running.add((scope, key))
        row = None
        try:
            row = await self.database.write(lambda transaction: self._claim(transaction, scope, key, payload_hash))
        finally:
            if row is None or row[1] is not None:
                self._running.discard((scope, key))
        if row[1] is not None:
            return self._opened(row)
        facts = orjson.loads(row[4]) if row[4] else {}
        return Attempt(self, scope, key, is_secret, is_repeated=row[5] > 0, facts=facts)

    async def _claim(self, transaction: Transaction, scope: str, key: str, payload_hash: str) -> Row:
        """The row of this request: one that is answered, or one that is ours to run (0 as its age when it is new)."""
        now = now_ms()
        mark = self._marks(payload_hash)[0]
        if await rows.add_running(transaction, scope, key, mark, now):
            return (mark, None, None, False, "", 0)
        row = await rows.find(transaction, scope, key)
        if row is None:
            raise IdempotencyRunning
        if row[0] not in self._marks(payload_hash):
            raise IdempotencyMismatch.parameter("Idempotency-Key", "This key was used with another payload")
        if row[1] is None:
            if not self._is_alone and row[5] >= now - RUNNING_LIMIT_MS:
                raise IdempotencyRunning
            await rows.renew(transaction, scope, key, now)
        return row

    async def finish(self, attempt: Attempt, answer: Answer) -> None:
        """Keep an answer, unless a transaction of the work has."""
        if attempt.key is None or attempt.is_recorded:
            return

        async def work(transaction: Transaction) -> None:
            await attempt.record(transaction, answer)

        await self.database.write(work)

    async def forget(self, attempt: Attempt) -> None:
        """The request was refused and did nothing: the key is free again."""
        if (key := attempt.key) is None:
            return

        async def work(transaction: Transaction) -> None:
            await rows.remove(transaction, attempt.scope, key)

        await self.database.write(work)

    def end(self, attempt: Attempt) -> None:
        """This attempt runs no more, whatever came of it."""
        if attempt.key is not None:
            self._running.discard((attempt.scope, attempt.key))

    def _marks(self, payload_hash: str) -> list[str]:
        """What tells a payload from another, under each key: a bare hash would let passwords in it be guessed."""
        return [hmac.digest(key, payload_hash.encode(), "sha256").hex() for key in self._keys]

    def sealed(self, answer: Answer, *, is_secret: bool) -> bytes:
        """An answer as it is stored."""
        plain = orjson.dumps([dict(answer.headers), answer.body.decode()])
        return self._vault.seal(plain, _CONTEXT) if is_secret else plain

    def _opened(self, row: Row) -> Answer:
        stored = bytes(row[2])
        headers, body = orjson.loads(self._vault.open(stored, _CONTEXT) if row[3] else stored)
        return Answer(row[1], body.encode(), headers)


def parse_key(header: str) -> str:
    """An Idempotency-Key, bare or quoted: 1–255 visible ASCII characters. InvalidRequest otherwise."""
    text = header.strip()
    key = text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
    if not 1 <= len(key) <= KEY_LIMIT_CHARS or not all("!" <= one <= "~" for one in key):
        detail = f"It is 1 to {KEY_LIMIT_CHARS} visible ASCII characters"
        raise InvalidRequest.parameter("Idempotency-Key", detail)
    return key


def hash_payload(*pieces: bytes) -> str:
    """SHA-256 over the pieces, each with its length."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "big"))
        digest.update(piece)
    return digest.hexdigest()
