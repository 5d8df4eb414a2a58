"""Changes single messages: on the mail server, then in the index, which emits the events."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.errors import Conflict, InvalidRequest, MailboxNotFound, PreconditionFailed
from app.mail.backend import Backends
from app.mail.confirmed import Confirmed
from app.mail.types import AccountId, Flags, Mailbox, Message, Position, Role, flag_of
from app.mailstore.index import Index
from app.mailstore.reader import MailReader
from app.services.access.callers import Caller
from app.services.reading.content import Content
from app.services.reading.naming import MailboxNames

TRASH_PATH = "Trash"
KEYWORDS_LIMIT = 50


@dataclass(frozen=True, slots=True)
class MessageChange:
    """Changes of a message: flags to add and to remove, and a mailbox to move it to."""

    add: Flags = frozenset()
    remove: Flags = frozenset()
    mailbox_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChangeResult:
    """A message after a change; None if it was deleted. `position` is the end of the account's log then."""

    message: Message | None
    position: Position


def flags_of_keywords(keywords: Collection[str]) -> Flags:
    """Return the IMAP flags of API keywords."""
    return frozenset(flag_of(keyword) for keyword in keywords)


class Messages:
    """Changes single messages."""

    def __init__(self, backends: Backends, index: Index, reader: MailReader, content: Content) -> None:
        self._backends = backends
        self._index = index
        self._reader = reader
        self._content = content
        self._names = MailboxNames(reader)

    async def change(
        self,
        account_id: AccountId,
        caller: Caller,
        message_id: str,
        change: MessageChange,
        versions: Collection[int] | None = None,
    ) -> ChangeResult:
        """Change flags, then move. `versions`: the message must have one of these, else PreconditionFailed.

        Raises MessageNotFound, MailboxNotFound, Conflict, MailServerError.
        """
        check_change(change)
        message = await self._content.message(account_id, caller, message_id)
        check_version(message, versions)
        target = None if change.mailbox_id is None else await self.target(account_id, caller, change.mailbox_id)
        position = await self._store(message, change, is_conditional=versions is not None)
        if target is not None and target.id != message.mailbox_id:
            position = await self.confirm(account_id, await self._move(account_id, [message], target))
        return ChangeResult(await self._reader.messages.message(account_id, message.id), position)

    async def _store(self, message: Message, change: MessageChange, *, is_conditional: bool) -> Position:
        if not (change.add or change.remove):
            return (await self._reader.mailboxes.standing(message.account_id)).position
        backend = await self._backends.of(message.account_id)
        confirmed = await backend.store_flags(
            [message],
            add=change.add,
            remove=change.remove,
            unchanged_since=message.modseq if is_conditional else None,
        )
        return await self.confirm(message.account_id, confirmed)

    async def remove(
        self,
        account_id: AccountId,
        caller: Caller,
        message_id: str,
        *,
        is_permanent: bool,
        versions: Collection[int] | None = None,
    ) -> ChangeResult:
        """Move to Trash; delete permanently if it is in Trash already, or if `is_permanent`."""
        message = await self._content.message(account_id, caller, message_id)
        check_version(message, versions)
        trash = None if is_permanent else await self.trash(account_id)
        if trash is None or trash.id == message.mailbox_id:
            backend = await self._backends.of(account_id)
            return ChangeResult(None, await self.confirm(account_id, await backend.expunge([message])))
        position = await self.confirm(account_id, await self._move(account_id, [message], trash))
        return ChangeResult(await self._reader.messages.message(account_id, message.id), position)

    # ---- shared with bulk changes

    async def target(self, account_id: AccountId, caller: Caller, mailbox_id: str) -> Mailbox:
        """Return the mailbox that `mailbox_id` in a body names, by id or role, for messages to be put into.

        Raises MailboxNotFound; Conflict if it can hold only mailboxes.
        """
        try:
            mailbox_id = await self._names.id_of(account_id, caller, mailbox_id)
            mailbox = await self._reader.mailboxes.mailbox(account_id, mailbox_id)
        except MailboxNotFound as error:
            raise error.pointing_at("/mailbox_id") from None
        if not mailbox.is_selectable:
            raise Conflict("This mailbox can hold only mailboxes, not messages")
        return mailbox

    async def trash(self, account_id: AccountId) -> Mailbox:
        """Return the mailbox with the role trash, and create it if there is none."""
        mailboxes = await self._reader.mailboxes.mailboxes(account_id)
        candidates = [mailbox for mailbox in mailboxes if mailbox.role is Role.TRASH] or [
            mailbox for mailbox in mailboxes if mailbox.path.lower() == TRASH_PATH.lower()
        ]
        if candidates:
            return candidates[0]
        backend = await self._backends.of(account_id)
        confirmed = await backend.create_mailbox(TRASH_PATH, Role.TRASH)
        await self._index.confirm(account_id, confirmed)
        mailboxes = await self._reader.mailboxes.mailboxes(account_id)
        names = {mailbox.origin_name for mailbox in confirmed.delta.mailboxes_found}
        return next(mailbox for mailbox in mailboxes if mailbox.origin_name in names)

    async def confirm(self, account_id: AccountId, confirmed: Confirmed) -> Position:
        """Write what the server confirmed, unless it is written already. Return the end of the account's log."""
        return (await self._index.confirm(account_id, confirmed)).position

    async def _move(self, account_id: AccountId, messages: Sequence[Message], target: Mailbox) -> Confirmed:
        backend = await self._backends.of(account_id)
        return await backend.move(messages, target)


def check_change(change: MessageChange) -> None:
    """Raises InvalidRequest for a change that contradicts itself or changes nothing."""
    if change.add & change.remove:
        raise InvalidRequest.at("/keywords", "A keyword is both added and removed")
    if not (change.add or change.remove or change.mailbox_id):
        raise InvalidRequest.at("", "The change is empty: give keywords or mailbox_id")


def check_version(message: Message, versions: Collection[int] | None) -> None:
    if versions is not None and message.version not in versions:
        raise PreconditionFailed
