"""Reads the first words of messages that were listed without them: newest first, gently, in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from app.errors import MailboxNotFound, ServerProtocolError, ServerRefused
from app.mail.delta import Delta, Location, Previewed
from app.mail.types import MailboxId, Message
from app.telemetry import get_logger
from app.workers.sync.mirror import Mirror

log = get_logger(__name__)

AT_ONCE = 50
PAUSE_SECONDS = 0.05
NEW_LIMIT = 500
"""New messages whose previews are asked for by UID; beyond it their mailbox is looked through."""


class Previews:
    """Which previews are wanted, and the task that reads them."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._mailboxes: dict[MailboxId, None] = {}
        self._new: dict[Location, None] = {}
        self._wanted = asyncio.Event()

    def want_of(self, mailbox_ids: Iterable[MailboxId]) -> None:
        """Read all that are missing in these mailboxes."""
        self._mailboxes |= dict.fromkeys(mailbox_ids)
        self._wanted.set()

    def want(self, new: Sequence[Location]) -> None:
        """Read those of these messages."""
        if len(self._new) + len(new) > NEW_LIMIT:
            self.want_of(one.mailbox_id for one in new)
            return
        self._new |= dict.fromkeys(new)
        self._wanted.set()

    async def run(self) -> None:
        """Read what is wanted, for ever. Raises what the backend raises when the origin is lost."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            while self._new or self._mailboxes:
                await self._some()
                await asyncio.sleep(PAUSE_SECONDS)

    async def _some(self) -> None:
        if self._new:
            mailbox_id = next(reversed(self._new)).mailbox_id
            uids = [one.uid for one in self._new if one.mailbox_id == mailbox_id][:AT_ONCE]
            for uid in uids:
                self._new.pop(Location(mailbox_id, uid), None)
            found = await self._mirror.index.locate(self._mirror.account_id, mailbox_id, uids)
            await self._read([one for one in found if one.preview is None])
            return
        mailbox_id = next(iter(self._mailboxes))
        found = await self._mirror.index.without_preview(self._mirror.account_id, mailbox_id, AT_ONCE)
        if len(found) < AT_ONCE:
            self._mailboxes.pop(mailbox_id, None)
        if not await self._read(found):
            self._mailboxes.pop(mailbox_id, None)

    async def _read(self, messages: Sequence[Message]) -> bool:
        """Read and write the previews of some messages of one mailbox; False when it cannot be read."""
        if not messages:
            return True
        try:
            found = await self._mirror.backend.previews(messages)
        except (ServerRefused, ServerProtocolError, MailboxNotFound) as error:
            log.warning("previews_failed", account_id=self._mirror.account_id, error=error.code)
            return False
        previewed = tuple(
            Previewed(Location(one.mailbox_id, one.uid), found.get(one.uid, "")) for one in messages
        )  # one that the origin has no more gets an empty one, so that it is not asked for again
        await self._mirror.apply(Delta(previewed=previewed))
        return True
