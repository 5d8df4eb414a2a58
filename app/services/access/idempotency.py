"""Idempotent requests: the first answer is stored, and returned again when the request is repeated.

A request with a key is first committed as running, under a claim that its process renews. If the effect of the
request and its answer are both rows of Postgate's database, they are written in one transaction (`Attempt.record`).
If the effect is on a mail server, the facts by which a later attempt can find it are committed first
(`Attempt.note`), and the later attempt reads them (`Attempt.facts`).

A request with a key runs to its end even when its caller is cancelled. When its process dies, the next attempt takes
over the request once the claim has expired, and later writes of the dead process are refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import orjson

from app.cluster.claims import ClaimLost, Renewal, hold
from app.db import idempotency as rows
from app.db.idempotency import Claim
from app.db.session import Database, Transaction
from app.errors import GatewayError, IdempotencyMismatch, IdempotencyRunning, InvalidRequest, ServerProtocolError
from app.mail.identifiers import now_ms
from app.mail.storable import json_bytes
from app.security.vault import Vault
from app.telemetry import get_logger

DRAIN_SECONDS = 3.0
"""How long running requests may take to end when the process stops."""
KEY_LIMIT_CHARS = 255
_CONTEXT = "idempotency"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was sent: its JSON body and its headers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Attempt:
    """One attempt at a request. Without a key nothing is stored."""

    service: Idempotency
    claim: Claim | None = None
    is_secret: bool = False
    seed: str = field(default_factory=lambda: secrets.token_hex(16))
    """A hex seed, the same in each attempt and derived from a secret: for ids that all attempts must share."""
    begun_at_ms: int = field(default_factory=now_ms)
    """When the first attempt began."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """The facts noted by this attempt or an earlier one."""
    is_recorded: bool = False

    @property
    def is_repeated(self) -> bool:
        """Whether an earlier attempt was interrupted, so that its effect on a mail server must be looked for first."""
        return self.claim is not None and self.claim.number > 1

    async def note(self, facts: Mapping[str, object]) -> None:
        """Commit the facts that a later attempt needs, before anything is changed on a mail server.

        Raises IdempotencyRunning if another process has taken over the request.
        """
        if self.claim is not None:
            await self.service.database.write(lambda transaction: self.note_in(transaction, facts))

    async def note_in(self, transaction: Transaction, facts: Mapping[str, object]) -> None:
        """Like `note`, within the caller's transaction."""
        if (claim := self.claim) is None:
            return
        noted = {**self.facts, **facts}
        if not await rows.set_facts(transaction, claim, json_bytes(noted).decode()):
            raise IdempotencyRunning
        transaction.after_commit(partial(self._set_facts, noted))

    def _set_facts(self, facts: Mapping[str, object]) -> None:
        self.facts = facts

    async def record(self, transaction: Transaction, answer: Answer) -> None:
        """Store the answer in the transaction of the change.

        Raises IdempotencyRunning as `note`; nothing is written then.
        """
        if self.claim is None:
            return
        stored = self.service.sealed(answer, is_secret=self.is_secret)
        if not await rows.set_answer(transaction, self.claim, answer.status, stored, is_encrypted=self.is_secret):
            raise IdempotencyRunning
        transaction.after_commit(self._set_recorded)

    def _set_recorded(self) -> None:
        self.is_recorded = True


Work = Callable[[Attempt], Awaitable[Answer]]


