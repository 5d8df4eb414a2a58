"""Creates, renames and deletes mailboxes on an IMAP server. Each function returns the confirmed Delta."""

from __future__ import annotations

from collections.abc import Sequence

from app.backends.imap.listing import USES, list_mailboxes, name_below
from app.backends.imap.session import ClientSession
from app.errors import AlreadyExists, InvalidRequest, ServerRefused
from app.mail.backend import OriginMailbox
from app.mail.delta import Delta, MailboxDeleted, MailboxFound, MailboxRenamed, MailboxSet
from app.mail.types import Mailbox, Role
from app.wire.imap import commands
from app.wire.imap.names import is_below, rebased


async def create_mailbox(session: ClientSession, known: Sequence[Mailbox], path: str, role: Role | None) -> Delta:
    """Create a mailbox and subscribe to it. Raises AlreadyExists, InvalidRequest, ServerRefused."""
    name = name_below(path, known, session.delimiter, session.prefix)
    use = USES.get(role) if role is not None and session.has("CREATE-SPECIAL-USE") else None
    completion, _ = await session.run(
        commands.create(name, use=use, is_utf8=session.is_utf8), commands.subscribe(name, is_utf8=session.is_utf8)
    )
    listed = await list_mailboxes(session)
    mailbox = next((mailbox for mailbox in listed if mailbox.origin_name == name), None)
    mailbox = mailbox or next(
        (mailbox for mailbox in listed if mailbox.path == path), None
    )  # the server spells the name differently
    if completion.status != "OK" and mailbox is not None:
        raise AlreadyExists("A mailbox with this name already exists")
    completion.check()
    if mailbox is None:
        raise ServerRefused("The mail server created the mailbox but does not list it")
    return Delta(mailboxes_found=(mailbox_found(mailbox, role),))


async def rename_mailbox(session: ClientSession, known: Sequence[Mailbox], mailbox: Mailbox, path: str) -> Delta:
    """Rename or move a mailbox and its children, with their subscriptions. Raises AlreadyExists, InvalidRequest."""
    if mailbox.role is Role.INBOX:
        raise InvalidRequest.at("/name", "INBOX cannot be renamed")
    name = name_below(path, known, session.delimiter, session.prefix)
    if any(item.origin_name == name for item in known):
        raise AlreadyExists("A mailbox with this name already exists")
    await session.leave_mailbox()
    await session.do(commands.rename(mailbox.origin_name, name, is_utf8=session.is_utf8))
    renamed = _renamed(known, mailbox, name, path)
    await _follow_subscriptions(session, known, renamed)
    return Delta(mailboxes_renamed=renamed)


async def delete_mailbox(session: ClientSession, mailbox: Mailbox) -> Delta:
    """Delete a mailbox with its messages; a mailbox that does not exist counts as deleted."""
    await session.leave_mailbox()
    _, deleted = await session.run(
        commands.unsubscribe(mailbox.origin_name, is_utf8=session.is_utf8),
        commands.delete(mailbox.origin_name, is_utf8=session.is_utf8),
    )
    if deleted.code is None or deleted.code.name != "NONEXISTENT":
        deleted.check()
    return Delta(mailboxes_deleted=(MailboxDeleted(mailbox.id),))


async def set_subscribed(session: ClientSession, mailbox: Mailbox, is_subscribed: bool) -> Delta:
    command = commands.subscribe if is_subscribed else commands.unsubscribe
    await session.do(command(mailbox.origin_name, is_utf8=session.is_utf8))
    return Delta(mailboxes_set=(MailboxSet(mailbox.id, is_subscribed=is_subscribed),))


def mailbox_found(mailbox: OriginMailbox, role: Role | None = None) -> MailboxFound:
    """The fact for a listed mailbox. `role` is used if the server reports none."""
    return MailboxFound(
        origin_name=mailbox.origin_name,
        path=mailbox.path,
        delimiter=mailbox.delimiter,
        role=mailbox.role or role,
        uid_validity=mailbox.uid_validity or 0,
        is_subscribed=mailbox.is_subscribed,
        is_selectable=mailbox.is_selectable,
    )


def _renamed(known: Sequence[Mailbox], mailbox: Mailbox, name: str, path: str) -> tuple[MailboxRenamed, ...]:
    """The mailbox and its children under their new names."""
    delimiter, above = mailbox.delimiter, mailbox.origin_name
    affected = [
        item for item in known if item.id == mailbox.id or (delimiter and is_below(item.origin_name, above, delimiter))
    ]
    return tuple(
        MailboxRenamed(item.id, path + item.path[len(mailbox.path) :], rebased(item.origin_name, above, name))
        for item in affected
    )


async def _follow_subscriptions(
    session: ClientSession, known: Sequence[Mailbox], renamed: Sequence[MailboxRenamed]
) -> None:
    """A subscription belongs to a name (RFC 9051 §6.3.6), so it is created for each new name."""
    subscribed = {mailbox.id: mailbox.origin_name for mailbox in known if mailbox.is_subscribed}
    pending = []
    for mailbox_renamed in renamed:
        if mailbox_renamed.mailbox_id in subscribed:
            pending.append(commands.unsubscribe(subscribed[mailbox_renamed.mailbox_id], is_utf8=session.is_utf8))
            pending.append(commands.subscribe(mailbox_renamed.origin_name, is_utf8=session.is_utf8))
    await session.run(*pending)
