"""SELECT, EXAMINE, CLOSE and UNSELECT."""

from __future__ import annotations

from collections.abc import Sequence

from app.errors import MalformedRequest
from app.mail.types import SEEN, SYSTEM_FLAGS, Mailbox
from app.mailstore.views import FlagCombination
from app.servers.conversation import ReplyWriter
from app.servers.imap.answers import Completion
from app.servers.imap.commands.expunge import modseq_code
from app.servers.imap.commands.fetch import send_messages
from app.servers.imap.handlers import Handler, Handlers, SessionState
from app.servers.imap.news import catch_up, claim_recent, flags_line, keywords_among
from app.servers.imap.session import ServerSession
from app.servers.imap.vanished import send_vanished
from app.servers.imap.view import MailboxView
from app.wire.imap.commands import KnownState
from app.wire.imap.requests.select import CloseMailbox, Select, Unselect
from app.wire.imap.sets import SequenceSet

LONG_FROM_MESSAGES = 2_000
COMBINATIONS_LIMIT = 2_000
"""Different sets of flags that are read; for a mailbox with more, the first FLAGS response may lack keywords."""


async def select(session: ServerSession, command: Select, out: ReplyWriter) -> Completion:
    """SELECT and EXAMINE. The previous mailbox is deselected even if the command fails."""
    if command.resync is not None and not session.has_qresync:
        raise MalformedRequest("QRESYNC requires ENABLE QRESYNC")
    if session.view is not None:
        session.view = None
        await out.send(b"* OK [CLOSED] The mailbox that was selected is closed\r\n")
    session.has_condstore = session.has_condstore or command.condstore
    if session.watch is None:
        await session.follow_log()
    else:
        await catch_up(session)
    mailbox = await session.mailbox(command.mailbox)  # read after the log's position, so that no change is missed
    is_long = mailbox.total > LONG_FROM_MESSAGES
    view = await session.services.shared.open(mailbox, session.seq, is_read_only=command.is_read_only)
    await claim_recent(session, view, view.uids())
    flags = await session.services.views.flags_in(session.account, mailbox.id, COMBINATIONS_LIMIT, is_long=is_long)
    view.keywords = set(keywords_among(combination.flags for combination in flags))
    session.view = view
    await out.send(b"".join(_opening(mailbox, view, flags)))
    if command.resync is not None:
        await _resynchronise(session, command.resync.known, mailbox, out)
    if command.is_read_only:
        return Completion("EXAMINE completed", "READ-ONLY")
    return Completion("SELECT completed", "READ-WRITE")


def _opening(mailbox: Mailbox, view: MailboxView, flags: Sequence[FlagCombination]) -> list[bytes]:
    """Return the responses of SELECT (RFC 9051 §6.3.2, RFC 7162 §3.1.2, RFC 8474 §4.2)."""
    first_unseen = next((row.first_uid for row in flags if SEEN not in row.flags.split(" ")), None)
    number = view.number_of(first_unseen) if first_unseen is not None else 0
    permanent = "" if view.is_read_only else " ".join((*SYSTEM_FLAGS, *sorted(view.keywords), "\\*"))
    uid_next = max(mailbox.uid_next, view.last_uid + 1)
    return [
        flags_line(view.keywords),
        b"* %d EXISTS\r\n* %d RECENT\r\n" % (view.exists, view.recent_count),
        *([b"* OK [UNSEEN %d] First unseen\r\n" % number] if 0 < number <= view.exists else []),
        f"* OK [PERMANENTFLAGS ({permanent})] Flags kept\r\n".encode("ascii", "replace"),
        b"* OK [UIDVALIDITY %d] UIDs valid\r\n" % mailbox.uid_validity,
        b"* OK [UIDNEXT %d] Next UID\r\n" % uid_next,
        b"* OK [HIGHESTMODSEQ %d] Highest\r\n" % mailbox.highest_modseq,
        f"* OK [MAILBOXID ({mailbox.id})] Its id\r\n".encode(),
    ]


async def _resynchronise(session: ServerSession, known: KnownState, mailbox: Mailbox, out: ReplyWriter) -> None:
    """Send the changes in the mailbox since the client's state (RFC 7162 §3.2.5).

    The client's sequence numbers with UIDs, which only shorten the response, are ignored.
    """
    if known.uid_validity != mailbox.uid_validity or known.modseq >= mailbox.highest_modseq:
        return
    uids = (known.known_uids or SequenceSet.parse("1:*")).resolved(mailbox.uid_next - 1)
    await send_vanished(session, mailbox, known.modseq, uids, out)
    changed = await session.named(uids, is_uid=True)
    await send_messages(session, ("UID", "FLAGS", "MODSEQ"), changed, out, changed_since=known.modseq)


async def close(session: ServerSession, _command: CloseMailbox, _out: ReplyWriter) -> Completion:
    """CLOSE: remove `\\Deleted` messages without responses (RFC 9051 §6.4.1)."""
    view = session.selected
    session.view = None
    if view.is_read_only or view.is_lost:
        return Completion("CLOSE completed")
    await session.services.store.expunge(session.account, view.mailbox_id, None)
    return Completion("CLOSE completed", await modseq_code(session, view))


async def unselect(session: ServerSession, _command: Unselect, _out: ReplyWriter) -> Completion:
    session.view = None
    return Completion("UNSELECT completed")


HANDLERS: Handlers = (
    Handler(Select, select, capabilities=("QRESYNC",)),
    Handler(CloseMailbox, close, SessionState.SELECTED),
    Handler(Unselect, unselect, SessionState.SELECTED, capabilities=("UNSELECT",)),
)
