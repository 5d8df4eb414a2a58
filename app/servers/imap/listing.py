"""LIST with its extensions, LSUB and STATUS (RFC 9051 §6.3.9–11, RFC 5258, RFC 5819, RFC 6154)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from app.mail.types import Mailbox
from app.mailstore.store import DELIMITER
from app.servers.conversation import Outlet
from app.servers.imap.answers import Completion
from app.servers.imap.mailboxes import SPECIAL_USES
from app.servers.imap.patterns import Pattern
from app.servers.imap.session import Session
from app.wire.imap import render
from app.wire.imap.names import encode_utf7
from app.wire.imap.requests import ListMailboxes, MailboxStatusOf


async def list_mailboxes(session: Session, command: ListMailboxes, out: Outlet) -> Completion:
    """LIST and LSUB."""
    name = "LSUB" if command.is_lsub else "LIST"
    if command.patterns == ("",):
        await out.send(b'* %b (\\Noselect) "/" ""\r\n' % name.encode())
        return Completion(f"{name} completed")
    mailboxes = await session.services.index.mailboxes(session.account)
    patterns = [Pattern(command.reference + pattern) for pattern in command.patterns]
    listed = _Listed(command, mailboxes)
    for mailbox in mailboxes:
        if any(pattern.matches(mailbox.path) for pattern in patterns):
            await out.send(listed.lines(mailbox, name))
            if command.status and mailbox.is_selectable and listed.is_chosen(mailbox):
                await out.send(await status_line(session, mailbox, command.status))
    return Completion(f"{name} completed")


class _Listed:
    """Which mailboxes a LIST tells of, and what it says of each."""

    def __init__(self, command: ListMailboxes, mailboxes: Sequence[Mailbox]) -> None:
        self._command = command
        self._parents = _above(mailbox.path for mailbox in mailboxes)
        self._above_chosen = _above(mailbox.path for mailbox in mailboxes if self.is_chosen(mailbox))

    def is_chosen(self, mailbox: Mailbox) -> bool:
        """Whether it meets the selection options."""
        select = self._command.select
        if (self._command.is_lsub or "SUBSCRIBED" in select) and not mailbox.is_subscribed:
            return False
        return "SPECIAL-USE" not in select or mailbox.role in SPECIAL_USES

    def lines(self, mailbox: Mailbox, name: str) -> bytes:
        """Its answer; none where it is not chosen, unless RECURSIVEMATCH asks for those above one that is."""
        is_above = "RECURSIVEMATCH" in self._command.select and mailbox.path in self._above_chosen
        if not self.is_chosen(mailbox) and not is_above:
            return b""
        child_info = b' ("CHILDINFO" ("SUBSCRIBED"))' if is_above and "SUBSCRIBED" in self._command.select else b""
        return list_line(mailbox.path, self._attributes(mailbox), child_info, name)

    def _attributes(self, mailbox: Mailbox) -> list[str]:
        found = [] if mailbox.is_selectable else ["\\Noselect"]
        found.append("\\HasChildren" if mailbox.path in self._parents else "\\HasNoChildren")
        if mailbox.is_subscribed and "SUBSCRIBED" in self._command.select | self._command.returning:
            found.append("\\Subscribed")
        if mailbox.role in SPECIAL_USES:
            found.append(SPECIAL_USES[mailbox.role])
        return found


def _above(paths: Iterable[str]) -> set[str]:
    """All paths that have one of these below them."""
    found: set[str] = set()
    for path in paths:
        levels = path.split(DELIMITER)
        found.update(DELIMITER.join(levels[:count]) for count in range(1, len(levels)))
    return found


def list_line(mailbox_path: str, attributes: Iterable[str], extended: bytes = b"", name: str = "LIST") -> bytes:
    """`* LIST (attributes) "/" name`, with extended data."""
    return b'* %b (%b) "/" %b%b\r\n' % (
        name.encode(),
        " ".join(attributes).encode(),
        mailbox_name(mailbox_path),
        extended,
    )


def mailbox_name(path: str) -> bytes:
    """A path in modified UTF-7, quoted."""
    return render.string(encode_utf7(path))


async def status(session: Session, command: MailboxStatusOf, out: Outlet) -> Completion:
    """STATUS."""
    if "HIGHESTMODSEQ" in command.items:
        await session.enable_condstore(out)
    mailbox = await session.mailbox(command.mailbox)
    await out.send(await status_line(session, mailbox, command.items))
    return Completion("STATUS completed")


async def status_line(session: Session, mailbox: Mailbox, items: Iterable[str]) -> bytes:
    """`* STATUS name (item value …)`."""
    values = [f"{item} {await _status_value(session, mailbox, item)}" for item in items]
    return b"* STATUS %b (%b)\r\n" % (mailbox_name(mailbox.path), " ".join(values).encode())


async def _status_value(session: Session, mailbox: Mailbox, item: str) -> str:
    known = {
        "MESSAGES": mailbox.total,
        "UNSEEN": mailbox.unread,
        "UIDNEXT": mailbox.uid_next,
        "UIDVALIDITY": mailbox.uid_validity,
        "HIGHESTMODSEQ": mailbox.highest_modseq,
        "MAILBOXID": f"({mailbox.id})",
        "APPENDLIMIT": session.services.max_message_bytes,
    }
    if item in known:
        return str(known[item])
    views = session.services.views
    count = {"RECENT": views.recent_count, "SIZE": views.size_bytes, "DELETED": views.deleted_count}[item]
    return str(await count(session.account, mailbox.id))
