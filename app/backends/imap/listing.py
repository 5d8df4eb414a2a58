"""Lists the mailboxes of an account, and converts between server names and readable paths."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from app.backends.imap.connection import CommandCompletion
from app.backends.imap.fetched import fetched
from app.backends.imap.quarantine import LIST_STATUS
from app.backends.imap.selected import validity_of
from app.backends.imap.session import ClientSession
from app.errors import InvalidRequest, MailboxNotFound, ServerProtocolError, ServerRefused, Unreachable
from app.mail.backend import OriginMailbox
from app.mail.storable import storable
from app.mail.types import Mailbox, Role
from app.telemetry import get_logger
from app.wire.imap import commands
from app.wire.imap.encode import Command
from app.wire.imap.names import rebased
from app.wire.imap.responses import ListedMailbox, MailboxStatus
from app.wire.imap.sets import SequenceSet

log = get_logger(__name__)

ROLES = {
    "\\sent": Role.SENT,
    "\\drafts": Role.DRAFTS,
    "\\trash": Role.TRASH,
    "\\junk": Role.JUNK,
    "\\archive": Role.ARCHIVE,
    "\\all": Role.ALL,
    "\\flagged": Role.FLAGGED,
}
USES = {role: use.replace(use[1], use[1].upper(), 1) for use, role in ROLES.items()}
"""Role → the attribute for CREATE (RFC 6154 §3)."""
ROLES_BY_NAME = {
    "sent": Role.SENT,
    "sent items": Role.SENT,
    "sent messages": Role.SENT,
    "drafts": Role.DRAFTS,
    "trash": Role.TRASH,
    "deleted items": Role.TRASH,
    "deleted messages": Role.TRASH,
    "junk": Role.JUNK,
    "junk email": Role.JUNK,
    "spam": Role.JUNK,
    "archive": Role.ARCHIVE,
}
"""Names that mail programs use, for servers without SPECIAL-USE."""
_UNSELECTABLE = {"\\noselect", "\\nonexistent"}
_LEVEL_SLASH = "\u2215"
"""Replaces "/" within one level of a readable path, if the server's delimiter is another character."""
MAX_PIPELINED = 100
MAX_OPENED = 50
"""Mailboxes per list that are selected because STATUS does not report their counts."""
NAME_BYTES = 2_000
"""The longest mailbox name in UTF-8 that the index stores."""
_OBJECT_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
"""RFC 8474 §7."""


def status_items(session: ClientSession) -> list[str]:
    """The items to request by STATUS."""
    return [*commands.STATUS_ITEMS, *(["HIGHESTMODSEQ"] if session.keeps_modseq else [])]


async def list_mailboxes(session: ClientSession, *, with_ids: bool = False) -> list[OriginMailbox]:
    """Every mailbox with its STATUS: LIST-STATUS in one round trip, else LIST and LSUB, then pipelined STATUS.

    `with_ids` also requests MAILBOXIDs if LIST-STATUS returns them; no mailbox may be selected then. The result always
    contains INBOX, which every account has (RFC 9051 §5.1).
    """
    if session.has("LIST-EXTENDED", "LIST-STATUS") and LIST_STATUS not in session.avoided:
        mailboxes = await _list_at_once(session, with_ids=with_ids and session.has("OBJECTID"))
        if mailboxes is not None:
            return mailboxes
    listed, subscribed = await session.run(
        commands.list_mailboxes(is_utf8=session.is_utf8), commands.list_subscribed(is_utf8=session.is_utf8)
    )
    names = {mailbox.name for mailbox in _listed(session, subscribed)} if subscribed.status == "OK" else None
    mailboxes = _with_roles(
        [
            _origin_mailbox(session, mailbox, is_subscribed=names is None or mailbox.name in names)
            for mailbox in _listed(session, listed.check())
        ]
    )
    return await ask_status(session, _with_inbox(session, mailboxes))


def _with_inbox(session: ClientSession, mailboxes: list[OriginMailbox]) -> list[OriginMailbox]:
    if any(mailbox.origin_name == "INBOX" for mailbox in mailboxes):
        return mailboxes
    inbox = ListedMailbox("INBOX", session.delimiter, frozenset())
    return [_origin_mailbox(session, inbox, is_subscribed=True), *mailboxes]


async def ask_status(session: ClientSession, mailboxes: Sequence[OriginMailbox]) -> list[OriginMailbox]:
    """The same mailboxes with current counts, by pipelined STATUS.

    Courier returns the current time as the UIDVALIDITY of a mailbox that was never opened, so each is opened once.
    Suspect mailboxes are requested one by one, after the others.
    """
    names = [
        mailbox.origin_name
        for mailbox in mailboxes
        if mailbox.is_selectable and mailbox.origin_name not in session.avoided
    ]
    if session.is_courier:
        unopened = [name for name in names if name not in session.opened]
        for start in range(0, len(unopened), MAX_PIPELINED):
            await session.open_each(unopened[start : start + MAX_PIPELINED])
    suspects = session.avoided.suspects
    plain = [name for name in names if name not in suspects]
    batches = [plain[start : start + MAX_PIPELINED] for start in range(0, len(plain), MAX_PIPELINED)]
    statuses: dict[str, MailboxStatus] = {}
    for batch in [*batches, *([name] for name in names if name in suspects)]:
        statuses.update(await _ask_batch(session, batch))
    return [
        with_status(mailbox, statuses[mailbox.origin_name]) if mailbox.origin_name in statuses else mailbox
        for mailbox in mailboxes
    ]


