"""GETQUOTAROOT and GETQUOTA (RFC 9208): all mailboxes have the quota root "", which has no limits.

QUOTA lists only resources with a limit (§5.1), so the list is empty.
"""

from __future__ import annotations

from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.commands.listing import mailbox_name
from app.servers.imap.handlers import Handler, Handlers
from app.servers.imap.session import ServerSession
from app.wire.imap.requests.quota import GetQuota, GetQuotaRoot

_QUOTA = b'* QUOTA "" ()\r\n'


async def get_quota_root(session: ServerSession, command: GetQuotaRoot, out: ReplyWriter) -> Completion:
    mailbox = await session.mailbox(command.mailbox, must_be_selectable=False)
    await out.send(b'* QUOTAROOT %b ""\r\n' % mailbox_name(mailbox.path) + _QUOTA)
    return Completion("GETQUOTAROOT completed")


async def get_quota(_session: ServerSession, command: GetQuota, out: ReplyWriter) -> Completion:
    if command.root:
        raise CommandRefused("NONEXISTENT", "Quota root not found")
    await out.send(_QUOTA)
    return Completion("GETQUOTA completed")


HANDLERS: Handlers = (Handler(GetQuotaRoot, get_quota_root, capabilities=("QUOTA",)), Handler(GetQuota, get_quota))
