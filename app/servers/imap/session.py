"""The state of one client's session: login, selected mailbox, enabled extensions, position in the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from app.cluster.bus import Bus
from app.mail.types import AccountId, Mailbox
from app.mailstore.blobs import BlobWriter
from app.mailstore.reader import MailReader
from app.mailstore.store import MailStore
from app.mailstore.texts import TextIndex
from app.mailstore.views import MailboxViews
from app.servers.conversation import Client, ReplyWriter
from app.servers.imap.answers import CommandRefused, Completion
from app.servers.imap.shared import SharedMailboxes
from app.servers.imap.view import MailboxView
from app.servers.imap.watch import MailboxWatch
from app.servers.pace import Yielding
from app.services.access.logins import Logins
from app.wire.imap.request import MessageSet
from app.wire.imap.sets import SequenceSet

LONG_FROM_RANGES = 1_000
"""Sets with more ranges than this are resolved in a thread."""

LARGE_SORTS = 4
"""Concurrent SORTs and THREADs of many messages."""


@dataclass(frozen=True, slots=True)
class ImapServices:
    """The services that the IMAP server uses."""

    store: MailStore
    reader: MailReader
    views: MailboxViews
    bus: Bus
    logins: Logins
    texts: TextIndex
    max_message_bytes: int
    shared: SharedMailboxes = field(init=False)
    large_sorts: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shared", SharedMailboxes(self.views))
        object.__setattr__(self, "large_sorts", asyncio.Semaphore(LARGE_SORTS))


Capability = str | Callable[["ServerSession"], str]
"""A word of CAPABILITY, or a function of the session that returns it; "" is omitted."""

LineReader = Callable[["ServerSession", bytes, ReplyWriter], Awaitable[Completion | None]]
"""Takes the client's next line in a dialogue (SASL, IDLE); returns None while the dialogue continues."""


@dataclass(slots=True)
class ServerSession:
    """State that commands read and change, one command at a time.

    `offered` are the capabilities that the server's commands add. `tag` is the tag of the running command. `seq` is the
    last event of the account's log that was read; it moves only while something follows the log. `read_line` takes the
    next line instead of the command parser. `spools` has streamed literals by their number.
    """

    services: ImapServices
    peer: Client
    offered: tuple[Capability, ...] = ()
    account_id: AccountId | None = None
    view: MailboxView | None = None
    watch: MailboxWatch | None = None
    tag: str = "*"
    seq: int = 0
    is_behind: bool = False
    """Whether the last attempt to send changes failed: the client may have UIDs that are not in `view`."""
    has_condstore: bool = False
    has_qresync: bool = False
    read_line: LineReader | None = None
    is_idling: bool = False
    is_over: bool = False
    failed_logins: int = 0
    spools: dict[int, BlobWriter] = field(default_factory=dict)
    pace: Yielding = field(default_factory=Yielding)

    @property
    def account(self) -> AccountId:
        """Return the account of a session that is logged in."""
        assert self.account_id is not None
        return self.account_id

    @property
    def selected(self) -> MailboxView:
        """Return the view of a session that has selected a mailbox."""
        assert self.view is not None
        return self.view

    @property
    def wants_news(self) -> bool:
        """Whether changes are sent without a command."""
        return self.is_idling or (self.watch is not None and self.watch.is_pushed)

    async def mailbox(self, path: str, *, try_create: bool = False, must_be_selectable: bool = True) -> Mailbox:
        """Return the mailbox with this name.

        Raises CommandRefused with NONEXISTENT, or TRYCREATE for the target of an APPEND or COPY. Unless it
        `must_be_selectable`, it may be a name that only has children.
        """
        mailbox = await self.services.reader.mailboxes.mailbox_named(self.account, canonical(path))
        if mailbox is not None and (mailbox.is_selectable or not must_be_selectable):
            return mailbox
        raise CommandRefused("TRYCREATE" if try_create else "NONEXISTENT", "Mailbox not found")

    async def enable_condstore(self, out: ReplyWriter) -> None:
        """Send MODSEQs from now on; the first time also the selected mailbox's HIGHESTMODSEQ (RFC 7162 §3.1)."""
        if self.has_condstore:
            return
        self.has_condstore = True
        if self.view is not None and not self.view.is_lost:
            mailbox = await self.services.reader.mailboxes.mailbox(self.account, self.view.mailbox_id)
            await out.send(b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % mailbox.highest_modseq)

    async def named(self, messages: MessageSet, *, is_uid: bool, is_search: bool = False) -> Sequence[int]:
        """Return the UIDs that a set names; see `MailboxView.resolve`."""
        resolve = partial(self.selected.resolve, messages, is_uid=is_uid, is_search=is_search)
        is_long = isinstance(messages, SequenceSet) and len(messages.ranges) > LONG_FROM_RANGES
        return await asyncio.to_thread(resolve) if is_long else resolve()

    async def follow_log(self) -> None:
        """Start reading the log at its end, unless the session already follows it."""
        if self.view is None and self.watch is None:
            self.seq = await self.services.views.position(self.account)

    def discard_spools(self) -> None:
        for writer in self.spools.values():
            writer.discard()
        self.spools.clear()


def canonical(path: str) -> str:
    """Return a mailbox's path as the store spells it: INBOX in upper case, also as a parent (RFC 9051 §5.1)."""
    return "INBOX" + path[5:] if path[:6].upper() in ("INBOX", "INBOX/") else path