async def _ask_batch(session: ClientSession, names: Sequence[str]) -> dict[str, MailboxStatus]:
    items, statuses = status_items(session), {}
    requests = [commands.status(name, items, is_utf8=session.is_utf8) for name in names]
    with noting_loss(session, names):
        for name, completion in zip(names, await session.run(*requests), strict=True):
            statuses.update(_status_of(session, name, completion, names))
    return statuses


@contextmanager
def noting_loss(session: ClientSession, names: Sequence[str]) -> Iterator[None]:
    """Record in the quarantine whether the connection survives requests for these mailboxes."""
    try:
        yield
    except Unreachable:
        session.avoided.note_loss(names)
        raise
    if session.avoided.suspects:
        for name in names:
            session.avoided.clear(name)


async def with_numbers(session: ClientSession, mailboxes: Sequence[OriginMailbox]) -> list[OriginMailbox]:
    """The same mailboxes; if STATUS reports too little, with the counts of SELECT."""
    left = MAX_OPENED
    completed = []
    for mailbox in mailboxes:
        is_lacking = mailbox.is_selectable and None in (mailbox.uid_next, mailbox.total, mailbox.uid_validity)
        if is_lacking and left and mailbox.origin_name not in session.avoided:
            left -= 1
            completed.append(await _by_select(session, mailbox))
        else:
            completed.append(mailbox)
    return completed


async def _by_select(session: ClientSession, mailbox: OriginMailbox) -> OriginMailbox:
    name = mailbox.origin_name
    try:
        with noting_loss(session, [name]):
            selected, _ = await session.select(name)
            uid_next = selected.uid_next or await _next_uid(session)
    except (MailboxNotFound, ServerRefused, ServerProtocolError):
        return mailbox
    modseq = selected.highest_modseq or None
    return replace(
        mailbox,
        uid_validity=selected.uid_validity,
        uid_next=uid_next,
        highest_modseq=modseq,
        total=selected.exists,
    )


async def _next_uid(session: ClientSession) -> int:
    """UIDNEXT of the selected mailbox, from its highest UID: SELECT may omit UIDNEXT (RFC 3501 §6.3.1)."""
    (completion,) = await session.run(commands.fetch(SequenceSet.parse("*"), ("UID",)))
    return max(await fetched(completion, is_tolerant=True), default=0) + 1


def _status_of(
    session: ClientSession, name: str, completion: CommandCompletion, requested: Collection[str]
) -> dict[str, MailboxStatus]:
    """STATUS by name. A single response for another name belongs to the requested mailbox, spelled differently."""
    statuses = _statuses(session, completion)
    other = [status for reported, status in statuses.items() if reported not in requested]
    if name not in statuses and len(other) == 1 and completion.status == "OK":
        statuses[name] = other[0]
    return statuses


def with_status(mailbox: OriginMailbox, status: MailboxStatus) -> OriginMailbox:
    items = status.items
    validity = items.get("UIDVALIDITY")
    return replace(
        mailbox,
        uid_validity=mailbox.uid_validity if validity is None else validity_of(validity),
        uid_next=items.get("UIDNEXT", mailbox.uid_next),
        highest_modseq=items.get("HIGHESTMODSEQ", mailbox.highest_modseq),
        total=items.get("MESSAGES", mailbox.total),
        unread=items.get("UNSEEN", mailbox.unread),
    )


def path_of(name: str, delimiter: str | None, prefix: str) -> str:
    """The readable path of a mailbox: "Work/Projects" for "INBOX.Work.Projects" if the prefix is "INBOX."."""
    own = name.removeprefix(prefix) or name
    levels = own.split(delimiter) if delimiter else [own]
    if own == name and levels[0].upper() == "INBOX":  # case-insensitive, also as a parent (RFC 9051 §5.1)
        levels[0] = "INBOX"
    is_split = delimiter not in (None, "/")
    return "/".join([level.replace("/", _LEVEL_SLASH) for level in levels] if is_split else levels)


def name_of(path: str, delimiter: str | None, prefix: str) -> str:
    """The server's name for a path, the inverse of `path_of`. Raises InvalidRequest for an impossible name."""
    if path.upper() == "INBOX":
        return "INBOX"
    levels = path.split("/")
    if not all(levels) or (delimiter is None and len(levels) > 1):
        raise InvalidRequest.at("/name", "A mailbox with this name cannot be created here")
    if delimiter is not None and delimiter != "/":
        levels = [level.replace(_LEVEL_SLASH, "/") for level in levels]
        if any(delimiter in level for level in levels):
            raise InvalidRequest.at("/name", f"A mailbox name must not contain {delimiter!r} on this mail server")
    return prefix + (delimiter or "/").join(levels)


