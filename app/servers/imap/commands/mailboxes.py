"""CREATE, DELETE, RENAME, SUBSCRIBE and UNSUBSCRIBE."""

from __future__ import annotations

from app.mail.types import Role
from app.mailstore.mailboxes import DELIMITER
from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.handlers import Handler, Handlers
from app.servers.imap.session import ServerSession, canonical
from app.wire.imap.requests.mailboxes import Create, Delete, Rename, Subscribe

SPECIAL_USES = {
    Role.ALL: "\\All",
    Role.ARCHIVE: "\\Archive",
    Role.DRAFTS: "\\Drafts",
    Role.FLAGGED: "\\Flagged",
    Role.JUNK: "\\Junk",
    Role.SENT: "\\Sent",
    Role.TRASH: "\\Trash",
}
"""RFC 6154 §2."""

MOVED_AT_ONCE = 2_000
"""Messages moved in one transaction, so that other writers do not wait long."""

_ROLES = {use.lower(): role for role, use in SPECIAL_USES.items()}


async def create(session: ServerSession, command: Create, _out: ReplyWriter) -> Completion:
    """CREATE, with or without a special use (RFC 6154 §3). A trailing "/" of the name is removed.

    The new mailbox is not subscribed: the client does that.
    """
    path = canonical(command.mailbox.removesuffix(DELIMITER))
    role = await _role_of(session, command.use)
    applied = await session.services.store.mailboxes.create(session.account, path, role, is_subscribed=False)
    return Completion("CREATE completed", f"MAILBOXID ({applied.mailbox_ids[path]})")


async def _role_of(session: ServerSession, uses: tuple[str, ...]) -> Role | None:
    """Return the role of a new mailbox. Refuses several roles, unknown roles, and a role that another mailbox has."""
    if not uses:
        return None
    role = _ROLES.get(uses[0].lower()) if len(uses) == 1 else None
    mailboxes = await session.services.reader.mailboxes.mailboxes(session.account)
    if role is None or any(mailbox.role == role for mailbox in mailboxes):
        raise CommandRefused("USEATTR", "Unsupported special-use attribute")
    return role


async def delete(session: ServerSession, command: Delete, _out: ReplyWriter) -> Completion:
    """DELETE. If the mailbox has child mailboxes, its messages are deleted and its name stays (RFC 3501 §6.3.4)."""
    mailbox = await session.mailbox(command.mailbox, must_be_selectable=False)
    if not mailbox.is_selectable:
        mailboxes = await session.services.reader.mailboxes.mailboxes(session.account)
        if any(item.path.startswith(mailbox.path + DELIMITER) for item in mailboxes):
            raise CommandRefused("HASCHILDREN", "The mailbox has child mailboxes")
    if session.view is not None and session.view.mailbox_id == mailbox.id:
        session.view = None
    await session.services.store.mailboxes.delete_name(session.account, mailbox.id)
    return Completion("DELETE completed")


async def rename(session: ServerSession, command: Rename, _out: ReplyWriter) -> Completion:
    """RENAME a mailbox and its children. For INBOX, move its messages to a new mailbox (RFC 9051 §6.3.6)."""
    store = session.services.store
    mailbox = await session.mailbox(command.mailbox, must_be_selectable=False)
    path = canonical(command.new_name.removesuffix(DELIMITER))
    if mailbox.path != "INBOX":
        await store.mailboxes.rename(session.account, mailbox.id, path)
        return Completion("RENAME completed")
    await store.mailboxes.create(session.account, path, is_subscribed=False)
    target = await session.mailbox(path)
    uids = await session.services.shared.read_uids(session.account, mailbox.id)
    for start in range(0, len(uids), MOVED_AT_ONCE):
        await store.move(session.account, mailbox.id, uids[start : start + MOVED_AT_ONCE], target.id)
    return Completion("RENAME completed")


async def subscribe(session: ServerSession, command: Subscribe, _out: ReplyWriter) -> Completion:
    """SUBSCRIBE and UNSUBSCRIBE a name, which need not be a mailbox (RFC 9051 §6.3.7)."""
    path = canonical(command.mailbox.removesuffix(DELIMITER))
    await session.services.store.mailboxes.subscribe(session.account, path, is_subscribed=command.is_subscribed)
    return Completion("SUBSCRIBE completed" if command.is_subscribed else "UNSUBSCRIBE completed")


HANDLERS: Handlers = (
    Handler(Create, create, capabilities=("CREATE-SPECIAL-USE",)),
    Handler(Delete, delete),
    Handler(Rename, rename),
    Handler(Subscribe, subscribe),
)