class Idempotency:
    """The stored answers.

    `is_alone`: no other process uses this database, so a request not running here is not running.
    """

    def __init__(self, database: Database, vault: Vault, *, is_alone: bool = False) -> None:
        self.database = database
        self._vault = vault
        self._keys = vault.signing_keys("idempotency")
        self._is_alone = is_alone
        self._running: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[Answer]] = set()

    async def begin(self, scope: str, key: str, payload_hash: str, *, is_secret: bool = False) -> Answer | Attempt:
        """Return the stored answer, or a new attempt to pass to `complete`.

        Raises IdempotencyRunning while another attempt runs, IdempotencyMismatch for a different payload.
        """
        if (scope, key) in self._running:
            raise IdempotencyRunning
        self._running.add((scope, key))
        begun: Answer | Attempt | None = None
        try:
            begun = await self.database.write(
                lambda transaction: self._begin(transaction, scope, key, payload_hash, is_secret=is_secret)
            )
        finally:
            if not isinstance(begun, Attempt):
                self._running.discard((scope, key))
        return begun

    async def _begin(
        self, transaction: Transaction, scope: str, key: str, payload_hash: str, *, is_secret: bool
    ) -> Answer | Attempt:
        marks = self._marks(payload_hash)
        taken = await rows.take(transaction, scope, key, marks[0], is_alone=self._is_alone)
        if taken is not None:
            mark, at_ms = taken.payload_hash, taken.created_at_ms
            _check_payload(mark, marks)
            seed = hash_payload(mark.encode(), scope.encode(), key.encode(), str(at_ms).encode())[:32]
            noted = orjson.loads(taken.facts) if taken.facts else {}
            return Attempt(self, Claim(scope, key, taken.claim), is_secret, seed, at_ms, noted)
        stored = await rows.find(transaction, scope, key)
        if stored is None:
            raise IdempotencyRunning
        _check_payload(stored.payload_hash, marks)
        if stored.status is None or stored.answer is None:
            raise IdempotencyRunning
        plain = self._vault.open(stored.answer, _CONTEXT) if stored.is_encrypted else stored.answer
        headers, body = orjson.loads(plain)
        return Answer(stored.status, body.encode(), headers)

    async def complete(self, attempt: Attempt, work: Work) -> Answer:
        """Do the work and store its answer. With a key, the work goes on even if the caller is cancelled.

        The key of a refused request is released. If a mail server's answer was lost, the next attempt is a repeated
        one.
        """
        if attempt.claim is None:
            return await work(attempt)
        task = asyncio.create_task(self._complete(attempt, attempt.claim, work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as read: the caller may have left

    async def close(self) -> None:
        """Wait for running requests, for at most DRAIN_SECONDS."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _complete(self, attempt: Attempt, claim: Claim, work: Work) -> Answer:
        has_noted = bool(attempt.facts)
        try:
            answer = await self._under_claim(claim, work(attempt))
            await self.finish(attempt, answer)
        except GatewayError as error:
            await self._give_up(claim, is_doubtful=has_noted or (bool(attempt.facts) and _is_lost(error)))
            raise
        finally:
            self._running.discard((claim.scope, claim.key))
        return answer

    async def _under_claim(self, claim: Claim, work: Awaitable[Answer]) -> Answer:
        """Renew the claim while the work runs, and stop the work if the claim is lost."""

        async def renew() -> bool:
            return await self.database.write(lambda transaction: rows.renew(transaction, claim), is_durable=False)

        try:
            return await hold(work, Renewal(renew, is_alone=self._is_alone))
        except ClaimLost:
            raise IdempotencyRunning from None

    async def finish(self, attempt: Attempt, answer: Answer) -> None:
        """Store an answer, unless the work has stored it in a transaction."""
        if attempt.claim is not None and not attempt.is_recorded:
            await self.database.write(lambda transaction: attempt.record(transaction, answer))

    async def _give_up(self, claim: Claim, *, is_doubtful: bool) -> None:
        """Release the key. Noted facts are kept for the next attempt if the result is in doubt."""
        end = rows.release if is_doubtful else rows.remove
        try:
            await self.database.write(lambda transaction: end(transaction, claim))
        except GatewayError as error:  # the claim expires by itself
            log.warning("claim_not_released", error=error.code)

    def _marks(self, payload_hash: str) -> list[str]:
        """Return a hash of the payload for each signing key.

        An unkeyed hash would allow guessing passwords in the payload.
        """
        return [hmac.digest(key, payload_hash.encode(), "sha256").hex() for key in self._keys]

    def sealed(self, answer: Answer, *, is_secret: bool) -> bytes:
        """Return an answer as it is stored."""
        plain = orjson.dumps([dict(answer.headers), answer.body.decode()])
        return self._vault.seal(plain, _CONTEXT) if is_secret else plain


def _check_payload(mark: str, marks: list[str]) -> None:
    if mark not in marks:
        raise IdempotencyMismatch.parameter("Idempotency-Key", "This key was used with a different payload")


def _is_lost(error: GatewayError) -> bool:
    """Whether the mail server may have done the work despite the error."""
    return error.is_retryable or isinstance(error, ServerProtocolError)


def parse_key(header: str) -> str:
    """Parse an Idempotency-Key, bare or quoted: 1–255 visible ASCII characters. Raises InvalidRequest."""
    text = header.strip()
    key = text[1:-1] if len(text) >= 2 and text[0] == text[-1] == '"' else text
    if not 1 <= len(key) <= KEY_LIMIT_CHARS or not all("!" <= char <= "~" for char in key):
        detail = f"A key has 1 to {KEY_LIMIT_CHARS} visible ASCII characters"
        raise InvalidRequest.parameter("Idempotency-Key", detail)
    return key


def hash_payload(*pieces: bytes) -> str:
    """SHA-256 over the pieces, each with its length."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "big"))
        digest.update(piece)
    return digest.hexdigest()
