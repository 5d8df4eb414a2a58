"""Maildrops: INBOX for POP3, one session at a time (RFC 1939 §4)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection

from app.db.session import Database
from app.errors import AccountNotFound, Conflict, MailboxNotFound
from app.mail.types import AccountId
from app.mailstore.blobs import SMALL_BYTES
from app.mailstore.maildrop import DropMessage, MaildropSnapshot, snapshot
from app.mailstore.store import MailStore


class MaildropInUse(Conflict):
    code = "maildrop_in_use"


class Maildrop:
    """One session's view: messages by number, from 1. Nothing is removed before `remove`."""

    def __init__(self, store: MailStore, account_id: AccountId, content: MaildropSnapshot) -> None:
        self._store = store
        self._account_id = account_id
        self._content = content

    @property
    def messages(self) -> tuple[DropMessage, ...]:
        return self._content.messages

    async def read(self, message: DropMessage) -> AsyncGenerator[bytes, None]:
        """Yield a message's bytes in pieces. Raises BlobMissing before the first one."""
        if message.size_bytes <= SMALL_BYTES:
            yield await self._store.blobs.get(message.blob)
            return
        async for piece in self._store.blobs.stream(message.blob):
            yield piece

    async def remove(self, messages: Collection[DropMessage]) -> None:
        """Remove messages permanently, ignoring missing ones."""
        if not messages or self._content.mailbox_id is None:
            return
        uids = [message.uid for message in messages]
        try:
            await self._store.expunge(self._account_id, self._content.mailbox_id, uids, only_deleted=False)
        except (AccountNotFound, MailboxNotFound):
            return  # all are removed already


class Maildrops:
    """Opens maildrops. The lock excludes only other POP3 sessions of this process: IMAP and the API are not blocked."""

    def __init__(self, database: Database, store: MailStore) -> None:
        self._database = database
        self._store = store
        self._locked: set[AccountId] = set()

    async def open(self, account_id: AccountId) -> Maildrop:
        """Lock the account's maildrop and list it; `release` must follow. Raises MaildropInUse."""
        if account_id in self._locked:
            raise MaildropInUse
        self._locked.add(account_id)
        try:
            return Maildrop(self._store, account_id, await snapshot(self._database, account_id))
        except BaseException:
            self.release(account_id)
            raise

    def release(self, account_id: AccountId) -> None:
        """Release the lock. Only its holder may call this."""
        self._locked.discard(account_id)
