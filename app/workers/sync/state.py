"""The connection state of an account: columns and events, written together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from app.db import directory, syncing
from app.db.session import Transaction
from app.errors import GatewayError, RateLimited
from app.mail.backend import SyncMode
from app.mail.delta import Delta, Note
from app.mail.events import (
    AccountAuthRequired,
    AccountConnected,
    AccountDisconnected,
    AccountThrottled,
    EventData,
)
from app.mail.identifiers import now_ms
from app.mail.metadata import Metadata, metadata_of
from app.mail.types import AccountId
from app.mailstore.index import Index


class AccountState:
    """Writes each change of state once, with its event in the same transaction. Raises AccountNotFound, Conflict."""

    def __init__(self, account_id: AccountId, index: Index, epoch: int) -> None:
        self._account_id = account_id
        self._index = index
        self._epoch = epoch
        self._written: dict[str, str] = {}

    async def connected(self, mode: SyncMode) -> None:
        """Record that the login works and a watch runs; missed changes have not been read yet."""
        await self._write(
            partial(AccountConnected, mode.value), status="ready", sync_status="initial", sync_mode=mode.value
        )

    async def live(self, mode: SyncMode) -> None:
        """Record that the index matches the mail server and follows its changes."""
        await self._write(None, status="ready", sync_status="live", sync_mode=mode.value)

    async def polled(self, asked_at_ms: int, *, is_live: bool, wake: Callable[[], None]) -> None:
        """Record a successful poll: the index matches the server as of `asked_at_ms`.

        `is_live` is False while more is to be fetched. `wake` is called after the commit.
        """
        if self._written.get("status") != "ready":
            await self.connected(SyncMode.POLL)
        if is_live:
            await self.live(SyncMode.POLL)

        async def decide(transaction: Transaction) -> Delta:
            await syncing.set_state(transaction, self._account_id, checked_at_ms=asked_at_ms)
            transaction.after_commit(wake)
            return Delta()

        await self._index.change(self._account_id, decide, fence=self._epoch, is_durable=False)

    async def lost(self, error: GatewayError) -> None:
        """Record that the mail server is unreachable or throttles the account."""
        kind = AccountThrottled if isinstance(error, RateLimited) else AccountDisconnected
        await self._write(partial(kind, error.code, error.detail), status="unreachable", sync_status="down")

    async def refused(self, error: GatewayError) -> None:
        """Record that the login was refused. It is not retried automatically, and reported once."""
        await self._write(
            partial(AccountAuthRequired, error.code, error.detail), status="auth_required", sync_status="down"
        )

    async def _write(self, event_with: Callable[[Metadata], EventData] | None, **columns: str) -> None:
        """Write columns and their event. `event_with` makes the event from the account's metadata."""
        if columns.items() <= self._written.items():
            return

        async def decide(transaction: Transaction) -> Delta:
            is_checked = columns["sync_status"] != "down" or self._written.get("sync_status") == "live"  # until now
            times = {"checked_at_ms": now_ms()} if is_checked else {}
            is_reported = await syncing.status(transaction, self._account_id) == columns["status"] == "auth_required"
            await syncing.set_state(transaction, self._account_id, **columns, **times)
            if event_with is None or is_reported:
                return Delta()
            metadata = metadata_of(await directory.locked_settings(transaction, self._account_id) or "")
            return Delta(notes=(Note(event_with(metadata), self._account_id),))

        await self._index.change(self._account_id, decide, fence=self._epoch, is_durable=False)
        self._written |= columns
