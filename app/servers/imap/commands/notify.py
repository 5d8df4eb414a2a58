"""NOTIFY (RFC 5465): notifications about other mailboxes, and about new messages in the selected one."""

from __future__ import annotations

from app.mail.types import Mailbox
from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.commands.fetch import plan_of, send_messages
from app.servers.imap.commands.listing import list_line, mailbox_name, status_line
from app.servers.imap.handlers import Handler, Handlers
from app.servers.imap.session import ServerSession
from app.servers.imap.watch import MailboxWatch
from app.wire.imap.requests.notify import MAILBOX_EVENTS, MESSAGE_EVENTS, Notify

_SUPPORTED = frozenset(MESSAGE_EVENTS[:3] + MAILBOX_EVENTS[:2])
_BAD_EVENT = f"BADEVENT ({' '.join(sorted(_SUPPORTED))})"


async def notify(session: ServerSession, command: Notify, out: ReplyWriter) -> Completion:
    """NOTIFY SET and NOTIFY NONE."""
    if any(set(group.events) - _SUPPORTED for group in command.groups):
        raise CommandRefused(_BAD_EVENT, "Unsupported event")
    for group in command.groups:
        plan_of(group.new_items)  # refuse what cannot be reported
    if not command.groups:
        session.watch = None
        return Completion("NOTIFY completed")
    await session.follow_log()
    mailboxes = await session.services.reader.mailboxes.mailboxes(session.account)
    watch = MailboxWatch(command.groups)
    watch.set_known(mailboxes)
    session.watch = watch
    if command.with_status:
        selected = session.view.mailbox_id if session.view else None
        for mailbox in mailboxes:
            items = _status_items(session, watch.events_of(mailbox))
            if items and mailbox.id != selected:
                await out.send(await status_line(session, mailbox, items))
            await session.pace.spend(1)
    return Completion("NOTIFY completed")


async def send_new_messages(session: ServerSession, out: ReplyWriter) -> None:
    """Send the items that MessageNew requests for new messages in the selected mailbox."""
    view, watch = session.view, session.watch
    if view is None:
        return
    if view.fresh and watch is not None and watch.new_items:
        await send_messages(session, watch.new_items, view.fresh, out)
    view.fresh.clear()


def _status_items(session: ServerSession, events: tuple[str, ...]) -> list[str]:
    """Return the STATUS items for these events (RFC 5465 §4, §5.1–5.3). HIGHESTMODSEQ reports changed flags."""
    items: list[str] = []
    if "MessageNew" in events:
        items += ["MESSAGES", "UIDNEXT", "UIDVALIDITY"]
    elif "MessageExpunge" in events:
        items += ["MESSAGES", "UIDVALIDITY"]
    if "FlagChange" in events:
        items += ["UNSEEN", *([] if items else ["UIDVALIDITY"])]
    if items and (session.has_condstore or "FlagChange" in events):
        items.append("HIGHESTMODSEQ")
    return items


async def send_other_mailboxes(session: ServerSession, out: ReplyWriter) -> None:
    """Send the pending STATUS and LIST responses for other mailboxes."""
    watch = session.watch
    if watch is None or not (watch.counts or watch.names):
        return
    mailboxes: dict[str, Mailbox] = {
        mailbox.id: mailbox for mailbox in await session.services.reader.mailboxes.mailboxes(session.account)
    }
    for mailbox_id in watch.names:
        await out.send(_name_line(watch, watch.known.get(mailbox_id), mailboxes.get(mailbox_id)))
        await session.pace.spend(1)
    watch.set_known(mailboxes.values())
    for mailbox_id in watch.counts:
        mailbox = mailboxes.get(mailbox_id)
        items = _status_items(session, watch.events_of(mailbox))
        if mailbox is not None and items:
            await out.send(await status_line(session, mailbox, items))
        await session.pace.spend(1)
    watch.names.clear()
    watch.counts.clear()


def _name_line(watch: MailboxWatch, before: Mailbox | None, after: Mailbox | None) -> bytes:
    """Return LIST for a created, deleted, renamed or (un)subscribed mailbox (RFC 5465 §5.4–5.5); b"" if not requested.

    A mailbox whose name stays because it has children counts as deleted too: it cannot be selected any more.
    """
    events = watch.events_of(after) or watch.events_of(before)
    if after is None:
        if before is None or "MailboxName" not in events:
            return b""
        return list_line(before.path, ["\\NonExistent"])
    is_renamed = before is None or (before.path, before.is_selectable) != (after.path, after.is_selectable)
    is_resubscribed = before is not None and before.is_subscribed != after.is_subscribed
    notified_by = {"MailboxName"} if is_renamed else {"SubscriptionChange"} if is_resubscribed else set()
    if not notified_by & set(events):
        return b""
    old_name = b""
    if before is not None and before.path != after.path:
        old_name = b' ("OLDNAME" (%b))' % mailbox_name(before.path)
    attributes = [] if after.is_selectable else ["\\Noselect"]
    return list_line(after.path, [*attributes, *(["\\Subscribed"] if after.is_subscribed else [])], old_name)


HANDLERS: Handlers = (Handler(Notify, notify, capabilities=("NOTIFY",)),)