def name_below(path: str, known: Iterable[Mailbox], delimiter: str | None, prefix: str) -> str:
    """The server's name for a new path, below the existing name of its nearest parent."""
    above = max(
        (mailbox for mailbox in known if path.startswith(f"{mailbox.path}/")),
        key=lambda mailbox: len(mailbox.path),
        default=None,
    )
    if above is None:
        return name_of(path, delimiter, prefix)
    if above.delimiter is None:
        raise InvalidRequest.at("/name", "A mailbox with this name cannot be created here")
    below = name_of(path[len(above.path) + 1 :], above.delimiter, "")
    return rebased(f"{above.delimiter}{below}", "", above.origin_name)


async def _list_at_once(session: ClientSession, *, with_ids: bool) -> list[OriginMailbox] | None:
    """All mailboxes by LIST-STATUS, or None if the server refuses it."""
    returning = ["SUBSCRIBED", "CHILDREN", *(["SPECIAL-USE"] if session.has("SPECIAL-USE") else [])]
    command = commands.list_mailboxes(returning=returning, status=status_items(session), is_utf8=session.is_utf8)
    with noting_loss(session, [LIST_STATUS]):
        completion, *further = await session.run(command, *([_list_ids(session)] if with_ids else []))
    if completion.status != "OK" and not completion.is_throttling:
        return None
    statuses = _statuses(session, completion.check())
    mailboxes = [
        _origin_mailbox(session, mailbox, is_subscribed="\\subscribed" in mailbox.attributes)
        for mailbox in _listed(session, completion)
    ]
    listed = [
        with_status(mailbox, statuses[mailbox.origin_name]) if mailbox.origin_name in statuses else mailbox
        for mailbox in _with_roles(mailboxes)
    ]
    if "INBOX" not in {mailbox.origin_name for mailbox in listed}:
        listed = [*await ask_status(session, _with_inbox(session, [])), *listed]
    ids = _ids(session, *further)
    return (
        [replace(mailbox, origin_id=ids.get((mailbox.origin_name, mailbox.uid_validity))) for mailbox in listed]
        if ids
        else listed
    )


def _list_ids(session: ClientSession) -> Command:
    """A separate LIST: Cyrus 3.6 returns freed memory as MAILBOXID if STATUS also requests items that open the mailbox.

    Later versions fail an assertion if a selected mailbox does not have to be opened.
    """
    return commands.list_mailboxes(status=["MAILBOXID", "UIDVALIDITY"], is_utf8=session.is_utf8)


def _ids(session: ClientSession, *completions: CommandCompletion) -> dict[tuple[str, int | None], str]:
    """(name, UIDVALIDITY) → MAILBOXID, so that a recreated mailbox gets no old id."""
    statuses = [status for completion in completions for status in _statuses(session, completion).values()]
    ids = {(status.name, status.items.get("UIDVALIDITY")): status.texts.get("MAILBOXID", "") for status in statuses}
    return {key: id_ for key, id_ in ids.items() if _OBJECT_ID.fullmatch(id_)}


def _listed(session: ClientSession, completion: CommandCompletion) -> list[ListedMailbox]:
    mailboxes = [response for response in session.parsed(completion) if isinstance(response, ListedMailbox)]
    return [
        mailbox
        for mailbox in mailboxes
        if _is_storable(mailbox.name) and ("\\nonexistent" not in mailbox.attributes or mailbox.child_info)
    ]


def _is_storable(name: str) -> bool:
    """Whether the index can store a name unchanged and a command can contain it. Other mailboxes are skipped."""
    is_short = len(name.encode(errors="replace")) <= NAME_BYTES
    if is_short and name and storable(name) == name and not any(character in name for character in "\r\n"):
        return True
    log.warning("mailbox_skipped", name_chars=len(name))
    return False


def _statuses(session: ClientSession, completion: CommandCompletion) -> dict[str, MailboxStatus]:
    return {response.name: response for response in session.parsed(completion) if isinstance(response, MailboxStatus)}


def _origin_mailbox(session: ClientSession, listed: ListedMailbox, *, is_subscribed: bool) -> OriginMailbox:
    role = Role.INBOX if listed.name == "INBOX" else None
    return OriginMailbox(
        origin_name=listed.name,
        path=storable(path_of(listed.shown or listed.name, listed.delimiter, session.prefix)),
        delimiter=listed.delimiter,
        role=next((ROLES[attribute] for attribute in sorted(listed.attributes) if attribute in ROLES), role),
        is_selectable=not listed.attributes & _UNSELECTABLE,
        is_subscribed=is_subscribed or listed.name == "INBOX",
    )


def _with_roles(mailboxes: list[OriginMailbox]) -> list[OriginMailbox]:
    """Add roles by name to mailboxes without a role; each role is assigned once."""
    taken = {mailbox.role for mailbox in mailboxes}
    completed = []
    for mailbox in mailboxes:
        role = ROLES_BY_NAME.get(mailbox.path.lower())
        if mailbox.role is None and role is not None and role not in taken:
            taken.add(role)
            completed.append(replace(mailbox, role=role))
        else:
            completed.append(mailbox)
    return completed
