"""Changes many messages at once. Each gets its own result, so an error in one mailbox does not affect the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from app.errors import GatewayError, MessageNotFound, Throttled, TooLarge, Unreachable
from app.mail import filter as f
from app.mail.backend import Backends
from app.mail.confirmed import Applied, Confirmed
from app.mail.delta import Delta, Location
from app.mail.types import AccountId, AccountKind, Mailbox, MailboxId, Message, MessageId, Position
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.services.access.callers import Caller
from app.services.access.idempotency import Attempt
from app.services.access.visibility import seen_among
from app.services.changing.copying import Copying
from app.services.changing.messages import MessageChange, Messages
from app.services.reading.listing import limited_to
from app.services.reading.naming import MailboxNames
from app.services.reading.texts import Texts

FILTER_LIMIT = 10_000
"""The most messages that one change by filter may affect."""
CHUNK = 500
"""Messages in one command to the mail server and one transaction of the index."""

Deletion = Literal["trash", "permanent"]
_IN_TRASH = "in_trash"
"""A noted fact: ids of the messages that were in Trash before the first attempt."""
Act = Callable[[Sequence[Message]], Awaitable[Confirmed]]


@dataclass(slots=True)
class BulkResult:
    """The result for each message, in the order of the request. `new_ids` are those of copies.

    `position` is the end of the account's log after the change.
    """

    ids: Sequence[str]
    position: Position | None = None
    errors: dict[str, GatewayError] = field(default_factory=dict)
    new_ids: dict[str, MessageId] = field(default_factory=dict)


class Bulk:
    """Changes many messages."""

    def __init__(
        self, backends: Backends, index: Index, reader: MailReader, messages: Messages, texts: Texts, store: MailStore
    ) -> None:
        self._store = store
        self._backends = backends
        self._index = index
        self._reader = reader
        self._messages = messages
        self._texts = texts
        self._names = MailboxNames(reader)

    async def matching(self, account_id: AccountId, caller: Caller, tree: f.Filter) -> list[MessageId]:
        """Return the ids of the messages that match a filter.

        Raises TooLarge if there are more than can be changed at once. Raises SearchIncomplete if a text condition
        could not be checked for every message, so that none is skipped.
        """
        tree = await self._names.resolved(account_id, caller, tree)
        answered = await self._texts.whole(account_id, caller, limited_to(tree, caller))
        ids = await self._reader.lists.matching_ids(account_id, answered, FILTER_LIMIT + 1)
        if len(ids) > FILTER_LIMIT:
            raise TooLarge(f"More than {FILTER_LIMIT} messages match; narrow the filter")
        return ids

    async def move(self, account_id: AccountId, caller: Caller, ids: Sequence[str], mailbox_id: str) -> BulkResult:
        """Move messages. Safe to repeat: a message already in the target is unchanged.

        Raises MailboxNotFound, Conflict.
        """
        return await self.change(account_id, caller, ids, MessageChange(mailbox_id=mailbox_id))

    async def copy(
        self, account_id: AccountId, caller: Caller, ids: Sequence[str], mailbox_id: str, attempt: Attempt | None = None
    ) -> BulkResult:
        """Copy messages; copies have their own ids. Messages that an earlier attempt copied are not copied again.

        Raises MailboxNotFound, Conflict.
        """
        target = await self._messages.target(account_id, caller, mailbox_id)
        result, messages = await self._begin(account_id, caller, ids)
        is_kept_here = AccountKind((await self._reader.mailboxes.standing(account_id)).kind).is_kept_here
        copying = Copying(self._index, self._reader, self._store, await self._backends.of(account_id), target, attempt)
        result.new_ids |= await copying.done_before(messages)
        for group in _groups([message for message in messages if message.id not in result.new_ids]):
            act = copying.keep if is_kept_here else copying.append
            delta, applied = await self._act(account_id, group, act, result)
            copies = _copies(delta, applied)
            for message in group:
                copied = copies.get(Location(message.mailbox_id, message.uid))
                if copied is None:
                    result.errors.setdefault(message.id, MessageNotFound())
                    continue
                copying.done[message.id] = result.new_ids[message.id] = await self._id_at(account_id, copied, applied)
        return await self._end(account_id, result)

    async def change(
        self, account_id: AccountId, caller: Caller, ids: Sequence[str], change: MessageChange
    ) -> BulkResult:
        """Change flags, then move. Raises MailboxNotFound, Conflict."""
        target = None
        if change.mailbox_id is not None:
            target = await self._messages.target(account_id, caller, change.mailbox_id)
        backend = await self._backends.of(account_id)
        result, visible = await self._begin(account_id, caller, ids)

        async def store(messages: Sequence[Message]) -> Confirmed:
            return await backend.store_flags(messages, add=change.add, remove=change.remove)

        for group in _groups(visible):
            if change.add or change.remove:
                await self._act(account_id, group, store, result)
            if target is not None and group[0].mailbox_id != target.id:
                await self._move(account_id, group, target, result)
        await self._check_presence(account_id, visible, result)
        return await self._end(account_id, result)

    async def remove(
        self,
        account_id: AccountId,
        caller: Caller,
        ids: Sequence[str],
        how: Deletion,
        attempt: Attempt | None = None,
    ) -> BulkResult:
        """Move messages to Trash; delete those in Trash, or all with "permanent", permanently.

        Messages that an earlier attempt moved to Trash stay there.
        """
        result, visible = await self._begin(account_id, caller, ids)
        trash = await self._messages.trash(account_id) if how == "trash" and visible else None
        backend = await self._backends.of(account_id)
        if trash is not None and attempt is not None:
            visible = await _without_moved(visible, trash, attempt)
        for group in _groups(visible):
            if trash is None or group[0].mailbox_id == trash.id:
                await self._act(account_id, group, backend.expunge, result)
            else:
                await self._move(account_id, group, trash, result)
        return await self._end(account_id, result)

    async def _move(self, account_id: AccountId, group: Sequence[Message], target: Mailbox, result: BulkResult) -> None:
        backend = await self._backends.of(account_id)

        async def move(messages: Sequence[Message]) -> Confirmed:
            return await backend.move(messages, target)

        await self._act(account_id, [message for message in group if message.id not in result.errors], move, result)

    # ---- one group after another

    async def _begin(
        self, account_id: AccountId, caller: Caller, ids: Sequence[str]
    ) -> tuple[BulkResult, list[Message]]:
        """Return the result to fill, with an error for each id that the caller does not see, and the messages."""
        result = BulkResult(list(dict.fromkeys(ids)))
        visible = await seen_among(self._reader, await self._reader.messages.find(account_id, ids), caller.mailbox_ids)
        known = {message.id for message in visible}
        result.errors.update({id_: MessageNotFound() for id_ in result.ids if id_ not in known})
        return result, visible

    async def _act(
        self, account_id: AccountId, group: Sequence[Message], act: Act, result: BulkResult
    ) -> tuple[Delta, Applied]:
        """Run `act` on a group and write what the mail server confirmed.

        An error applies to each message of the group.
        """
        lost = next((item for item in result.errors.values() if isinstance(item, Unreachable | Throttled)), None)
        if not group or lost is not None:
            result.errors.update({message.id: lost for message in group if lost is not None})
            return Delta(), Applied()
        try:
            confirmed = await act(group)
        except GatewayError as error:
            result.errors.update({message.id: error for message in group})
            return Delta(), Applied()
        applied = await self._index.confirm(account_id, confirmed)
        result.position = applied.position
        return confirmed.delta, applied

    async def _check_presence(self, account_id: AccountId, messages: Sequence[Message], result: BulkResult) -> None:
        """Add an error for each message that no longer existed on the mail server."""
        present = {
            item.id for item in await self._reader.messages.find(account_id, [message.id for message in messages])
        }
        for message in messages:
            if message.id not in present:
                result.errors.setdefault(message.id, MessageNotFound())

    async def _end(self, account_id: AccountId, result: BulkResult) -> BulkResult:
        """Raise the first error if every message failed and all of them exist."""
        errors = list(result.errors.values())
        if (
            errors
            and len(errors) == len(result.ids)
            and not any(isinstance(error, MessageNotFound) for error in errors)
        ):
            raise errors[0]
        result.position = result.position or (await self._reader.mailboxes.standing(account_id)).position
        return result

    async def _id_at(self, account_id: AccountId, place: Location, applied: Applied) -> MessageId:
        return applied.message_ids.get(place) or (await self._reader.messages.at(account_id, place)).id


async def _without_moved(messages: list[Message], trash: Mailbox, attempt: Attempt) -> list[Message]:
    """Omit messages that an earlier attempt moved to Trash: deleting them again would be permanent."""
    if _IN_TRASH not in attempt.facts:
        await attempt.note({_IN_TRASH: [message.id for message in messages if message.mailbox_id == trash.id]})
    first = attempt.facts.get(_IN_TRASH)
    if not isinstance(first, list):
        return messages
    return [message for message in messages if message.mailbox_id != trash.id or message.id in set(first)]


def _groups(messages: Sequence[Message]) -> list[list[Message]]:
    """Group messages by mailbox, in groups for one command each."""
    by_mailbox: dict[MailboxId, list[Message]] = {}
    for message in messages:
        by_mailbox.setdefault(message.mailbox_id, []).append(message)
    return [group[start : start + CHUNK] for group in by_mailbox.values() for start in range(0, len(group), CHUNK)]


def _copies(delta: Delta, applied: Applied) -> Mapping[Location, Location]:
    """Return source → target: as the server reported it, or with the UIDs that the index assigned."""
    return {item.source: item.target for item in delta.copied if item.target.uid} | dict(applied.copies)
