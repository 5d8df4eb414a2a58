"""Reads missing previews in the background, slowly and newest first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from app.errors import MailboxNotFound, ServerProtocolError, ServerRefused
from app.mail.delta import Delta, Location, Previewed
from app.mail.types import MailboxId, Message
from app.mirror.account import Mirror
from app.telemetry import get_logger
from app.workers.text_indexer import TextReader, previews_of

log = get_logger(__name__)

AT_ONCE = 50
PAUSE_SECONDS = 0.05
NEW_LIMIT = 500
"""New messages whose previews are requested by UID; with more, the whole mailbox is searched for missing previews."""


class Previews:
    """Queues messages without a preview and reads their previews.

    With a `reader`, whole messages are read after the initial sync, for the full-text index and their previews.
    """

    def __init__(self, mirror: Mirror, reader: TextReader | None = None) -> None:
        self._mirror = mirror
        self._reader = reader
        self._is_whole = False
        self._has_unread = False
        self._mailboxes: dict[MailboxId, None] = {}
        self._new: dict[Location, None] = {}
        self._wanted = asyncio.Event()

    def want_of(self, mailbox_ids: Iterable[MailboxId]) -> None:
        """Queue all missing previews of these mailboxes."""
        if self._is_whole:
            self._has_unread = True
        else:
            self._mailboxes |= dict.fromkeys(mailbox_ids)
        self._wanted.set()

    def want_whole(self) -> None:
        """From now on read whole messages, if there is a reader, including all that are not indexed yet."""
        if self._reader is not None:
            self._is_whole = self._has_unread = True
            self._mailboxes.clear()
            self._wanted.set()

    def want(self, new: Sequence[Location]) -> None:
        """Queue the previews of these messages."""
        if len(self._new) + len(new) > NEW_LIMIT:
            self.want_of(location.mailbox_id for location in new)
            return
        self._new |= dict.fromkeys(new)
        self._wanted.set()

    async def run(self) -> None:
        """Read queued previews, forever. Raises what the backend raises when the connection is lost."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._new or self._mailboxes or self._has_unread:
                await self._read_some()
                await asyncio.sleep(PAUSE_SECONDS)

    async def _read_some(self) -> None:
        if self._new:
            mailbox_id = next(reversed(self._new)).mailbox_id
            uids = [location.uid for location in self._new if location.mailbox_id == mailbox_id][:AT_ONCE]
            for uid in uids:
                self._new.pop(Location(mailbox_id, uid), None)
            messages = await self._mirror.reader.messages.locate(self._mirror.account_id, mailbox_id, uids)
            await self._read([message for message in messages if message.preview is None])
            return
        if self._has_unread and self._reader is not None:
            mirror = self._mirror
            self._has_unread = await self._reader.read_some(mirror.account_id, mirror.backend, mirror.apply)
            return
        mailbox_id = next(iter(self._mailboxes))
        messages = await self._mirror.reader.mirrored.without_preview(self._mirror.account_id, mailbox_id, AT_ONCE)
        if len(messages) < AT_ONCE:
            self._mailboxes.pop(mailbox_id, None)
        if not await self._read(messages):
            self._mailboxes.pop(mailbox_id, None)

    async def _read(self, messages: Sequence[Message]) -> bool:
        """Read and write the previews of messages of one mailbox; False when it cannot be read."""
        if not messages:
            return True
        if self._is_whole and self._reader is not None:
            await self._reader.read(self._mirror.account_id, self._mirror.backend, messages, self._mirror.apply)
            return True
        try:
            previews = await previews_of(self._mirror.backend, messages)
        except (ServerRefused, ServerProtocolError, MailboxNotFound) as error:
            log.warning("previews_failed", account_id=self._mirror.account_id, error=error.code)
            return False
        previewed = tuple(
            Previewed(Location(message.mailbox_id, message.uid), previews[message.uid]) for message in messages
        )  # a message deleted on the server gets an empty preview, so that it is not asked for again
        await self._mirror.apply(Delta(previewed=previewed))
        return True
