"""LIST with its extensions, LSUB and STATUS (RFC 9051 §6.3.9–11, RFC 5258, RFC 5819, RFC 6154)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from app.mail.types import Mailbox
from app.mailstore.mailboxes import DELIMITER
from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import Completion
from app.servers.imap.commands.mailboxes import SPECIAL_USES
from app.servers.imap.handlers import Handler, Handlers
from app.servers.imap.patterns import Pattern
from app.servers.imap.session import ServerSession
from app.wire.imap import render
from app.wire.imap.names import encode_utf7
from app.wire.imap.requests.listing import ListMailboxes, MailboxStatusOf

COMPARISONS_LIMIT = 1_000
"""Comparisons of names with patterns in the event loop; more run in a thread."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name that can be listed; `mailbox` is None if no mailbox has the name."""

    path: str
    mailbox: Mailbox | None
    is_subscribed: bool

    @property
    def is_selectable(self) -> bool:
        return self.mailbox is not None and self.mailbox.is_selectable

    @property
    def special_use(self) -> str | None:
        return None if self.mailbox is None or self.mailbox.role is None else SPECIAL_USES.get(self.mailbox.role)


async def list_mailboxes(session: ServerSession, command: ListMailboxes, out: ReplyWriter) -> Completion:
    """LIST and LSUB."""
    name = "LSUB" if command.is_lsub else "LIST"
    if command.patterns == ("",):
        await out.send(b'* %b (\\Noselect) "/" ""\r\n' % name.encode())
        return Completion(f"{name} completed")
    patterns = [Pattern(command.reference + pattern) for pattern in command.patterns]
    names = await _names(session, command)
    is_long = len(names) * len(patterns) > COMPARISONS_LIMIT
    listed = (
        await asyncio.to_thread(_Listed, command, patterns, names) if is_long else _Listed(command, patterns, names)
    )
    for listed_name, is_chosen in listed.results():
        await out.send(listed.line(listed_name, name))
        await session.pace.spend(1)
        if command.status and is_chosen and listed_name.mailbox is not None and listed_name.is_selectable:
            await out.send(await status_line(session, listed_name.mailbox, command.status))
    return Completion(f"{name} completed")


async def _names(session: ServerSession, command: ListMailboxes) -> list[Name]:
    """Return all names by path; if subscriptions count, also names without a mailbox, and their parents."""
    mailboxes = await session.services.reader.mailboxes.mailboxes(session.account)
    names = {mailbox.path: Name(mailbox.path, mailbox, mailbox.is_subscribed) for mailbox in mailboxes}
    if command.is_lsub or "SUBSCRIBED" in command.select:
        lone = await session.services.store.mailboxes.names_without_mailbox(session.account)
        above = {path: Name(path, None, False) for path in _above(lone)}
        names = above | {path: Name(path, None, True) for path in lone} | names
    return [names[path] for path in sorted(names)]


class _Listed:
    """The names that a LIST returns, with their attributes."""

    def __init__(self, command: ListMailboxes, patterns: Sequence[Pattern], names: Sequence[Name]) -> None:
        self._command = command
        self._matching = [name for name in names if any(pattern.matches(name.path) for pattern in patterns)]
        self._parents = _above(name.path for name in names if name.mailbox is not None)
        chosen = {name.path for name in names if self._is_chosen(name)}
        self._above_chosen = _above(chosen)
        self._above_unmatched = _above(chosen - {name.path for name in self._matching})

    def _is_chosen(self, name: Name) -> bool:
        """Whether the name meets the selection options."""
        select = self._command.select
        if self._command.is_lsub or "SUBSCRIBED" in select:
            return name.is_subscribed and ("SPECIAL-USE" not in select or name.special_use is not None)
        return name.mailbox is not None and ("SPECIAL-USE" not in select or name.special_use is not None)

    @property
    def _is_recursive(self) -> bool:
        return self._command.is_lsub or "RECURSIVEMATCH" in self._command.select

    def results(self) -> Iterator[tuple[Name, bool]]:
        """Yield the names to return, and whether each was selected itself.

        Other names stand for selected children that do not match a pattern (RFC 5258 §3.5, RFC 3501 §6.3.9).
        """
        for name in self._matching:
            if self._is_chosen(name):
                yield name, True
            elif self._is_recursive and name.path in self._above_unmatched:
                yield name, False

    def line(self, name: Name, command_name: str) -> bytes:
        """Return the response for a name."""
        if self._command.is_lsub:
            return list_line(name.path, [] if name.is_subscribed else ["\\Noselect"], b"", command_name)
        has_child_info = "SUBSCRIBED" in self._command.select and self._is_recursive
        has_chosen = has_child_info and name.path in self._above_chosen
        child_info = b' ("CHILDINFO" ("SUBSCRIBED"))' if has_chosen else b""
        return list_line(name.path, self._attributes(name), child_info, command_name)

    def _attributes(self, name: Name) -> list[str]:
        attributes = []
        if name.mailbox is None:
            attributes.append("\\NonExistent")
        elif not name.is_selectable:
            attributes.append("\\Noselect")
        if name.mailbox is not None:
            attributes.append("\\HasChildren" if name.path in self._parents else "\\HasNoChildren")
        if name.is_subscribed and "SUBSCRIBED" in self._command.select | self._command.returning:
            attributes.append("\\Subscribed")
        return [*attributes, name.special_use] if name.special_use else attributes


def _above(paths: Iterable[str]) -> set[str]:
    """Return all ancestors of these paths."""
    ancestors: set[str] = set()
    for path in paths:
        levels = path.split(DELIMITER)
        ancestors.update(DELIMITER.join(levels[:count]) for count in range(1, len(levels)))
    return ancestors


def list_line(mailbox_path: str, attributes: Iterable[str], extended: bytes = b"", name: str = "LIST") -> bytes:
    """Return `* LIST (attributes) "/" name`, with extended data."""
    return b'* %b (%b) "/" %b%b\r\n' % (
        name.encode(),
        " ".join(attributes).encode(),
        mailbox_name(mailbox_path),
        extended,
    )


def mailbox_name(path: str) -> bytes:
    """Return a path in modified UTF-7, quoted."""
    return render.string(encode_utf7(path))


async def status(session: ServerSession, command: MailboxStatusOf, out: ReplyWriter) -> Completion:
    """STATUS."""
    if "HIGHESTMODSEQ" in command.items:
        await session.enable_condstore(out)
    mailbox = await session.mailbox(command.mailbox)
    await out.send(await status_line(session, mailbox, command.items))
    return Completion("STATUS completed")


async def status_line(session: ServerSession, mailbox: Mailbox, items: Iterable[str]) -> bytes:
    """Return `* STATUS name (item value …)`."""
    values = [f"{item} {await _status_value(session, mailbox, item)}" for item in items]
    return b"* STATUS %b (%b)\r\n" % (mailbox_name(mailbox.path), " ".join(values).encode())


async def _status_value(session: ServerSession, mailbox: Mailbox, item: str) -> str:
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


HANDLERS: Handlers = (
    Handler(ListMailboxes, list_mailboxes, capabilities=("CHILDREN", "SPECIAL-USE", "LIST-EXTENDED", "LIST-STATUS")),
    Handler(MailboxStatusOf, status, capabilities=("STATUS=SIZE",)),
)
