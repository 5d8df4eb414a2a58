"""Copies of one request, each made once in all of its attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from app.db.session import Transaction
from app.mail.backend import MailBackend
from app.mail.confirmed import Applied, Confirmed
from app.mail.delta import Arrived, Delta, Location
from app.mail.types import Mailbox, Message, MessageId
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.services.access.idempotency import Attempt
from app.services.changing.lost_responses import has_mark, landed_since, note_mark

_DONE = "copied"
"""A noted fact: ids of messages and of their copies."""


class Copying:
    """Copies groups of messages, each group from one mailbox, to `target`.

    For embedded accounts, a group and its note are written in one transaction. For external ones, the target's mark
    is noted before the first group, and a later attempt asks the mail server which messages arrived after it.
    """

    def __init__(
        self,
        index: Index,
        reader: MailReader,
        store: MailStore,
        backend: MailBackend,
        target: Mailbox,
        attempt: Attempt | None,
    ) -> None:
        self._index = index
        self._reader = reader
        self._store = store
        self._backend = backend
        self._target = target
        self._attempt = attempt
        noted = attempt.facts.get(_DONE) if attempt is not None else None
        self.done: dict[str, MessageId] = dict(noted) if isinstance(noted, Mapping) else {}

    async def keep(self, messages: Sequence[Message]) -> Confirmed:
        """Copy a group in an embedded account."""
        first = messages[0]
        ids = {Location(message.mailbox_id, message.uid): message.id for message in messages}

        async def conclude(transaction: Transaction, applied: Applied) -> None:
            if self._attempt is not None:
                new = {ids[source]: applied.message_ids[place] for source, place in applied.copies.items()}
                await self._attempt.note_in(transaction, {_DONE: self.done | new})

        uids = [message.uid for message in messages]
        applied = await self._store.copy(first.account_id, first.mailbox_id, uids, self._target.id, conclude)
        return Confirmed(applied.delta, applied)

    async def append(self, messages: Sequence[Message]) -> Confirmed:
        """Copy a group on the mail server."""
        if self._attempt is not None:
            await note_mark(self._attempt, self._backend, self._target)
        return await self._backend.copy(messages, self._target)

    async def done_before(self, messages: Sequence[Message]) -> Mapping[str, MessageId]:
        """Return the copies of these messages that an earlier attempt made. Raises MailServerError."""
        if self._attempt is not None and has_mark(self._attempt):
            landed = await landed_since(self._attempt, self._backend, self._target)
            for message in messages:
                copy = next((arrived for arrived in landed if _is_copy(arrived, message)), None)
                if copy is not None:
                    landed.remove(copy)
                    self.done[message.id] = await self._id_of(copy)
        known = {message.id for message in messages}
        return {id_: new for id_, new in self.done.items() if id_ in known}

    async def _id_of(self, arrived: Arrived) -> MessageId:
        await self._index.apply(self._target.account_id, Delta(arrived=(arrived,)))
        return (await self._reader.messages.at(self._target.account_id, Location(self._target.id, arrived.uid))).id


def _is_copy(arrived: Arrived, message: Message) -> bool:
    """Whether this may be a copy, which has the same bytes and internal date (RFC 9051 §6.4.7)."""
    return (
        arrived.size_bytes == message.size_bytes
        and arrived.overview.message_id_header == message.message_id_header
        and (message.message_id_header is not None or arrived.received_at_ms == message.received_at_ms)
    )
