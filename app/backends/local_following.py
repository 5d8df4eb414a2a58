"""Presents the store like a watched mail server: listings, arrivals and a watch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from app.cluster.bus import Bus, listening
from app.mail.backend import OriginMailbox, Signal, SyncMode
from app.mail.delta import Arrived
from app.mail.summaries import overview_in
from app.mail.types import AccountId, Detail, Mailbox, Message


class LocalWatch:
    """Signals each new event in the account's log."""

    mode = SyncMode.EMBEDDED

    def __init__(
        self, bus: Bus, account_id: AccountId, status: Callable[[], Awaitable[Sequence[OriginMailbox]]]
    ) -> None:
        self._bus = bus
        self._account_id = account_id
        self._status = status

    async def signals(self) -> AsyncIterator[Signal]:
        with listening(self._bus, self._account_id) as waiter:
            while True:
                await waiter.wait()
                yield Signal(status=tuple(await self._status()))

    async def close(self) -> None:
        """Do nothing: no connection is open."""


def origin_mailbox(mailbox: Mailbox) -> OriginMailbox:
    """A mailbox as LIST and STATUS would report it."""
    return OriginMailbox(
        mailbox.origin_name,
        mailbox.path,
        mailbox.delimiter,
        mailbox.role,
        mailbox.is_selectable,
        mailbox.is_subscribed,
        mailbox.uid_validity,
        mailbox.uid_next,
        mailbox.highest_modseq,
        mailbox.total,
        mailbox.unread,
    )


def arrived_of(message: Message, detail: Detail, uid_validity: int) -> Arrived:
    """A stored message as a fetch would report it."""
    return Arrived(
        message.mailbox_id,
        message.uid,
        message.flags,
        message.received_at_ms,
        message.size_bytes,
        overview_in(message.summary, detail.bcc),
        detail.structure,
        modseq=message.modseq,
        preview=message.preview,
        blob=message.blob,
        uid_validity=uid_validity,
        problems=detail.problems,
    )
